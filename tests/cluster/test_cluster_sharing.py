"""A scarce pool is shared fairly, and nobody waits for ever."""

from __future__ import annotations

import random
from fractions import Fraction
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.small_cluster import KEYED, ONE, SmallCluster
from ratectl.cluster.protocol.capacity import GRAINS, WHOLE, Lent, Size
from ratectl.cluster.protocol.pool import Account, Pool
from ratectl.cluster.protocol.sharing import idle_stock, share_out
from ratectl.cluster.protocol.timing import MILLISECOND as MS
from ratectl.cluster.protocol.timing import SECOND
from simulation.buckets import Central

if TYPE_CHECKING:
    from ratectl.cluster.protocol.messages import PoolId

BURST = 1_000


def lent(burst: int = BURST) -> Lent:
    capacity = Lent()
    capacity.add(Size(0, burst), WHOLE)
    return capacity


def waiting(free: int, wants: list[int], least: dict[int, int] | None = None) -> Pool:
    pool = Pool(0, free * GRAINS)
    for i, want in enumerate(wants):
        account = pool.accounts[f"m{i}"] = pool.waiting[f"m{i}"] = Account(1)
        account.want, account.least = want, (least or {}).get(i, 0)
    return pool


def share(pool: Pool, burst: int = BURST) -> list[str]:
    return list(share_out(pool, lent(burst), lambda member: True))


def water_level(free: int, wants: list[int]) -> list[Fraction]:
    """Return the max-min fair shares, in fractions of tokens."""
    shares = [Fraction(0)] * len(wants)
    left, order = Fraction(free), sorted(range(len(wants)), key=wants.__getitem__)
    for done, i in enumerate(order):
        shares[i] = min(Fraction(wants[i]), left / (len(wants) - done))
        left -= shares[i]
    return shares


@given(st.integers(0, 300), st.lists(st.integers(1, 100), min_size=1, max_size=8))
def test_shares_are_max_min_fair(free: int, wants: list[int]) -> None:
    pool = waiting(free, wants)
    served = share(pool)
    got = [pool.accounts[f"m{i}"].held for i in range(len(wants))]
    assert sum(got) == min(free, sum(wants))
    assert sorted(served) == [f"m{i}" for i, tokens in enumerate(got) if tokens]
    for tokens, fair, want in zip(got, water_level(free, wants), wants, strict=True):
        assert abs(tokens - fair) <= 1
        assert tokens <= want
    assert list(pool.waiting) == [
        *(f"m{i}" for i, tokens in enumerate(got) if not tokens),
        *(member for member in served if pool.accounts[member].missing(BURST)),
    ]


@given(
    st.integers(0, 60),
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 60)), min_size=1, max_size=6),
)
def test_nobody_gets_more_than_it_wants(free: int, wishes: list[tuple[int, int]]) -> None:
    pool = waiting(free, [want for want, _ in wishes], {i: w[1] for i, w in enumerate(wishes)})
    share(pool, 60)
    for i, (want, least) in enumerate(wishes):
        assert pool.accounts[f"m{i}"].held <= max(want, least)
    assert pool.level + pool.held * GRAINS == free * GRAINS


def test_large_wish_is_served_though_small_ones_come_all_the_time() -> None:
    """One token came at a time, and it always went to one that wanted one token."""
    pool = waiting(0, [10, 1, 1, 1])
    for _ in range(40):
        pool.level += GRAINS
        for member in share(pool):
            if member != "m0":  # spends it, and asks again
                account = pool.accounts[member]
                account.granted = 0
                pool.waiting[member] = account
    assert pool.accounts["m0"].held == 10


def test_one_token_at_a_time_goes_around() -> None:
    pool = waiting(0, [100] * 5)
    for _ in range(50):
        pool.level += GRAINS
        share(pool)
    assert [account.held for account in pool.accounts.values()] == [10] * 5


def test_single_tokens_are_served_between_large_requests() -> None:
    """Two members with large requests took turns, and nobody else had one."""
    pool = waiting(0, [1, 1, 1, 1], {0: 20, 1: 20})
    served = {f"m{i}": 0 for i in range(4)}
    for _ in range(1_000):
        pool.level += GRAINS
        for member in share(pool):
            served[member] += 1
            account = pool.accounts[member]
            account.granted = 0  # spent at once, and asks again
            pool.waiting[member] = account
    assert min(served.values()) >= 20


@pytest.mark.parametrize("least", [61, 10**300], ids=["61", "huge"])
def test_request_beyond_the_capacity_blocks_nobody(least: int) -> None:
    """The pool saved for a request that it can never serve, and everybody starved."""
    pool = waiting(10, [1, 3, 3], {0: least})
    share(pool, 60)
    assert [account.held for account in pool.accounts.values()] == [1, 3, 3]
    assert not pool.waiting


def test_pool_saves_for_the_first_in_line_only() -> None:
    pool = waiting(10, [1, 5], {0: 20})
    assert share(pool) == []
    assert not pool.short
    pool.level += 10 * GRAINS
    assert share(pool) == ["m0"]
    assert pool.accounts["m0"].held == 20


def test_pool_is_short_when_others_hold_what_a_large_request_needs() -> None:
    pool = waiting(0, [1], {0: 20})
    pool.held = 41
    share(pool, 60)
    assert pool.short
    pool.held = 40
    share(pool, 60)
    assert not pool.short


