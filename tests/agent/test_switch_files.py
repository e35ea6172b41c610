"""Files of the kill switch: the operator's file, and the agent's copy of the store's record."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from etcd_server import wait_for
from ratectl.agent.state import AgentState
from ratectl.agent.switches import FileSwitches, StoreSwitches, Switchboard
from ratectl.engine import engine_type
from ratectl.errors import BundleError
from ratectl.kill_switch.switches import PANIC, Switch, change_switches, load_switches, switch_file

if TYPE_CHECKING:
    from collections.abc import Callable

    import ratectl
    from ratectl.stores.base import Store

    Make = Callable[..., ratectl.Agent]


def open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_switch_path_that_is_not_a_regular_file_is_refused_and_closed(tmp_path: Path, kind: str):
    """Docker creates a folder in place of a missing file that it has to mount."""
    path = switch_file(tmp_path)
    path.mkdir() if kind == "folder" else os.mkfifo(path)
    before = open_files()
    for _ in range(3):
        with pytest.raises(BundleError, match="it is no regular file"):
            load_switches(path)
    assert open_files() == before


def test_a_folder_in_place_of_the_file_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    switch_file(tmp_path).mkdir()
    state = AgentState()
    file = FileSwitches(tmp_path, Switchboard(engine_type()(time.monotonic_ns), state), state)
    held = []
    for _ in range(3):
        file.look()
        held.append(
            os.open(tmp_path, os.O_RDONLY)
        )  # other descriptors are opened and closed meanwhile
    for each in held:
        os.close(each)
    assert len(caplog.records) == 1
    assert "no regular file" in state.now.problems["panic-file"]


def test_recreated_state_folder_is_private(
    store: Store, store_url: str, tmp_path: Path, make_agent: Make
):
    """The state directory is removed while the agent runs."""
    agent = make_agent(store_url)
    wait_for(lambda: agent.status.connected, "the store is heard")
    shutil.rmtree(tmp_path / "state")
    turn_on(store)
    (found,) = wait_for(lambda: [*(tmp_path / "state").rglob("panic.json")], "it is on disk")
    folders = [each for each in found.parents if each.is_relative_to(tmp_path / "state")]
    assert [each.stat().st_mode & 0o777 for each in folders] == [0o700] * len(folders)


def turn_on(store: Store) -> None:
    switch = Switch(
        scope="/", mode="open", reason="INC-1", author="me", time="2026-11-23T11:58:00Z"
    )
    change_switches(store, lambda on: on.turned_on(switch))


def test_unsaved_switches_are_a_problem_until_they_are_saved(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """Otherwise they would be off after a restart without the store."""
    state = AgentState()
    folder = tmp_path / "state"
    folder.write_text("no folder")
    switches = StoreSwitches(
        Switchboard(engine_type()(time.monotonic_ns), state), state, folder, lambda *_: None
    )
    turn_on(store)
    for _ in range(2):
        switches.see(store, store.get(PANIC))
    assert "cannot save the kill switch" in state.now.problems["panic-disk"]
    assert len([each for each in caplog.records if "cannot save" in each.message]) == 1
    folder.unlink()
    switches.see(store, store.get(PANIC))
    assert "panic-disk" not in state.now.problems
    assert load_switches(switch_file(folder)).on
    assert state.now.panic


def test_unwritable_folder_is_logged_once(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """The temporary file has another name each time."""

    def full(_: int) -> None:
        raise OSError(28, "No space left on device", f"{tmp_path}/{time.monotonic_ns()}")

    state = AgentState()
    switches = StoreSwitches(
        Switchboard(engine_type()(time.monotonic_ns), state), state, tmp_path, lambda *_: None
    )
    turn_on(store)
    monkeypatch.setattr(os, "fsync", full)
    for _ in range(3):
        switches.see(store, store.get(PANIC))
    assert len([each for each in caplog.records if "cannot save" in each.message]) == 1
