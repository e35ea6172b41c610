"""Usage that every engine counts: exact counts, the lowest remainder, the most refused keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.model import Limit
from engine.plans import rate, window

if TYPE_CHECKING:
    from conformance.engine_rig import Rig

T = ("tenant",)


def test_usage_counts_exactly(rig: Rig) -> None:
    rig.publish(Limit("/", "l", rate(1, burst=3), T), Limit("/", "m", rate(1, burst=99)))
    for cost, tenant in ((1, "a"), (1, "a"), (2, "a"), (4, "a"), (3, "b"), (1, "b")):
        rig.ask(cost, tenant=tenant)
    limit, other = rig.usage("l"), rig.usage("m")
    assert (limit.allowed, limit.refused, limit.never, limit.keys) == (3, 2, 1, 2)
    assert (other.allowed, other.refused, other.never, other.keys) == (3, 0, 0, 1)
    assert limit.top_refused == (("a", 2), ("b", 1))
    assert (limit.most, limit.shadow, rig.engine.usage().buckets) == (3, False, 3)


def test_lowest_is_the_minimum_since_the_last_read(rig: Rig) -> None:
    rig.publish(Limit("/", "l", rate(1, burst=9), T))
    rig.ask(4, tenant="a")
    rig.ask(2, tenant="b")
    assert (rig.usage().lowest, rig.usage().lowest) == (5, None)
    rig.ask(1, tenant="b")
    assert rig.usage().lowest == 6


def test_counts_survive_changes_until_the_limit_is_removed(rig: Rig) -> None:
    rig.publish(Limit("/", "l", rate(1, burst=1), T))
    rig.ask(tenant="a")
    rig.ask(tenant="a")
    for limit in (
        Limit("/", "l", rate(2), T),
        Limit("/", "l", window(3)),
        Limit("/", "l", rate(9)),
    ):
        rig.publish(limit)
        assert (rig.usage().allowed, rig.usage().refused, rig.usage().most) == (
            1,
            1,
            limit.rule.most,
        )
    rig.publish()
    assert rig.engine.usage().limits == ()
    rig.publish(Limit("/", "l", rate(1), T))
    rig.ask()
    assert rig.usage().allowed == 1


def test_most_refused_keys_are_found_among_thousands(rig: Rig) -> None:
    rig.publish(Limit("/", "l", rate(0), T))
    for round_ in range(300):
        rig.ask(tenant="loud")
        if round_ % 2:
            rig.ask(tenant="noisy")
        rig.ask(tenant=f"once{round_}")
    top = rig.usage().top_refused
    assert [name for name, _ in top[:2]] == ["loud", "noisy"]
    assert 300 <= top[0][1] <= 320
    assert len(top) == 20


def test_count_of_a_top_refused_key_is_never_too_low(rig: Rig) -> None:
    """Counts of top keys may be too high (they take over others' counts), but never too low."""
    rig.publish(Limit("/", "l", rate(0), T))
    for number in range(640):
        rig.ask(tenant=str(number % 64))
    assert all(10 <= count <= 640 for _, count in rig.usage().top_refused)


def test_refused_keys_are_shown_readably(rig: Rig) -> None:
    rig.publish(Limit("/", "l", rate(0), ("tenant", "route")), Limit("/", "m", rate(0)))
    rig.ask(tenant="a")
    rig.ask(tenant="x" * 999, route="")
    shown = [name for name, _ in rig.usage("l").top_refused]
    assert shown[0] == "a, (absent)"
    assert shown[1].startswith("(long: ")
    assert shown[1].endswith("), ")
    assert rig.usage("m").top_refused == (("(all)", 2),)
