"""Explanations of limits across the cluster: who shares them, the bound, and the fallback."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from etcd_server import wait_for
from ratectl import Agent
from ratectl.stores import open_store
from support import policies, publish_policies

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ratectl import Explanation

    MakeAgent = Callable[..., Agent]

pytestmark = pytest.mark.usefixtures("short_folder")

BOUND = (
    ", and what is left is what this one may admit now: in any window of length w, all processes "
    "together admit at most 50 + 3/s · w; if its owner is lost, almost nothing is admitted for 1 "
    "to 2 s"
)


@pytest.fixture
def source(tmp_path: Path) -> str:
    source = f"sqlite:///{tmp_path}/rates.db"
    fleet = {"rate": "3/s", "burst": 50, "across": "cluster"}
    tree = policies(
        **{"/": {"budgets": {"fleet": fleet}, "limits": {"own": {"rate": "5/s", "burst": 5}}}}
    )
    with open_store(source) as store:
        publish_policies(store, tree)
    return source


def note_of(told: Explanation) -> str:
    (note,) = told.notes
    return note


def test_agents_that_share_a_limit(source: str, make_agent: MakeAgent) -> None:
    agents = [make_agent(source, id=name) for name in ("one", "two")]
    lent = (
        "budget fleet @ / is one limit for 2 processes (this one has lent its share to the owners)"
    )

    def all_say_so() -> bool:
        notes = [note_of(agent.explain("/")) for agent in agents]
        return all(note.startswith(lent + BOUND) for note in notes)

    wait_for(all_say_so, "two members")
    wait_for(lambda: agents[0].check("/", {}).allowed, "a token")
    decision = agents[0].check("/", {})
    assert note_of(decision.explain()).startswith(lent + BOUND)
    assert f"  note: {lent}" in str(agents[0].explain("/"))


def test_a_process_that_cannot_join(
    source: str, make_agent: MakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ratectl.cluster.node.Node.round", lambda self, wait: 1 / 0)
    agent = make_agent(source)
    alone = (
        "budget fleet @ / is one limit for all processes (this one cannot join, and counts alone)"
    )
    wait_for(lambda: note_of(agent.explain("/")).startswith(alone + BOUND), "a note")


def test_an_agent_of_a_directory(tmp_path: Path) -> None:
    limits = "{a: {rate: 5/s, across: cluster}, b: {rate: 5/s}}"
    text = f"apiVersion: ratectl/v1\nscope: /\nlimits: {limits}\n"
    (tmp_path / "a.yaml").write_text(text, "utf-8")
    with Agent(str(tmp_path)) as agent:
        assert note_of(agent.explain("/")) == (
            "a @ / is to be one limit for all processes, and counts in this process alone"
        )


def test_other_limits_have_no_note() -> None:
    text = "apiVersion: ratectl/v1\nscope: /\nlimits: {b: {rate: 5/s}}"
    with Agent.from_policies(text) as agent:
        assert agent.explain("/").notes == ()