def test_silent_members_are_passed_over() -> None:
    pool = waiting(4, [1, 4], {0: 100})
    assert list(share_out(pool, lent(), lambda member: member == "m1")) == ["m1"]
    assert list(pool.waiting) == ["m0"]


@given(st.integers(0, 5_000), st.integers(1, 1_000), st.booleans(), st.integers(0, 6_000))
def test_idle_members_hold_at_most_the_capacity(
    burst: int, members: int, scarce: bool, large: int
) -> None:
    stock = idle_stock(lent(burst), members, scarce=scarce, large=large)
    assert 0 <= stock * members <= burst


@pytest.mark.parametrize(
    ("large", "stock"),
    [(0, 16), (1, 17), (16, 32), (17, 33), (20, 33), (33, 33), (34, 34), (50, 50), (51, 16)],
)
def test_idle_members_hold_enough_for_a_large_request_if_all_can(large: int, stock: int) -> None:
    assert idle_stock(lent(200), 4, scarce=False, large=large) == stock
    assert idle_stock(lent(200), 4, scarce=True, large=large) == 1


def test_a_large_cost_is_forgotten_if_no_larger_one_is_told_of() -> None:
    pool = Pool(0)
    assert pool.note_large(20, SECOND)
    for pool.at, cost in ((SECOND // 2, 20), (SECOND, 10), (SECOND * 5 // 4, 0)):
        assert not pool.note_large(cost, SECOND)
    pool.at = SECOND * 3 // 2
    assert pool.note_large(10, SECOND)
    assert pool.large == 10
    pool.at *= 2
    assert pool.note_large(0, SECOND)
    assert pool.large == 0


# In a cluster -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("members", "size", "cost"), [(4, 200, 20), (20, 1_000, 20), (4, 200, 25)])
@pytest.mark.parametrize("pool", [ONE, KEYED])
def test_costs_that_differ_much_are_admitted_as_by_one_bucket(
    pool: PoolId, members: int, size: int, cost: int
) -> None:
    """At each member, one request in 20 costs far more than the others."""
    cluster = SmallCluster(members, rate=size, burst=size)
    central = Central(cluster.sizes["one"])
    cluster.run(500 * MS)
    chance = random.Random(1)
    admitted = {False: 0, True: 0}

    def each(_: int) -> None:
        for i in range(members):
            if chance.random() < 0.02:
                asked = 1 if chance.randrange(20) else cost
                admitted[True] += asked * cluster.ask(i, pool, asked)
                if central.now(cluster.now) >= asked * GRAINS:
                    central.admit(asked, cluster.now)
                    admitted[False] += asked

    cluster.run(10_000 * MS, each)
    assert admitted[True] > 0.9 * admitted[False]


@pytest.mark.parametrize("cost", [30, 99])
@pytest.mark.parametrize("pool", [ONE, KEYED])
def test_large_request_is_admitted_though_others_ask_all_the_time(pool: PoolId, cost: int) -> None:
    """A central bucket admits it as soon as nobody takes the tokens away: here it has a turn."""
    cluster = SmallCluster(4, rate=1_000, burst=100)
    cluster.run(200 * MS)
    admitted: list[int] = []

    def each(step: int) -> None:
        for i in (1, 2):
            cluster.ask(i, pool)
        if cluster.ask(0, pool, cost):
            admitted.append(step)

    cluster.run(3_000 * MS, each)
    waits = [b - a for a, b in zip([0, *admitted], [*admitted, 3_000], strict=True)]
    assert max(waits) < 600, waits


@pytest.mark.parametrize("members", [2, 4, 10])
def test_request_for_all_of_the_burst_is_admitted_while_idle_members_hold_stock(
    members: int,
) -> None:
    """The pool saved for ever: what it lacked was in the hands of members without requests."""
    cluster = SmallCluster(members, rate=1_000, burst=100)
    cluster.run(500 * MS)
    admitted: list[int] = []
    cluster.run(1_000 * MS, lambda step: admitted.extend([step] * cluster.ask(0, ONE, 100)))
    assert admitted
    assert admitted[0] < 200


def test_request_beyond_what_members_lend_starves_nobody() -> None:
    cluster = SmallCluster(4, rate=1_000, burst=100)
    cluster.run(200 * MS)
    cluster.cut = {"m3"}
    got = {1: 0, 2: 0}

    def each(step: int) -> None:
        assert step < 300 or not cluster.ask(0, ONE, 80)
        for i in got:
            got[i] += step >= 300 and cluster.ask(i, ONE)

    cluster.run(1_300 * MS, each)
    assert sum(got.values()) > 600  # three quarters of 1,000, for one second
    cluster.cut = set()
    admitted: list[int] = []
    cluster.run(1_000 * MS, lambda step: admitted.extend([step] * cluster.ask(0, ONE, 80)))
    assert len(admitted) > 8  # the member is back


def test_equal_members_get_equal_parts() -> None:
    cluster = SmallCluster(5, rate=1_000, burst=50)
    got = [0] * 5

    def each(step: int) -> None:
        for i in range(5):
            got[i] += cluster.ask(i, ONE) + cluster.ask(i, ONE)

    cluster.run(3_000 * MS, each)
    assert sum(got) > 0.95 * 3_000
    assert min(got) > 0.8 * max(got)
