"""A report that was not written by an agent is named, and does not prevent publishing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from etcd_server import wait_for
from ratectl import Agent
from ratectl.fleet.usage import read_usage
from ratectl.records import Beat, Record
from ratectl.stores import open_store

if TYPE_CHECKING:
    from pathlib import Path

    from cli_support import Cli


def report_forged(url: str, state: Path, name: str, value: Any) -> None:
    """Store an agent's report under another name with one value changed."""
    with (
        Agent(url, id="a", state_dir=state, report_interval=0.05) as agent,
        open_store(url) as store,
    ):
        agent.check("/", {"client": "acme"})
        (record,) = wait_for(
            lambda: [each for each in read_usage(store) if each.limits], "it reports"
        )
        forged = json.loads(Record.encode(record))
        place = forged["limits"][0] if name in forged["limits"][0] else forged
        place[name] = value
        store.put("usage/ghost", json.dumps(forged).encode())


@pytest.mark.parametrize(
    ("name", "value"),
    [("allowed", "x"), ("peak", "x"), ("top_refused", [["acme"]]), ("beside", {"limits": 5})],
)
def test_a_forged_usage_report_is_left_out_and_named(
    cli: Cli, tree: Path, tmp_path: Path, store_url: str, name: str, value: Any
) -> None:
    assert cli("apply", "policies", "--yes").code == 0
    report_forged(store_url, tmp_path / "agent", name, value)
    (tree / "all.yaml").write_text((tree / "all.yaml").read_text().replace("50/s", "60/s"))
    for words in (
        ("plan", "policies"),
        ("usage",),
        ("apply", "policies", "--yes"),
        ("rollback", "--to", "1", "--yes"),
    ):
        run = cli(*words)
        assert run.code == 0, run.err
        assert "warning: usage/ghost is left out: not a readable UsageRecord" in run.err
    (found,) = (
        each
        for each in cli("doctor", "-o", "json").document["findings"]
        if each["check"] == "reports"
    )
    assert found["verdict"] == "warning"
    assert found["detail"].startswith("usage/ghost is left out")


def test_unreadable_agents_and_beats_are_named(cli: Cli, published: str, store_url: str) -> None:
    with open_store(store_url) as store:
        store.put("agents/ghost", b"{}")
        store.put("beats/ghost", b"[]")
    run = cli("agents")
    assert run.code == 0
    assert "warning: agents/ghost is left out: not a readable AgentRecord" in run.err
    assert f"warning: beats/ghost is left out: not a readable {Beat.__name__}" in run.err
