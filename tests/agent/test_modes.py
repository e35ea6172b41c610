"""Modes of files and folders that agents and commands write, under any umask."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING

import pytest

import ratectl
from etcd_server import wait_for
from other_user import NOBODY, as_user, open_folder, require_root
from ratectl.kill_switch.switches import Switch, change_switch_file, save_switches, switch_file
from ratectl.stores import open_store
from support import publish_policies, simple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Make = Callable[..., ratectl.Agent]

ACME = {"tenant": "acme"}
OPEN = Switch.now("/", "open", "INC-1", "ada")


@contextlib.contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def turn_on(state_dir: Path) -> None:
    """Turn the switch on by file, as ``ratectl panic on --local`` does."""
    change_switch_file(switch_file(state_dir), lambda known: known.turned_on(OPEN))


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_folders_made_by_an_agent_are_private(tmp_path: Path, make_agent: Make, mask: int) -> None:
    url = f"sqlite:///{tmp_path}/rates.db"
    state = tmp_path / "new" / "newer" / "state"
    with umask(mask):
        with open_store(url) as store:
            publish_policies(store, simple())
        agent = make_agent(url, state_dir=state)
        wait_for(lambda: list(state.rglob("last-good")), "it is kept")
        agent.close()
    folders = [path for path in (tmp_path / "new").rglob("*") if path.is_dir()]
    assert len(folders) >= 5
    assert {mode(path) for path in (*folders, tmp_path / "new")} == {0o700}
    assert mode(tmp_path / "rates.db") == 0o600


@pytest.mark.parametrize("given", [0o755, 0o750, 0o700, 0o777])
def test_existing_folder_keeps_its_mode(tmp_path: Path, make_agent: Make, given: int) -> None:
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(given)
    make_agent(f"sqlite:///{tmp_path}/rates.db", state_dir=state, ready_timeout=0)
    turn_on(state)
    assert mode(state) == given
    assert mode(state / "agents") == 0o700


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_a_folder_made_for_the_switch_can_be_entered_and_not_listed(
    tmp_path: Path, mask: int
) -> None:
    with umask(mask):
        turn_on(tmp_path / "new" / "state")
    assert mode(tmp_path / "new") == mode(tmp_path / "new" / "state") == 0o711
    assert mode(tmp_path / "new" / "state" / "panic.json") == 0o644


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_switch_file_written_by_root_is_obeyed_by_another_users_agents(
    make_agent: Make, mask: int
) -> None:
    """Also where root makes the folder, with whatever umask: a folder closed to them would silently
    keep them from it."""
    require_root()
    with open_folder() as folder:
        url = f"sqlite:///{folder}/mine/rates.db"
        (folder / "mine").mkdir()
        os.chown(folder / "mine", NOBODY, NOBODY)
        make_agent(f"sqlite:///{folder}/other.db", ready_timeout=0).close()  # imports

        def obeys(state_dir: Path) -> tuple[list[str], str]:
            with open_store(url) as store:
                publish_policies(store, simple("0/s"))
            with ratectl.Agent(url, state_dir=state_dir) as agent:
                return [each.source for each in agent.status.panic], agent.check("/", ACME).reason

        with umask(mask):
            turn_on(folder / "state")
        assert as_user(NOBODY, lambda: obeys(folder / "state")) == (["file"], "ok")
        listing = as_user(NOBODY, lambda: _listed(folder / "state"))
        assert listing == "PermissionError"


def test_root_can_write_the_switch_file_in_another_users_state_folder(
    make_agent: Make,
) -> None:
    require_root()
    with open_folder() as folder:
        (folder / "mine").mkdir()
        os.chown(folder / "mine", NOBODY, NOBODY)
        url = f"sqlite:///{folder}/mine/rates.db"
        make_agent(f"sqlite:///{folder}/other.db", ready_timeout=0).close()

        def starts() -> list[str]:
            with ratectl.Agent(url, state_dir=folder / "mine" / "state", ready_timeout=0) as agent:
                return [each.source for each in agent.status.panic]

        assert as_user(NOBODY, starts) == []
        assert mode(folder / "mine" / "state") == 0o700
        with umask(0o077):
            turn_on(folder / "mine" / "state")
        assert as_user(NOBODY, starts) == ["file"]
        assert mode(folder / "mine" / "state") == 0o700, "it existed before"


def test_unreadable_switch_file_is_reported(make_agent: Make) -> None:
    """The folder was made private after the file was written."""
    require_root()
    with open_folder() as folder:
        turn_on(folder / "state")
        (folder / "state").chmod(0o700)
        make_agent(f"sqlite:///{folder}/other.db", ready_timeout=0).close()

        def says() -> str:
            url = f"sqlite:///{folder}/other.db"
            with ratectl.Agent(url, state_dir=folder / "state", ready_timeout=0) as agent:
                return agent.status.error or ""

        assert f"{folder}/state/panic.json cannot be used" in as_user(NOBODY, says)


def _listed(folder: Path) -> str:
    try:
        return str(list(folder.iterdir()))
    except OSError as error:
        return type(error).__name__


def test_saved_switches_are_private(tmp_path: Path, make_agent: Make) -> None:
    url = f"sqlite:///{tmp_path}/rates.db"
    agent = make_agent(url, state_dir=tmp_path / "state", ready_timeout=0)
    (store_dir,) = (tmp_path / "state" / "agents").iterdir()
    save_switches(store_dir / "panic.json", agent._following.board.known("store").turned_on(OPEN))
    assert mode(store_dir) == 0o700
