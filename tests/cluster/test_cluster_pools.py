"""Pools: tokens are never made, whatever members report."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ratectl.cluster.protocol.capacity import GRAINS, WHOLE, Lent, Size
from ratectl.cluster.protocol.messages import Drawn, Lending, PoolId
from ratectl.cluster.protocol.pool import Account, LentLimit, Pool
from ratectl.cluster.protocol.timing import MILLISECOND as MS
from ratectl.cluster.protocol.timing import SECOND

NAME = PoolId("keyed", "a")
MEMBERS = ("m0", "m1", "m2")
totals = st.one_of(
    st.integers(-3, 12), st.sampled_from([-(10**30), 10**30, 10**300]), st.integers(-100, 100)
)


def drawn(spent: int = 0, voided: int = 0, returned: int = 0, draw: int = 1) -> Drawn:
    return Drawn(NAME, draw, spent, voided, returned, 5, 0)


@given(st.lists(st.one_of(st.integers(0, 9), st.tuples(totals, totals, totals)), max_size=20))
def test_hostile_reports_never_give_back_more_than_was_granted(events: list) -> None:  # type: ignore[type-arg]
    account = Account(1)
    back = 0
    for event in events:
        before = account.held
        if isinstance(event, int):
            account.granted += event
            assert account.held == before + event
        else:
            returned = account.report(drawn(*event))
            assert 0 <= returned <= before - account.held
            back += returned
        assert account.held >= 0
        assert account.spent + account.voided + account.returned <= account.granted
        assert back == account.returned


@given(st.permutations([(1, 0, 0), (2, 0, 1), (2, 1, 1), (4, 1, 2), (4, 1, 2), (5, 2, 3)]))
def test_reports_in_any_order_end_in_the_same_state(order: list[tuple[int, int, int]]) -> None:
    account = Account(1)
    account.granted = 12
    for totals_now in order:
        account.report(drawn(*totals_now))
    assert (account.spent, account.voided, account.returned) == (5, 2, 3)
    assert account.held == 2


def test_member_that_says_it_spent_too_much_takes_no_room_when_it_is_gone() -> None:
    """A liar left the pool with tokens that nobody held: they took the room of others for ever."""
    lent = Lent()
    lent.add(Size(10**9, 10), WHOLE)
    pool = Pool(0, lent.capacity)
    account = pool.accounts["liar"] = Account(1)
    for spent in (0, 10**30, 10**30):
        pool.report(account, drawn(spent=spent), lent)
        pool.grant(account, 3)
    pool.void("liar", lent)
    assert pool.held == 0
    pool.settle(100 * SECOND, lent)
    assert pool.free == 10


@pytest.mark.parametrize("lie", [drawn(returned=10**30), drawn(spent=-(10**30)), drawn(voided=-9)])
def test_lie_of_one_member_fills_no_pool(lie: Drawn) -> None:
    lent = Lent()
    lent.add(Size(10**9, 10), WHOLE)
    pool = Pool(0, lent.capacity)
    account = pool.accounts["liar"] = Account(1)
    pool.grant(account, 4)
    for _ in range(3):
        pool.report(account, lie, lent)
        assert pool.level + pool.held * GRAINS <= 10 * GRAINS


class Pools(RuleBasedStateMachine):
    """One limit at an owner. The capacity, the members' tokens and the time do what they like."""

    @initialize()
    def start(self) -> None:
        self.now = 0
        self.limit = LentLimit(0)
        self.shares: dict[str, int] = {}
        self.size = Size(50 * 10**9, 20)

    def _pools(self) -> list[Pool]:
        return [self.limit.untouched, *self.limit.pools.values()]

    @rule(step=st.integers(0, 300))
    def pass_time(self, step: int) -> None:
        self.now += step * MS

    @rule(
        member=st.sampled_from(MEMBERS),
        untouched=st.integers(-GRAINS, 30 * GRAINS),
        key=st.sampled_from("ab"),
        touched=st.integers(-GRAINS, 30 * GRAINS),
    )
    def lend(self, member: str, untouched: int, key: str, touched: int) -> None:
        if member in self.shares:
            return
        share = self.shares[member] = WHOLE // 3
        before = {k: p.level for k, p in self.limit.pools.items()}
        self.limit.pool(key, self.now)
        accrued = self.limit.pools[key].level
        self.limit.lend(self.size, share, Lending(untouched, {key: touched}), self.now)
        own = self.size.burst * share * GRAINS // WHOLE
        assert self.limit.pools[key].level <= accrued + own
        assert before.keys() <= self.limit.pools.keys()

    @rule(member=st.sampled_from(MEMBERS))
    def take_back(self, member: str) -> None:
        if share := self.shares.pop(member, 0):
            self.limit.change(self.size, -share, self.now)

    @rule(
        member=st.sampled_from(MEMBERS),
        key=st.sampled_from("ab"),
        reported=st.tuples(totals, totals, totals),
        more=st.integers(0, 30),
    )
    def draw(self, member: str, key: str, reported: tuple[int, int, int], more: int) -> None:
        pool = self.limit.pool(key, self.now)
        account = pool.accounts.setdefault(member, Account(1))
        before = pool.level + pool.held * GRAINS
        pool.report(account, drawn(*reported), self.limit.lent)
        pool.grant(account, more)
        assert pool.level + pool.held * GRAINS <= before

    @rule(member=st.sampled_from(MEMBERS), key=st.sampled_from("ab"))
    def void(self, member: str, key: str) -> None:
        pool = self.limit.pools.get(key)
        if pool is not None and member in pool.accounts:
            before = pool.level
            pool.void(member, self.limit.lent)
            assert pool.level <= before

    @rule()
    def forget(self) -> None:
        levels = {key: self._level(key) for key in "ab"}
        self.limit.forget_unused(self.now)
        for key, level in levels.items():
            assert self._level(key) <= level

    def _level(self, key: str) -> int:
        pool = self.limit.pools.get(key, self.limit.untouched)
        pool.settle(self.now, self.limit.lent)
        return pool.level

    @invariant()
    def holds(self) -> None:
        capacity = self.limit.lent.capacity
        assert self.limit.lent.recalling == sum(pool.recalling for pool in self._pools())
        assert capacity == self.size.burst * sum(self.shares.values()) * GRAINS // WHOLE
        for pool in self._pools():
            pool.settle(self.now, self.limit.lent)
            assert pool.level >= 0
            assert pool.held == sum(account.held for account in pool.accounts.values())
            assert pool.level + pool.held * GRAINS <= max(capacity, pool.held * GRAINS)
            assert pool.recalling == (pool.held * GRAINS > capacity)
            if pool.recalling:
                assert pool.level == 0
                assert sum(a.hold or 0 for a in pool.accounts.values()) * GRAINS <= capacity


TestPools = Pools.TestCase


def test_dropped_pool_is_as_full_as_the_one_that_takes_its_place() -> None:
    limit = LentLimit(0)
    limit.lend(Size(10**9, 10), WHOLE, Lending(10 * GRAINS, {"a": 3 * GRAINS}), 0)
    limit.forget_unused(2 * SECOND)
    assert limit.pools["a"].free == 5
    limit.forget_unused(7 * SECOND)
    assert not limit.pools
    assert limit.pool("a", 7 * SECOND).free == 10


def test_key_named_late_has_what_the_untouched_pool_has_by_then() -> None:
    limit = LentLimit(0)
    limit.lend(Size(10**9, 10), WHOLE, None, 0)
    assert limit.pool("a", 3 * SECOND).free == 3
    limit.change(Size(10**9, 10), -WHOLE // 2, 3 * SECOND)
    assert limit.pool("b", 4 * SECOND).level == limit.pool("a", 4 * SECOND).level
