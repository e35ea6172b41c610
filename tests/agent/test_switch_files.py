"""Files of the kill switch: what an agent finds in place of one, and what it keeps itself."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from etcd_server import wait_for
from ratectl.agent.state import AgentState
from ratectl.agent.switches import FileSwitches, Switchboard
from ratectl.engine import engine_type
from ratectl.errors import BundleError
from ratectl.panic import Switch, change_switches, load_switches, switch_file

if TYPE_CHECKING:
    from collections.abc import Callable

    import ratectl
    from ratectl.stores.base import Store

    Make = Callable[..., ratectl.Agent]


def open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_what_is_no_regular_file_is_refused_and_closed(tmp_path: Path, kind: str):
    """Docker makes a folder where a file that is to be mounted is not there."""
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
    file = FileSwitches(tmp_path, Switchboard(engine_type()(), state), state)
    held = []
    for _ in range(3):
        file.look()
        held.append(os.open(tmp_path, os.O_RDONLY))  # other descriptors come and go meanwhile
    for each in held:
        os.close(each)
    assert len(caplog.records) == 1
    assert "no regular file" in state.now.problems["panic-file"]


def test_the_folder_of_an_agent_is_closed_when_it_is_made_anew(
    store: Store, store_url: str, tmp_path: Path, make_agent: Make
):
    """Somebody has removed the state directory while the agent runs."""
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
