"""Buckets that outlive the process: those that belong to it alone are left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from conformance.test_engine_keyed_pools import keyed, part
from conformance.test_engine_pools import NAME, grant, pooled
from ratectl.engine.algorithms.concurrency import Concurrency
from ratectl.engine.algorithms.token_bucket import TokenBucket
from ratectl.engine.api import PlanSet, ScopePlan
from ratectl.engine.limit_plan import LimitPlan

if TYPE_CHECKING:
    from conformance.engine_rig import Rig
    from ratectl.engine.algorithms.protocol import Algorithm

SECOND = 10**9


def publish(rig: Rig, **algorithms: Algorithm[object]) -> None:
    """Publish limits per tenant, and a budget of all if it is named ``fleet``."""
    plans = [
        LimitPlan(
            scope="/",
            name=name,
            algorithm=maths,
            per=() if name == "fleet" else ("tenant",),
            shadow=False,
            budget=name == "fleet",
        )
        for name, maths in algorithms.items()
    ]
    rig.generation += 1
    rig.engine.swap(PlanSet(rig.generation, {"/": ScopePlan("/", tuple(plans), True)}))


def kept(rig: Rig) -> dict[str, int]:
    """Return the number of buckets that are kept, by their limit."""
    found: dict[str, int] = {}
    for of in rig.engine.kept():
        found[of.group[1]] = found.get(of.group[1], 0) + len(of.buckets)
    return found


def test_wallets_and_slots_are_left_out(rig: Rig) -> None:
    wallet, wallets = rig.engine.new_wallet(), rig.engine.new_key_wallets()
    publish(
        rig,
        own=TokenBucket(1, SECOND, 5),
        keyed=keyed(wallets, part(5)),
        slots=Concurrency(5, SECOND),
        fleet=pooled(wallet),
    )
    wallets.until = 1 << 60
    assert rig.engine.spent(NAME) == 0
    grant(wallet, 10)
    assert rig.ask(tenant="acme").allowed
    assert kept(rig) == {"own": 1}


@pytest.mark.parametrize("count", [1, 31, 32, 33, 1_000])
def test_every_bucket_is_read_once(rig: Rig, count: int) -> None:
    publish(rig, own=TokenBucket(1, SECOND, 5))
    for number in range(count):
        rig.ask(tenant=str(number))
    keys = [key for of in rig.engine.kept() for key, _ in of.buckets]
    assert len(keys) == len(set(keys)) == count


def test_buckets_that_lag_behind_a_change_follow_it_first(rig: Rig) -> None:
    publish(rig, own=TokenBucket(1, SECOND, 5))
    for number in range(40):
        rig.ask(4, tenant=str(number))
    publish(rig, own=Concurrency(9, 100 * SECOND))
    assert kept(rig) == {}
    publish(rig, own=TokenBucket(1, SECOND, 9))
    assert kept(rig) == {"own": 40}


def test_rests_are_taken_between_pieces(rig: Rig) -> None:
    publish(rig, own=TokenBucket(1, SECOND, 5))
    for number in range(1_000):
        rig.ask(tenant=str(number))
    rests: list[int] = []
    list(rig.engine.kept(pause=lambda: rests.append(rig.generation)))
    assert len(rests) > 1_000 // 32
