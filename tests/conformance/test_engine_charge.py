"""Charges of requests that are over: nobody was asked before, and buckets go below empty."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conformance.test_engine_mirror import RecordingMirror
from engine.books import Limit
from engine.plans import rate
from engine.rules import SECOND, Slots, Window
from ratectl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from conformance.engine_rig import Rig

WHO = {"tenant": "acme"}
TOKENS = Limit("/", "tokens", rate(10, 1, 100), unit="tokens", per=("tenant",))
LIMITS = [
    TOKENS,
    Limit("/", "window", Window(50, 60 * SECOND), unit="tokens"),
    Limit("/", "each", rate(5, 1, 20), per=("tenant",)),
    Limit("/", "slots", Slots(3, 60 * SECOND), per=("tenant",)),
]


def look(rig: Rig, **who: str) -> tuple[Any, ...]:
    decision = rig.engine.check("/", who or WHO, 0, rig.now)
    return decision.allowed, decision.limit, decision.remaining, decision.retry_after_ns


def test_a_bucket_goes_below_empty_and_later_looks_wait(rig: Rig) -> None:
    rig.publish(TOKENS)
    rig.engine.charge("/", WHO, {"tokens": 60}, rig.now)
    assert look(rig) == (True, "tokens", 40, 0)
    for debt in (20, 80):
        rig.engine.charge("/", WHO, {"tokens": 60}, rig.now)
        assert look(rig) == (False, "tokens", 0, debt * SECOND // 10)
    assert look(rig, tenant="other") == (True, "tokens", 100, 0)


def test_only_the_units_of_the_cost_are_charged(rig: Rig) -> None:
    rig.publish(*LIMITS)
    rig.engine.charge("/", WHO, {"tokens": 7}, rig.now)
    rig.engine.charge("/", WHO, 3, rig.now)
    lowest = {of.limit: of.lowest for of in rig.engine.usage(fill=True).limits}
    assert lowest["tokens"] == 93
    assert lowest["window"] == 43
    assert lowest["each"] == 17
    assert rig.engine.check("/", WHO, 0, rig.now).allowed, "no slot is held"


def test_a_scope_without_a_policy_is_charged_nothing(rig: Rig) -> None:
    rig.publish(Limit("/a", "each", rate(5, 1, 20)))
    rig.engine.charge("/b", WHO, 3, rig.now)
    assert rig.engine.check("/a", WHO, 0, rig.now).remaining == 20


@pytest.mark.parametrize("cost", [-1, 1.5, "3", None, True, {"tokens": -1}, {1: 1}])
def test_a_wrong_cost_is_refused(rig: Rig, cost: Any) -> None:
    rig.publish(TOKENS)
    with pytest.raises(UsageError, match="cost"):
        rig.engine.charge("/", WHO, cost, rig.now)
    assert look(rig) == (True, "tokens", 100, 0)


def test_a_mirror_sees_it_once(rig: Rig) -> None:
    class Mirror(RecordingMirror):
        charges: list[tuple[str, dict[str, str], Any]] = []  # noqa: RUF012

        def charged(self, scope: str, attributes: Mapping[str, str], cost: Any, now: int) -> None:
            assert now == rig.now
            self.charges.append((scope, dict(attributes), cost))

    rig.publish(TOKENS)
    mirror = Mirror()
    rig.engine.mirror(mirror)
    rig.engine.charge("/", WHO, {"tokens": 60}, rig.now)
    assert mirror.charges == [("/", WHO, {"tokens": 60})]
    assert not mirror.seen
    assert not mirror.settled_ones


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["tokens", "requests"]), st.integers(0, 90), st.integers(0, 20 * SECOND)
    ),
    max_size=12,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(steps=STEPS)
def test_a_charge_is_what_a_settlement_of_an_admitted_request_charges(
    rig: Rig, steps: list[tuple[str, int, int]]
) -> None:
    """Another tenant's request, admitted when it costs nothing, settles the same costs."""
    rig.publish(TOKENS, LIMITS[2])
    rig.now += 10_000 * SECOND  # everything is full
    twin = {"tenant": "twin"}
    for unit, cost, later in steps:
        rig.now += later
        record = rig.engine.check("/", twin, {"requests": 0}, rig.now)
        rig.engine.charge("/", WHO, {unit: cost}, rig.now)
        if record:
            record.settle({unit: cost})
            assert look(rig) == look(rig, **twin)
        else:
            rig.engine.charge("/", twin, {unit: cost}, rig.now)
