"""Many publications within one refill, each of which moves requests to other buckets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from engine.engines import each_engine
from ratectl.compiler.plans import compile_tree
from ratectl.engine.buckets import past
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


@each_engine
@pytest.mark.parametrize("edits", [12, EDITS])
def test_charged_tokens_stay_charged_through_a_long_path(make: MakeEngine, edits: int) -> None:
    engine = make(lambda: 0)
    now = edit(engine, edits, charged=True)
    assert engine.check("/", GOLD, 0, now).remaining == max(0, 51 - edits)
    assert engine.usage().overflowed == 0


def test_each_bucket_on_a_path_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = PureEngine(lambda: 0)
    now = edit(engine, EDITS, charged=True)
    read: list[int] = []
    state_at = Group.state_at

    def counted(self: Group, key: Any, change: int) -> Any:
        read.append(change)
        return state_at(self, key, change)

    monkeypatch.setattr(Group, "state_at", counted)
    engine.swap(compile_tree(flipped(EDITS + 1), EDITS + 1), now)
    for _ in range(3):
        engine.check("/", GOLD, 0, now)
    assert len(read) == len(set(read)) == EDITS


@each_engine
def test_changes_are_forgotten_when_all_is_back(make: MakeEngine) -> None:
    engine = make(lambda: 0)
    now = edit(engine, EDITS, charged=True)
    assert len(changes(engine)) == EDITS - 1
    week = 7 * 86_400 * 10**9
    engine.swap(compile_tree(flipped(EDITS), EDITS + 1), now + 4 * week)
    assert changes(engine) == ()
    assert engine.check("/", GOLD, 0, now + 4 * week).remaining == 51


@each_engine
def test_too_many_changes_empty_the_buckets_once(
    make: MakeEngine, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(past, "_MOST_CHANGES", 40)
    engine = make(lambda: 0)
    now = edit(engine, 41, charged=True)
    assert engine.check("/", {"tenant": "b"}, 10, now)
    assert not caplog.records
    engine.swap(compile_tree(flipped(42), 42), now)
    assert changes(engine) == ()
    left = [engine.check("/", {"tenant": tenant}, 0, now).remaining for tenant in "abc"]
    assert [*left, engine.check("/", GOLD, 0, now).remaining] == [0, 0, 0, 0]
    assert "limit l: more of its changes" in caplog.text
    hours = 3_600 * 10**9
    assert engine.check("/", {"tenant": "c"}, 0, now + 5 * hours).remaining == 1
    assert engine.check("/", {"tenant": "c"}, 40, now + 4_000 * hours)


def changes(engine: Any) -> tuple[Any, ...]:
    """Return the changes that an engine remembers."""
    found: tuple[Any, ...] = engine._groups.past.changes
    return found
