"""Which limits each process counts for itself, and what tells people about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.problems import wait_until_well
from ratectl import Agent
from ratectl.agent.in_force import counted_here
from ratectl.stores import open_store
from support import policies, publish_policies

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

POLICY = """\
apiVersion: ratectl/v1
scope: /shop
limits:
  own: {rate: 5/s, burst: 5}
  fleet: {rate: 100/s, burst: 50, ACROSS}
"""


def told(agent: Agent) -> str | None:
    return counted_here(agent._following.enforcement.scopes)


# Web adapters -------------------------------------------------------------------------------------


def test_only_limits_that_count_in_each_process_are_named(
    tmp_path: Path, make_agent: Callable[..., Agent]
) -> None:
    """Adapters said at their start that all limits do."""
    source = f"sqlite:///{tmp_path}/rates.db"
    fleet = {"rate": "100/s", "burst": 50, "across": "cluster"}
    tree = policies(**{"/": {"budgets": {"fleet": fleet}}, "/a": {"limits": {"own": fleet}}})
    with open_store(source) as store:
        publish_policies(store, tree)
    agent = make_agent(source)
    assert told(agent) is None
    local = {"rate": "5/s", "burst": 5}
    tree = policies(
        **{"/": {"budgets": {"fleet": fleet, "all": local}}, "/a": {"limits": {"b": local}}}
    )
    with open_store(source) as store:
        publish_policies(store, tree)
    assert agent.wait_for_generation(2, timeout=10)
    assert told(agent) == (
        "these limits count in each process, so N processes admit N times as much: "
        "budget all at /, b at /a"
    )


def test_a_few_limits_are_named() -> None:
    limits = "".join(f"  l{number}: {{rate: 5/s}}\n" for number in range(7))
    text = f"apiVersion: ratectl/v1\nscope: /\nlimits:\n{limits}"
    with Agent.from_policies(text) as agent:
        assert str(told(agent)).endswith("l0 at /, l1 at /, l2 at /, l3 at /, l4 at / and others")


def test_before_any_generation_no_limit_is_named() -> None:
    assert "limits without `across: cluster` count in each process" in str(counted_here({}))


# Directories --------------------------------------------------------------------------------------


def test_an_agent_of_a_directory_says_that_it_counts_alone(tmp_path: Path) -> None:
    """Agents of a directory counted limits across the cluster alone, and nothing showed it."""
    file = tmp_path / "shop.yaml"
    file.write_text(POLICY.replace("ACROSS", "across: cluster"), "utf-8")
    with Agent(str(tmp_path)) as agent:
        assert agent.status.problems["cluster"] == (
            "limits across the cluster count in this process alone: publish the policies to a "
            "store (ratectl apply), and follow that"
        )
        file.write_text(POLICY.replace(", ACROSS", ""), "utf-8")
        wait_until_well(agent)
