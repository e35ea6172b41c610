"""Long lineages: many edits within one refill, so that buckets inherit from heirs of heirs.

Numbers of reads and of kept groups come from the pure engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from ratectl.engine.buckets.variants import Family

from engine.engines import each_engine
from ratectl.compiler.plans import compile_tree
from ratectl.engine.buckets.bucket_set import Group
from ratectl.engine.pure import PureEngine
from ratectl.policy.language.model import Policy, PolicyTree

if TYPE_CHECKING:
    from engine.engines import MakeEngine
    from ratectl.engine.api import Engine

EDITS = 60
GOLD = {"tier": "gold", "tenant": "a"}


def flipped(generation: int) -> PolicyTree:
    """Return two overrides that swap their requests with each generation."""
    tiers = ("gold", "silver") if generation % 2 else ("silver", "gold")
    policy = {
        "scope": "/",
        "limits": {"l": {"rate": "40/week", "burst": 40, "per": "tenant"}},
        "overrides": [
            {"name": f"o{at}", "match": {"tier": tier}, "limits": {"l": {"burst": 50 + at}}}
            for at, tier in enumerate(tiers)
        ],
    }
    return PolicyTree({"/": Policy.model_validate(policy)})


def edit(engine: Engine, edits: int, *, charged: bool = False) -> int:
    """Publish that many times, a millisecond apart; return the time."""
    now = 0
    for generation in range(1, edits + 1):
        now += 10**6
        engine.swap(compile_tree(flipped(generation), generation), now)
        if charged:
            engine.check("/", GOLD, 1, now)
    return now


def line(kin: Group | Family | None) -> int:
    """Return the number of groups behind this one, by the longest path."""
    if kin is None:
        return 0
    members = kin.groups.values() if isinstance(kin, Family) else ()
    return 1 + max(map(line, {kin.seed, *(group.seed for group in members)}))


@each_engine
@pytest.mark.parametrize("edits", [12, EDITS])
def test_charged_tokens_stay_charged_through_a_long_lineage(make: MakeEngine, edits: int) -> None:
    """For a request that each generation charges, with 2^60 paths back to its first bucket."""
    engine = make(lambda: 0)
    now = edit(engine, edits, charged=True)
    assert engine.check("/", GOLD, 0, now).remaining == max(0, 50 - edits)
    assert engine.usage().overflowed == 0


def test_each_group_of_a_lineage_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = PureEngine(lambda: 0)
    now = edit(engine, 12)
    asked = []
    first_touch = Group._first_touch

    def counted(self: Group, *args: Any) -> Any:
        asked.append(self)
        return first_touch(self, *args)

    monkeypatch.setattr(Group, "_first_touch", counted)
    decision = engine.check("/", GOLD, 1, now)
    assert len(asked) == len(set(asked)) > 12
    origins = Group.origins
    asked.clear()

    def traced(self: Group, *args: Any) -> Any:
        asked.append(self)
        return origins(self, *args)

    monkeypatch.setattr(Group, "origins", traced)
    engine.settle(decision, 2, now)
    assert engine.check("/", GOLD, 0, now).remaining == 48
    assert len(asked) < 100


def test_lineage_is_forgotten_even_if_every_generation_has_requests() -> None:
    engine = PureEngine(lambda: 0)
    edit(engine, EDITS, charged=True)
    (kin,) = engine._succession.kins()
    assert line(kin) == 17 + 1
