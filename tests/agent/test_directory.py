"""Following of a directory of policies: which changes are noticed."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from other_user import NOBODY, as_user, open_folder
from ratectl.agent.directory import DirectorySync
from ratectl.agent.enforcement import Enforcement
from ratectl.agent.state import AgentState
from ratectl.agent.wall_clock import WallClock
from ratectl.engine import engine_type
from ratectl.errors import PolicyError

if TYPE_CHECKING:
    from pathlib import Path

POLICY = "apiVersion: ratectl/v1\nscope: /\nlimits: {l: {rate: 5/s, per: tenant}}\n"


def generations_by_rights(policy: Path, closed: Path) -> list[int]:
    """Return the generations in force while ``closed`` is readable, closed, and readable again."""
    state, wall = AgentState(), WallClock()
    enforcement = Enforcement(engine_type()(time.monotonic_ns), wall, state=state)
    directory = DirectorySync(policy.parent.parent, enforcement, state, wall, lambda: None)
    found = []
    for content, mode in ((POLICY, 0o755), (POLICY.replace("5", "9"), 0o000), (None, 0o755)):
        if content is not None:
            policy.write_text(content)
        closed.chmod(mode)
        try:
            directory.load()
        except PolicyError:
            assert mode == 0
        found.append(state.now.generation)
    return found


@pytest.mark.parametrize("name", ["shop/root.yaml", "shop"])
def test_file_that_becomes_readable_is_loaded(name: str):
    """Its size, modification time and inode are those of the unreadable file."""
    with open_folder() as folder:
        (folder / "shop").mkdir()
        policy = folder / "shop" / "root.yaml"
        policy.write_text(POLICY)
        if os.geteuid() == 0:
            for each in (folder, folder / "shop", policy):
                os.chown(each, NOBODY, NOBODY)
            found = as_user(NOBODY, lambda: generations_by_rights(policy, folder / name))
        else:
            found = generations_by_rights(policy, folder / name)
    assert found == [1, 1, 2]
