"""Files and lines in explanations: of a directory, and of a store."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import ratectl
from agent.explain_support import ACME, TEXT, by_name
from etcd_server import wait_for
from ratectl import Agent, FakeClock
from ratectl.agent.origins import Origins
from ratectl.policy.resolution.resolver import Resolver
from ratectl.publishing._publish import publish
from ratectl.stores import open_store
from support import ME

if TYPE_CHECKING:
    from collections.abc import Callable

    from ratectl.policy.language.model import PolicyTree
    from ratectl.policy.resolution.effective_limit import Limit

    Make = Callable[..., Agent]

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.usefixtures("both_engines")


def line_of(agent: Agent, **attributes: str) -> str | None:
    """Place of the rate of ``spike``, without its folder."""
    origin = by_name(agent.explain("/payments", {**ACME, **attributes}))["spike"].origin
    return None if origin is None else Path(origin).name


def field_of(limit: Limit) -> str:
    return "max" if limit.algorithm == "concurrency" else "rate"


def place_of(tree: PolicyTree, part: str, limit: Limit) -> str:
    """Place by the resolver, as ``ratectl explain`` shows it."""
    field = field_of(limit)
    clip = limit.clips.get(field)
    setting = clip.cap if clip else limit.settings[field]
    path = f"caps.{limit.name}.{clip.field}" if clip else f"{part}.{limit.name}.{field}"
    via = setting.via
    known = tree.sources[via.source if via else setting.scope]
    span = known.span(f"{via.path if via else ''}{path}")
    return f"{span.file}:{span.line}:{span.column}"


@pytest.mark.parametrize("now", ["2036-11-29T12:00Z", "2026-01-01T00:00Z"])
def test_places_are_those_of_the_resolver(now: str) -> None:
    tree = ratectl.load_valid([ROOT / "policies"]).tree
    clock = FakeClock(now)
    at = round(clock.now.timestamp() * 1e9)
    resolver = Resolver(tree, at)
    compared = 0
    with Agent.from_policies(tree, clock=clock) as agent:
        choices = product(tree.policies, ("gold", "free", None), ("books", None), ("4111", None))
        for scope, tier, merchant, card in choices:
            values = {"client": "acme", "tier": tier, "merchant": merchant, "card": card}
            given = {name: value for name, value in values.items() if value is not None}
            resolved = resolver.enforced(scope, given)
            assert resolved is not None
            expected = {
                (scope, name, "limit"): place_of(tree, "limits", limit)
                for name, limit in resolved.limits.items()
                if limit.mode != "off" and not limit.unlimited
            } | {
                (owner, budget.name, "budget"): place_of(tree, "budgets", budget)
                for owner, budget in resolved.budgets
            }
            told = agent.explain(scope, given)
            assert {(of.scope, of.name, of.kind): of.origin for of in told.limits} == expected
            compared += len(expected)
    assert compared > 300


def test_origins_of_a_directory_follow_its_files(payments: Path, make_agent: Make) -> None:
    agent = make_agent(str(payments))
    assert by_name(agent.explain("/payments", ACME))["spike"].origin == "team.yaml:5:17"
    assert line_of(make_agent(str(payments / "team.yaml"))) == "team.yaml:5:17"
    (payments / "team.yaml").write_text("# a comment\n" + TEXT.replace("1/min", "3/min"))
    assert agent.wait_for_generation(2, 10)
    wait_for(
        lambda: line_of(agent) == "team.yaml:6:17",
        "the line of the new file",
    )


def test_agent_of_a_store_reads_places_when_first_asked(
    payments: Path, tmp_path: Path, make_agent: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path}/rates.db"
    read: list[str] = []
    from ratectl.agent import origins

    original = origins.read_blob
    monkeypatch.setattr(
        origins, "read_blob", lambda store, sha256: read.append(sha256) or original(store, sha256)
    )
    with open_store(url) as store:
        assert publish(store, ratectl.load_valid([payments]).tree, ME)
        agent = make_agent(url)
        agent.check("/payments", ACME)
        state = agent._following.state
        for _ in range(2):  # after a report, places are read if somebody wants them
            before = state.reported
            wait_for(lambda before=before: state.reported != before, "a report")
        assert read == []
        spike = by_name(agent.explain("/payments", ACME))["spike"]
        assert (spike.origin, spike.declared) == (None, "limits.spike.rate of /payments")
        assert "limits.spike.rate of /payments" in str(agent.explain("/payments", ACME))
        wait_for(
            lambda: line_of(agent) == "team.yaml:5:17",
            "the place from the store",
        )
        assert line_of(agent, tier="gold") == "team.yaml:14:28"
        (payments / "team.yaml").write_text("\n" + TEXT.replace("1/min", "3/min"))
        assert publish(store, ratectl.load_valid([payments]).tree, ME)
        assert agent.wait_for_generation(2, 10)
        wait_for(
            lambda: line_of(agent) == "team.yaml:6:17",
            "the place in the next generation",
        )
    assert len(read) == 2


def test_damaged_origins_are_left_out(payments: Path) -> None:
    tree = ratectl.load_valid([payments]).tree
    places = Origins()
    places.begin(type(tree)(tree.policies), 1)
    for damaged in (
        b"", b"{", b"\xff", b'{"/payments":{"at":{', b'"/payments":{"at":{"limits.spike.rate":1}}',
        b'"/payments":{"at":{"limits.spike.rate":["a",1,1]},"file":"x"}', b'"/payments":{"at":[]}',
        b'"/payments":{"at":{"limits.spike.rate":[1,1,1]}}',
        b'"/payments":{"at":{"a":' + b"[" * 9_999,
    ):  # fmt: skip
        places._current.learn(damaged)
        assert places.place("/payments", "limits.spike.rate") is None
