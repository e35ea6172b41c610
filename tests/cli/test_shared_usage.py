"""``ratectl usage`` of limits across the cluster: one line for all processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from cli_support import Cli, report_agent
from live_support import detailed

from fleet.members import write_roster
from ratectl.records import PoolReport

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Golden

SHARED = """\
apiVersion: ratectl/v1
scope: /fleet
limits:
  all: {rate: 200/s, burst: 200, across: cluster}
  own: {rate: 5/s, burst: 100}
"""
COUNTS: dict[str, Any] = {"near_keys": 0, "top_refused": [], "busiest": [], "peak": None, "keys": 0}


@pytest.fixture
def fleet(cli: Cli, tree: Path, store_url: str, still: None) -> str:
    """Two agents that share a limit, one that counts it alone, and a limit of each agent."""
    (tree / "fleet.yaml").write_text(SHARED)
    assert cli("apply", "policies", "--yes").code == 0
    return store_url


def shares(name: str = "all", **changes: Any) -> Any:
    return detailed("/fleet", name, **{**COUNTS, "pool": f"pool of {name}", **changes})


def pool(owner: str = "0.edge-2.0b", **changes: Any) -> PoolReport:
    values: dict[str, Any] = {
        "pool": "pool of all", "owner": owner, "capacity": 200, "free": 131, "held": 12,
        "members": 2, "keys": 1, "near_keys": 0, "peak": 0.62,
        "trend": [None] * 12 + [0.4, 0.7, 0.62],
    }  # fmt: skip
    return PoolReport(**{**values, **changes})


def report_fleet(url: str, *pools: PoolReport) -> None:
    own = detailed("/fleet", "own", peak=0.3, near_keys=0, top_refused=[], busiest=[])
    report_agent(url, id="edge-1", limits=[shares(), own])
    report_agent(url, id="edge-2", limits=[shares(), own], pools=list(pools))


def cells(text: str, limit: str) -> list[str]:
    return next(line.split() for line in text.splitlines() if line.startswith(f"/fleet  {limit}"))


def test_the_use_is_the_owners(cli: Cli, golden: Golden, fleet: str) -> None:
    report_fleet(fleet, pool())
    shown = cli("usage", "/fleet").out
    golden("usage-shared", shown)
    assert cells(shown, "all")[5:] == ["62%", "0", "32.0", "18000", "1200", "-", "1"]
    assert cells(cli("usage", "/fleet", "--since", "5m").out, "all")[5] == "70%"
    golden("usage-shared-terminal", cli("usage", "/fleet", "--color", "never", tty=True).out)


def test_without_an_owner_nothing_is_0(cli: Cli, golden: Golden, fleet: str) -> None:
    report_fleet(fleet)
    shown = cli("usage", "/fleet").out
    golden("usage-shared-unknown", shown)
    assert cells(shown, "all")[5:] == ["?", "?", "32.0", "18000", "1200", "-", "?"]
    near = cli("usage", "/fleet", "--fail-near", "--near", "90%")
    assert "2 of unknown use" in near.out


def test_documents(cli: Cli, fleet: str) -> None:
    report_fleet(fleet, pool())
    found = {row["limit"]: row for row in cli("usage", "/fleet", "-o", "json").document["limits"]}
    assert (found["all"]["used"], found["all"]["shared_agents"], found["all"]["keys"]) == (
        0.62,
        2,
        1,
    )
    assert found["all"]["pool"] == {
        "used": 0.285, "capacity": 200, "free": 131, "held": 12, "members": 2,
        "owners": [
            {"agent": "edge-2", "owner": "0.edge-2.0b", "reported": "2026-11-23T11:59:58.000Z"}
        ],
    }  # fmt: skip
    assert (found["own"]["shared_agents"], found["own"]["pool"]) == (0, None)
    report_fleet(fleet)
    found = {row["limit"]: row for row in cli("usage", "/fleet", "-o", "json").document["limits"]}
    unknown = [found["all"][name] for name in ("used", "keys", "near_keys", "pool")]
    assert unknown == [None] * 4


def test_agents_that_count_alone_are_counted(cli: Cli, fleet: str) -> None:
    report_fleet(fleet, pool())
    report_agent(fleet, id="edge-3", limits=[shares(pool="", peak=0.9)])
    shown = cli("usage", "/fleet").out
    assert cells(shown, "all")[5] == "90%"
    assert "one limit for 2 agents, and 1 more count alone: " in shown


def test_the_store_names_the_owner_that_counts(cli: Cli, fleet: str) -> None:
    write_roster(fleet, {"edge-1.0a": 500_000, "edge-2.0b": 500_000}, owner="edge-2.0b")
    report_fleet(fleet, pool())
    report_agent(fleet, id="edge-3", limits=[shares()], pools=[pool("0.edge-3.0c", free=0)])
    shown = cli("usage", "/fleet").out
    assert "131 of 200 requests free, 12 held by 2 members (owner edge-2 2 s ago)" in shown


def test_many_shared_limits_have_few_lines(cli: Cli, fleet: str) -> None:
    report_agent(fleet, limits=[shares(f"l{number}") for number in range(8)])
    shown = cli("usage").out
    assert shown.count("no owner has reported lately") == 5
    assert "3 more limits are one for all processes" in shown


def test_the_page(cli: Cli, fleet: str, tmp_path: Path) -> None:
    report_fleet(fleet, pool())
    page = cli("usage", "/fleet", "--html", "-").out
    assert (
        "One limit for 2 agents: 28% used, 131 of 200 requests free, 12 held by 2 members" in page
    )
    assert "1 key in use" in page
    report_fleet(fleet)
    page = cli("usage", "/fleet", "--html", "-").out
    assert "no owner has reported lately" in page
    assert page.count("in use.") == 1  # of the other limit
