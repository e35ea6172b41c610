"""Shards: a large limit is in both, and a crash of one owner leaves half of it."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from machine import TIMING, Machine, algorithm, bucket, name_by_tenant, name_of
from test_cluster_node import ask_all, fault, used

from ratectl.cluster.pools import PooledLimits
from ratectl.cluster.protocol.capacity import Size
from ratectl.cluster.protocol.messages import Open
from ratectl.cluster.protocol.timing import MILLISECOND as MS
from ratectl.cluster.protocol.timing import SECOND
from ratectl.cluster.sharding import Parts, parts_of, shard_of_owner
from ratectl.engine.algorithms.sliding_window import SlidingWindow
from ratectl.engine.pure import PureEngine
from soak import scaled

if TYPE_CHECKING:
    from collections.abc import Mapping

    from machine import Limit, Member

    from ratectl.cluster.keyed import KeyedLimit
    from ratectl.cluster.pools import PooledLimit

LARGE = 1_000
LARGE_ONE = {"one": (1_000, 1_000)}
SMALL_ONE = {"one": (1_000, LARGE - 1)}


def limits_of(**sizes: Limit) -> Mapping[str, PooledLimit | KeyedLimit]:
    pools = PooledLimits(PureEngine(lambda: 0), TIMING)
    with pools.collected() as generation:
        for name, size in sizes.items():
            generation.bucket(name_of(name), algorithm(size))
    return pools.in_force()


def added(sizes: tuple[Size | None, ...]) -> tuple[int, ...]:
    there = [size for size in sizes if size is not None]
    return tuple(sum(size[field] for size in there) for field in (0, 1))


# Parts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("burst", [1, LARGE - 1, LARGE, LARGE + 1, 10**15])
@pytest.mark.parametrize("rate", [1, 7, 10**9])
def test_the_parts_of_a_limit_add_up_to_it(rate: int, burst: int) -> None:
    ((pool, limit),) = limits_of(one=(rate, burst)).items()
    parts = parts_of(pool, limit, 2)
    assert added(parts) == limit.size[:2]
    assert sum(part is not None for part in parts) == (2 if burst >= LARGE else 1)
    assert parts_of(pool, limit, 1) == (limit.size,)


def test_small_limits_are_in_one_shard_or_the_other() -> None:
    limits = limits_of(**{f"limit-{number}": (10, 10) for number in range(50)})
    first = sum(parts_of(pool, limit, 2)[0] is not None for pool, limit in limits.items())
    assert 10 < first < 40


def test_a_limit_that_counts_per_key_is_whole_in_both_shards() -> None:
    pools = PooledLimits(PureEngine(lambda: 0), TIMING)
    with pools.collected() as generation:
        generation.bucket(name_by_tenant("each"), bucket(10, 10_000))
    ((pool, limit),) = pools.in_force().items()
    assert parts_of(pool, limit, 2) == (limit.size, limit.size)


@pytest.mark.parametrize(("sizes", "others"), [(LARGE_ONE, SMALL_ONE), (SMALL_ONE, LARGE_ONE)])
@pytest.mark.parametrize("is_gone_between", [False, True])
def test_a_limit_that_moves_has_no_more_anywhere_until_it_is_settled(
    sizes: dict[str, tuple[int, int]], others: dict[str, tuple[int, int]], is_gone_between: bool
) -> None:
    parts = Parts(2)
    before, after = limits_of(**sizes), limits_of(**others)
    ((pool, limit),) = after.items()
    parts.follow(before)
    assert not parts.are_settled
    assert not parts.settle()
    assert parts.are_settled
    old = parts.now[pool]
    if is_gone_between:
        parts.follow({})
        assert not parts.now
    parts.follow(after)
    for now, counted in zip(parts.now[pool], old, strict=True):
        assert now is None or counted is not None
        assert now is None or now.rate <= counted.rate  # type: ignore[union-attr]
    assert added(parts.now[pool]) < limit.size[:2]
    smaller = parts.now[pool]
    parts.follow(after)  # another generation, before it is settled
    assert parts.now[pool] == smaller
    assert parts.settle()
    assert added(parts.now[pool]) == limit.size[:2]
    assert not parts.settle()
    assert parts.are_settled


def test_a_large_bucket_that_becomes_a_small_window_has_nothing_until_it_is_settled() -> None:
    """No part of a bucket is a part of a window."""
    parts = Parts(2)
    parts.follow(limits_of(**LARGE_ONE))
    parts.settle()
    window = limits_of(one=SlidingWindow(100, 10 * SECOND))
    parts.follow(window)
    assert parts.of(0) == parts.of(1) == {}
    assert parts.settle()
    assert [size.window > 0 for shard in (0, 1) for size in parts.of(shard).values()] == [True]


@pytest.mark.parametrize(
    ("owner", "shard"), [("0.a.1", 0), ("1.a", 1), ("2.a", None), ("a", None), ("", None)]
)
def test_an_owner_is_of_the_shard_in_its_name(owner: str, shard: int | None) -> None:
    assert shard_of_owner(owner) == shard


# Members ------------------------------------------------------------------------------------------


def owner_names(machine: Machine) -> set[str]:
    return {
        member.links.name
        for member in machine.members.values()
        for shard in member.node.shards
        if shard.owner and shard.owner.sessions
    }


def test_two_processes_own_the_shards_and_a_single_one_owns_both() -> None:
    machine = Machine(**LARGE_ONE)
    machine.start(1)
    assert used(machine, SECOND) > 0.95
    assert len(machine.owners) == 2
    machine.start(3)
    used(machine, SECOND)
    assert len(owner_names(machine)) == 2
    assert used(machine, SECOND) > 0.95


@pytest.mark.parametrize("load", [0.3, 3])
def test_a_crash_of_an_owner_leaves_half_of_a_large_limit(load: float) -> None:
    machine = Machine(**LARGE_ONE)
    machine.start(5)
    machine.run(SECOND)
    random_ = random.Random(1)
    admitted = asked = 0

    def each(step: int) -> None:
        nonlocal admitted, asked
        for member in machine.members.values():
            for _ in range(8):
                if random_.random() < load / 8 / len(machine.members):
                    asked += 1
                    admitted += member.ask()

    machine.run(2 * SECOND, each)
    gone = machine.members.pop(machine.owner.links.name)
    del gone
    admitted = asked = 0
    machine.run(SECOND + SECOND // 2, each)
    rate = min(load, 0.8) * 1_000  # the share of the process that is gone is unused for a while
    assert admitted >= (0.9 if load < 0.5 else 0.5) * rate * 1.5
    machine.run(SECOND // 2, each)
    admitted = 0
    machine.run(SECOND, each)
    assert admitted >= 0.95 * rate


@pytest.mark.parametrize("is_frozen", [False, True])
def test_half_of_all_keys_are_admitted_while_an_owner_is_gone(is_frozen: bool) -> None:
    machine = Machine()
    machine.by_tenant = {"each": (20, 20)}
    members = machine.start(3)
    for member in members:
        member.publish({})
    machine.moved = 20
    tenants = [f"t{number}" for number in range(20)]
    admitted: dict[str, int] = {}

    def each(step: int) -> None:
        for member in machine.members.values():
            for tenant in tenants:
                admitted[tenant] = admitted.get(tenant, 0) + member.ask_for(tenant)

    machine.run(3 * SECOND, each)
    owner = next(member for member in members if any(shard.owner for shard in member.node.shards))
    if is_frozen:
        owner.frozen = True
        for tenant in tenants:
            owner.ask_for(tenant)
    else:
        del machine.members[owner.links.name]
    machine.run(SECOND // 2, each)
    admitted.clear()
    machine.run(SECOND // 2, each)
    served = [tenant for tenant in tenants if admitted[tenant] >= 5]  # a third of 20/s is unused
    assert 3 <= len(served) <= 17
    assert max(admitted[tenant] for tenant in set(tenants) - set(served)) <= 2
    machine.run(2 * SECOND, each)
    admitted.clear()
    machine.run(SECOND, each)
    assert min(admitted.values()) >= 11


@pytest.mark.parametrize("order", [[LARGE_ONE, SMALL_ONE], [SMALL_ONE, LARGE_ONE]])
def test_a_limit_that_becomes_large_or_small_stays_one_limit(
    order: list[dict[str, tuple[int, int]]],
) -> None:
    machine = Machine(**order[0])
    members = machine.start(3)
    used(machine, SECOND)
    machine.central["one"] = machine.central["one"].__class__(Size(1_000 * SECOND, 1_000))
    machine.central["one"].admit(1_000 - LARGE + 1, 0)
    for sizes in (*order[::-1], *order[::-1]):
        for member in members:
            member.publish(sizes)
            machine.run(20 * MS, lambda _: ask_all(machine))
        assert used(machine, SECOND) > 0.85
        for member in members:
            assert member.node._parts.are_settled


def publish_another(machine: Machine, random_: random.Random) -> None:
    member = random_.choice(list(machine.members.values()))
    sizes: dict[str, Limit] = random_.choice([{}, dict(LARGE_ONE), dict(SMALL_ONE)])
    member.publish(sizes)


@pytest.mark.parametrize("seed", range(scaled(2, 60)))
def test_never_too_much_whatever_fails(seed: int) -> None:
    """Members freeze, lose messages or the store, leave and come; limits become large or small."""
    machine = Machine(lasts=3 * SECOND, **LARGE_ONE)
    random_ = random.Random(seed)
    machine.start(3)

    def each(step: int) -> None:
        for member in list(machine.members.values()):
            if not member.frozen:
                _ask_some(member, random_)
        if step % 50 == 0 and machine.members:
            fault(machine, random_)
        if step % 70 == 0 and machine.members:
            publish_another(machine, random_)
        if not machine.members:
            machine.start()

    machine.run(15 * SECOND, each)


def _ask_some(member: Member, random_: random.Random) -> None:
    for _ in range(random_.choice((0, 0, 0, 1, 3, 40))):
        member.ask(random_.choice((1, 1, 2, 7)))
    if random_.random() < 0.1:
        member.refund()


@pytest.mark.parametrize("cost", [400, 501, 800, 990])
def test_a_large_request_gets_tokens_of_both_shards(cost: int) -> None:
    """Each shard gathers half of them."""
    machine = Machine(**LARGE_ONE)
    members = machine.start(3)
    machine.run(2 * SECOND)
    admitted = 0

    def each(step: int) -> None:
        nonlocal admitted
        if step % 20 == 0:
            admitted += members[0].ask(cost)

    machine.run(5 * SECOND, each)
    assert admitted >= 3


def test_a_limit_waits_for_an_owner_that_does_not_answer_before_it_moves() -> None:
    """That owner may still count all of the small limit."""
    machine = Machine(**SMALL_ONE)
    machine.start(3)
    used(machine, 2 * SECOND)
    owner = machine.owner
    member = next(
        each
        for each in machine.members.values()
        if not any(shard.owner for shard in each.node.shards)
    )
    machine.cut = {owner.links.name}
    member.publish(LARGE_ONE)
    sizes = []
    for _ in range(20):
        machine.run(100 * MS)
        sizes.append([len(member.node._parts.of(shard)) for shard in (0, 1)])
    assert sizes[:5] == [sizes[0]] * 5
    assert sum(sizes[0]) == 1
    assert sizes[-1] == [1, 1]


def test_an_owner_does_not_answer_who_asks_for_another_one() -> None:
    """Another process had its address before."""
    machine = Machine(**LARGE_ONE)
    (member,) = machine.start(1)
    machine.run(SECOND)
    owning = member.node.shards[0].owning
    assert owning.receive(Open("x", 1, "0.other"), machine.now) == ()
    assert owning.receive(Open("x", 1, "0.m0"), machine.now)
