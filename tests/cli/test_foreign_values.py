"""A value of another type in the SQLite file is reported, and can be replaced."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from etcd_server import wait_for
from ratectl import Agent

if TYPE_CHECKING:
    from pathlib import Path

    from cli_support import Cli

COMMANDS = [
    ("panic",),
    ("agents",),
    ("cluster",),
    ("doctor",),
    ("history",),
    ("usage",),
    ("plan", "policies"),
    ("panic", "on", "--scope", "/x", "--reason", "r"),
    ("panic", "off"),
    ("apply", "policies", "--yes"),
]


def forge(path: Path, key: str, value: Any) -> None:
    """Write to the file as another program would."""
    where = "id = (SELECT id FROM current WHERE key = ?)"
    with closing(sqlite3.connect(path)) as db, db:
        assert db.execute(f"UPDATE log SET value = ? WHERE {where}", (value, key.encode())).rowcount


@pytest.mark.parametrize("key", ["head", "head/panic", "environment"])
@pytest.mark.parametrize("value", [5, 3.5, "text"])
def test_no_command_ends_with_an_internal_error(
    cli: Cli, published: str, tmp_path: Path, key: str, value: Any
) -> None:
    assert cli("panic", "on", "--scope", "/x", "--reason", "r").code == 0
    for words in COMMANDS:
        forge(tmp_path / "store.db", key, value)
        run = cli(*words)
        assert run.code != 70, (words, run.err)


def test_an_agent_continues_if_switches_are_not_bytes(
    cli: Cli, published: str, tree: Path, tmp_path: Path
) -> None:
    assert cli("panic", "on", "--scope", "/x", "--reason", "r").code == 0
    forge(tmp_path / "store.db", "head/panic", 5)
    with Agent(published, id="a", state_dir=tmp_path / "agent") as agent:
        assert agent.wait_for_generation(1, 10)
        (tree / "all.yaml").write_text((tree / "all.yaml").read_text().replace("50/s", "60/s"))
        assert cli("apply", "policies", "--yes").code == 0
        assert agent.wait_for_generation(2, 10)
        wait_for(lambda: agent.status.error, "the switches are told to be unreadable")
        assert "TypeError" not in str(agent.status.error)
