"""Problems of agents are shown by ``ratectl agents`` and ``ratectl doctor``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ratectl
from etcd_server import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest
    from cli_support import Cli

import pytest


@pytest.fixture
def waiting(store_url: str, tmp_path: Path) -> Iterator[ratectl.Agent]:
    """Agent of a store without any publication."""
    with ratectl.Agent(
        store_url,
        id="edge-1",
        state_dir=tmp_path / "edge",
        ready_timeout=0.2,
        report_interval=0.1,
    ) as agent:
        yield agent


def test_an_agent_that_waits_for_the_first_publication_is_shown_with_the_reason(
    cli: Cli, store_url: str, waiting: ratectl.Agent, tree: Path
) -> None:
    def shown() -> str:
        return cli("agents").out

    wait_for(lambda: f"nothing is published in {store_url} yet" in shown(), "`agents` shows it")
    assert "waiting" in shown()
    assert "on_error answers every request" in shown()
    run = cli("doctor")
    assert run.code == 0, "it is no failure"
    assert f"warning  agents       edge-1: nothing is published in {store_url}" in run.out
    assert cli("apply", "policies", "--yes").code == 0
    wait_for(lambda: "nothing is published" not in shown(), "it is over")


def test_a_store_with_damaged_pages_is_reported_although_its_head_can_be_read(
    cli: Cli, published: str
) -> None:
    import sqlite3
    from pathlib import Path

    path = Path(published.removeprefix("sqlite:///"))
    db = sqlite3.connect(path)
    (page,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'log_key'").fetchone()
    (size,) = db.execute("PRAGMA page_size").fetchone()
    db.close()
    data = bytearray(path.read_bytes())
    data[(page - 1) * size : page * size] = b"\xa5" * size
    path.write_bytes(data)
    assert cli("history").code == 0
    run = cli("doctor")
    assert run.code == 1
    assert f"failed   store        {path} is damaged" in run.out
