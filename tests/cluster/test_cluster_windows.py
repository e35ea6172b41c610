"""Sliding windows: a token that was spent is free a window later, and never before."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from machine import TIMING as REAL_TIMING
from machine import Machine, name_of

from cluster.small_cluster import ONE, TIMING
from cluster.test_cluster_owner import ID, Peer, drawn, lending_peer, new_owner, pool_of
from ratectl.cluster.own_share import OwnShare
from ratectl.cluster.pools import PooledLimits
from ratectl.cluster.protocol.capacity import GRAINS, WHOLE, Lent, Size, window_size
from ratectl.cluster.protocol.cooling import Cooling, Step, coarse, fitting
from ratectl.cluster.protocol.messages import Close, Closed, Lending
from ratectl.cluster.protocol.pool import Account, LentLimit, Pool
from ratectl.cluster.protocol.timing import MILLISECOND as MS
from ratectl.cluster.protocol.timing import SECOND
from ratectl.cluster.transport.codec import decode, encode
from ratectl.engine.algorithms.sliding_window import SlidingWindow
from ratectl.engine.pure import PureEngine
from simulation.buckets import CentralWindow, DictWallets
from soak import scaled

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ratectl.cluster.protocol.owner import Owner

W = 2 * SECOND
LATE = W // 128
"""How much later than a window a token may be free."""
SIZES = {"one": Size(0, 100, W)}
FULL = {"one": Lending(50 * GRAINS, {})}


def lent(*sizes: Size, share: int = WHOLE) -> Lent:
    capacity = Lent()
    for size in sizes:
        capacity.add(size, share)
    return capacity


def spend(pool: Pool, tokens: int, capacity: Lent, member: str = "m0") -> None:
    """Let a member get tokens and spend them."""
    account = pool.accounts.setdefault(member, Account(1))
    pool.grant(account, tokens)
    pool.report(account, drawn(0, spent=account.spent + tokens), capacity)


# Steps --------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(0, 10**12), st.integers(1, 10**30)), max_size=60),
    st.integers(1, 10**12),
)
def test_nothing_is_free_too_early_or_much_too_late(
    added: list[tuple[int, int]], window: int
) -> None:
    cooling = Cooling()
    for at, grains in added:
        cooling.add(grains, at, window)
    assert cooling.total == sum(grains for _, grains in added)
    late = window // 128 + 1
    freed = 0
    for now in sorted({at + more for at, _ in added for more in (-1, 0, late)}):
        freed += cooling.freed(now)
        assert freed <= sum(grains for at, grains in added if at <= now)
        assert freed >= sum(grains for at, grains in added if at + late <= now)


@given(st.integers(1, 10**13), st.integers(0, 10**18))
def test_a_window_has_few_steps(window: int, now: int) -> None:
    cooling = Cooling()
    for i in range(2_000):
        cooling.add(1, now + window * i // 2_000, window)
    assert len(cooling.steps) <= 257


@given(st.lists(st.tuples(st.integers(0, 10**12), st.integers(1, 10**9)), max_size=100))
def test_steps_in_a_message_are_few_and_none_is_earlier(added: list[tuple[int, int]]) -> None:
    steps = [Step(*step) for step in added]
    told = coarse(steps)
    assert len(told) <= 32
    assert list(told) == sorted(told)
    for now in [at for at, _ in added]:
        assert _freed(told, now) <= _freed(steps, now)
    assert _freed(told, 10**12) == _freed(steps, 10**12)


def _freed(steps: Iterable[Step], now: int) -> int:
    return sum(step.grains for step in steps if step.at <= now)


def test_what_goes_with_a_share_fits_into_one_message() -> None:
    """A member with many windows could not lend: the poll was too large for a frame."""
    steps = tuple([Step(10**10 + i, 10**30) for i in range(32)])
    lending = {f"{'x' * 190} {i}": Lending(10**30, {"": 10**30}, {"": steps}) for i in range(500)}
    told = fitting(lending)
    assert decode(encode(Closed("m0", 1, ID, told)))
    assert all(_freed(each.cooling[""], 10**11) == 32 * 10**30 for each in told.values())
    assert fitting({"one": lending["x" * 190 + " 0"]}) == {"one": lending["x" * 190 + " 0"]}


def test_those_steps_are_dropped_first_that_are_free_the_latest() -> None:
    cooling = Cooling()
    for at in (3, 1, 2):
        cooling.add(10, at, 1)
    assert cooling.drop(15) == [Step(3, 10), Step(2, 5)]
    assert cooling.steps == [Step(1, 10), Step(2, 5)]
    assert cooling.total == 15


# Pools --------------------------------------------------------------------------------------------


def test_a_window_is_longer_for_a_fast_clock() -> None:
    assert window_size(10, SECOND, 500).window == 1_000_500_001


def test_a_spent_token_is_free_a_window_after_the_report() -> None:
    capacity = lent(SIZES["one"])
    pool = Pool(0, 100 * GRAINS)
    spend(pool, 60, capacity)
    pool.settle(SECOND, capacity)
    spend(pool, 40, capacity)
    for now, free in ((W - 1, 0), (W + LATE, 60), (W + SECOND - 1, 60), (W + SECOND + LATE, 100)):
        pool.settle(now, capacity)
        assert pool.free == free


def test_a_returned_token_is_free_at_once_and_a_void_one_is_not() -> None:
    capacity = lent(SIZES["one"])
    pool = Pool(0, 100 * GRAINS)
    account = pool.accounts["m0"] = Account(1)
    pool.grant(account, 30)
    pool.report(account, drawn(0, returned=10), capacity)
    assert pool.free == 80
    pool.settle(SECOND, capacity)
    pool.void("m0", capacity)
    pool.settle(SECOND + W - 1, capacity)
    assert pool.free == 80
    pool.settle(SECOND + W + LATE, capacity)
    assert pool.free == 100


def test_tokens_that_are_spent_while_too_many_are_held_belong_to_the_share_that_left() -> None:
    capacity = lent(SIZES["one"])
    limit = LentLimit(0)
    limit.lend(SIZES["one"], WHOLE, Lending(100 * GRAINS, {}), 0)
    pool = limit.pool("", 0)
    account = pool.accounts["m0"] = Account(1)
    pool.grant(account, 80)
    left = limit.change(SIZES["one"], -WHOLE // 2, 0)
    assert (left.touched[""], pool.free, pool.recalling) == (20 * GRAINS, 0, True)
    pool.report(account, drawn(0, spent=30), limit.lent)
    assert (pool.free, pool.cooling.total, pool.recalling) == (0, 0, False)
    pool.report(account, drawn(0, spent=31), limit.lent)
    assert pool.cooling.total == GRAINS
    del capacity


def test_the_longest_window_counts_until_nobody_has_it_any_more() -> None:
    short, long = Size(0, 100, W), Size(0, 100, 3 * W)
    limit = LentLimit(0)
    limit.lend(long, WHOLE // 2, Lending(100 * GRAINS, {}), 0)
    limit.lend(short, WHOLE // 2, Lending(100 * GRAINS, {}), 0)
    pool = limit.pool("", 0)
    spend(pool, 10, limit.lent)
    assert pool.cooling.steps[0].at >= 3 * W
    limit.change(short, WHOLE // 2, SECOND)
    limit.change(long, -WHOLE // 2, SECOND)
    assert limit.lent.window == W
    pool.settle(SECOND + W + LATE, limit.lent)
    assert pool.free == 100


def test_a_bucket_becomes_a_window_and_the_other_way_round() -> None:
    bucket = Size(10 * 10**9, 100)
    limit = LentLimit(0)
    limit.lend(bucket, WHOLE, Lending(70 * GRAINS, {}), 0)
    limit.change(SIZES["one"], WHOLE, SECOND)
    limit.change(bucket, -WHOLE, SECOND)
    pool = limit.pool("", SECOND)
    assert (pool.level, pool.cooling.total) == (80 * GRAINS, 20 * GRAINS)
    limit.change(bucket, WHOLE, SECOND)
    limit.change(SIZES["one"], -WHOLE, SECOND)
    assert (pool.level, pool.cooling.total) == (80 * GRAINS, 0)
    assert limit.pool("", 2 * SECOND).free == 90


def test_a_key_is_forgotten_only_when_nothing_of_it_cools() -> None:
    limit = LentLimit(0)
    limit.lend(SIZES["one"], WHOLE, Lending(0, {"a": 100 * GRAINS}), 0)
    spend(limit.pool("a", 0), 1, limit.lent)
    limit.pools["a"].accounts.clear()
    limit.forget_unused(W - 1)
    assert "a" in limit.pools
    limit.forget_unused(W + LATE)
    assert "a" not in limit.pools


# Owners -------------------------------------------------------------------------------------------


def window_peer(owner: Owner, name: str = "m0", now: int = 0, **changes: object) -> Peer:
    return lending_peer(owner, name, now, **{"sizes": SIZES, "lending": FULL, **changes})


def keep(peer: Peer, start: int, end: int, **changes: object) -> None:
    """Let a member poll for a while."""
    for now in range(start, end, TIMING.poll_every):
        peer.send(now, **{"sizes": SIZES, **changes})


def test_a_share_whose_past_nobody_knows_is_free_a_window_later() -> None:
    owner = new_owner()
    peer = window_peer(owner, lending={})
    assert peer.send(0, drawn(60), sizes=SIZES)[ONE].granted == 0
    keep(peer, 0, W - 1, lending={})
    peer.send(W - 1, drawn(60), sizes=SIZES)
    assert pool_of(owner).held == 0
    peer.send(W + LATE, drawn(60), sizes=SIZES)
    assert pool_of(owner).held == 50


def test_a_member_that_was_away_for_a_moment_has_its_places_as_they_were() -> None:
    """Each pause of half a second took the share away for a whole window."""
    owner = new_owner()
    peer = window_peer(owner)
    peer.send(0, drawn(20), sizes=SIZES)
    peer.send(MS, drawn(0, spent=20), sizes=SIZES)
    away = TIMING.void_after + 10 * MS
    owner.tick(away)
    assert not owner.sessions
    again = Peer(owner, "m0", 2)
    again.open(away)
    again.send(away, sizes=SIZES, lending=None)
    assert pool_of(owner).free == 30
    end = MS + W + LATE
    keep(again, away, end)
    again.send(end, drawn(60), sizes=SIZES)
    assert pool_of(owner).held == 50


def test_what_an_owner_had_long_ago_is_nothing() -> None:
    owner = new_owner()
    window_peer(owner)
    later = TIMING.void_after + 2 * TIMING.resume_after + 2 * SECOND
    owner.tick(TIMING.void_after)
    owner.tick(later)
    again = Peer(owner, "m0", 2)
    again.open(later)
    again.send(later, sizes=SIZES, lending=None)
    assert owner.limits["one"].pool("", later).free == 0


def test_a_close_gives_the_places_back_with_the_time_until_they_are_free() -> None:
    owner = new_owner()
    peer = window_peer(owner)
    peer.send(0, drawn(20), sizes=SIZES)
    peer.send(0, drawn(0, spent=20), sizes=SIZES)
    (closed,) = owner.receive(Close("m0", 1, ID), 40 * MS)
    assert isinstance(closed, Closed)
    lending = closed.lending["one"]
    assert lending.touched == {"": 30 * GRAINS}
    ((after, grains),) = lending.cooling[""]
    assert grains == 20 * GRAINS
    assert W - 40 * MS <= after <= W - 40 * MS + LATE
    # The answer is repeated, with less time.
    (closed,) = owner.receive(Close("m0", 1, ID), 50 * MS)
    assert isinstance(closed, Closed)
    assert closed.lending["one"].cooling[""] == (Step(after - 10 * MS, grains),)


def test_a_window_that_is_new_is_free_at_once_if_nobody_can_have_used_it() -> None:
    """A publication with a new limit refused everything for a whole window."""
    owner = new_owner()
    peer = window_peer(owner, sizes={}, lending={})
    keep(peer, 0, W + SECOND, sizes={})
    peer.send(W + SECOND, drawn(60), sizes=SIZES)
    assert pool_of(owner).held == 50
    # It is larger for as long as its window, and larger again: only what is new is free.
    larger = {"one": Size(0, 120, W)}
    peer.send(W + SECOND + MS, drawn(60), sizes=larger)
    assert pool_of(owner).held == 60


def test_a_window_that_was_smaller_for_a_while_is_free_a_window_later() -> None:
    owner = new_owner()
    peer = window_peer(owner)
    keep(peer, 0, 2 * W)
    peer.send(2 * W, sizes={"one": Size(0, 20, W)})
    peer.send(2 * W + MS, drawn(60), sizes=SIZES)
    assert pool_of(owner).held == 10


def test_places_that_each_process_added_for_a_while_are_free_a_window_later() -> None:
    owner = new_owner()
    larger = {"one": SIZES["one"]._replace(added=20)}
    peer = window_peer(owner, sizes=larger)
    keep(peer, 0, 2 * W, sizes=larger)
    peer.send(2 * W, sizes=SIZES)
    peer.send(2 * W + MS, drawn(100), sizes={"one": Size(0, 140, W)})
    assert pool_of(owner).held == 50


def test_a_member_without_tokens_keeps_its_account() -> None:
    """The owner forgot it: what it got and spent later was counted twice."""
    owner = new_owner()
    peer = window_peer(owner)
    peer.send(0, drawn(20), sizes=SIZES)
    peer.send(MS, drawn(0, spent=20), sizes=SIZES)
    assert peer.send(2 * MS, drawn(5, spent=20), sizes=SIZES)[ONE].granted == 25
    assert pool_of(owner).held == 5


def test_members_hold_no_idle_tokens_while_others_wait() -> None:
    """Idle members held a third of the limit, which was lost to all others for a window."""
    owner = new_owner()
    busy, idle = window_peer(owner), window_peer(owner, "m1")
    assert idle.send(0, drawn(1), sizes=SIZES)[ONE].stock > 0
    assert busy.send(0, drawn(200), sizes=SIZES)[ONE].scarce
    (told,) = [each for each in owner.tick(TIMING.gap) if each.member == "m1"]
    assert [granted.stock for granted in told.granted] == [0]  # type: ignore[union-attr]
    busy.send(2 * TIMING.gap, drawn(0, spent=99), sizes=SIZES)
    owner.tick(3 * TIMING.gap)
    assert idle.send(3 * TIMING.gap, drawn(1), sizes=SIZES)[ONE].stock == 0  # most still cool


# Members ------------------------------------------------------------------------------------------


def test_a_token_that_is_spent_while_the_member_looks_counts_from_then() -> None:
    """The member counted it from the time before the look: it was free a little too early."""
    wallets = DictWallets()
    now = 0
    own = OwnShare(wallets, lambda: now, full=True)
    own.change(WHOLE, SIZES, 0)
    own.tick(0, SECOND)
    assert wallets.spend(ONE, 100, 0)
    now = 50 * MS
    own.tick(10 * MS, W)
    own.tick(now + W - 1, 2 * W)
    assert wallets.tokens(ONE) == 0
    own.tick(now + W + LATE, 2 * W)
    assert wallets.tokens(ONE) == 100


def test_a_share_goes_to_another_owner_with_its_places() -> None:
    wallets = DictWallets()
    own = OwnShare(wallets, lambda: 0, full=True)
    own.change(WHOLE, SIZES, 0)
    own.tick(0, SECOND)
    assert wallets.spend(ONE, 30, 0)
    lending = own.lend(SECOND)
    own.resume(SECOND, lending)
    own.tick(SECOND, W)
    assert wallets.tokens(ONE) == 70
    own.tick(SECOND + W + LATE, 2 * W)
    assert wallets.tokens(ONE) == 100


def test_size_and_estimates_of_a_window() -> None:
    limits = PooledLimits(PureEngine(lambda: 0, max_buckets=10), REAL_TIMING)
    with limits.collected() as pools:
        bucket = pools.bucket(name_of("one"), SlidingWindow(500, 10 * SECOND))
        blocked = pools.bucket(name_of("no"), SlidingWindow(0, SECOND, blocked=True))
    sizes = [limit.size for limit in limits.in_force().values()]
    assert sizes == [window_size(500, 10 * SECOND, 500), window_size(0, SECOND, 500)]
    assert (bucket.capacity, bucket.token_ns) == (500, 20 * MS)
    assert (blocked.capacity, blocked.token_ns) == (0, 0)


# Processes ----------------------------------------------------------------------------------------


def windows(machine: Machine) -> list[bool]:
    return [member.ask() for member in machine.members.values()]


@pytest.mark.parametrize("seed", range(scaled(2, 40)))
def test_members_that_come_and_go_share_a_window(seed: int) -> None:
    random_ = random.Random(seed)
    machine = Machine(one=SlidingWindow(40, SECOND))
    machine.start(3)
    assert isinstance(machine.central["one"], CentralWindow)
    admitted = 0
    for step in range(8):
        for _ in range(250):
            machine.run(2 * MS)
            admitted += sum(windows(machine))
        if step == 2:
            machine.owner.frozen = True
        elif step == 5:
            for member in machine.members.values():
                member.frozen = False
            machine.start(random_.randrange(3))
    assert admitted >= 0.4 * 40 * 4
