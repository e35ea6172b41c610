"""Wallets of an engine: what a member counts, and what decisions spend."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest
from machine import TIMING, bucket, name_by_tenant, name_of

from engine.engines import ENGINES
from ratectl.cluster.pools import PooledLimits
from ratectl.cluster.protocol.capacity import WHOLE
from ratectl.cluster.protocol.messages import PoolId
from ratectl.cluster.protocol.timing import FOREVER
from ratectl.cluster.protocol.wallets import Purse
from ratectl.cluster.wallets import EngineWallets
from ratectl.engine.api import PlanSet, ScopePlan
from ratectl.engine.limit_plan import LimitPlan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ratectl.cluster.pools import _Generation
    from ratectl.engine.api import Engine


class Process:
    """An engine, and the wallets of its limits."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.limits = PooledLimits(engine, TIMING)
        self.generation = 0
        self.publish("one")
        self.of_all_shards = self.another()
        (self.wallets,) = self.of_all_shards.shards
        self.wallets.deadline = 10**9

    def publish(self, *names: str) -> None:
        with self.limits.collected() as pools:
            self.swap(pools, *names)

    def swap(self, pools: _Generation, *names: str) -> None:
        self.generation += 1
        plans = tuple(
            LimitPlan(
                scope="/", name=name, algorithm=pools.bucket(name_of(name), bucket(10, 100)),
                per=(), shadow=False, budget=True,
            )
            for name in names
        )  # fmt: skip
        self.engine.swap(PlanSet(self.generation, {"/": ScopePlan("/", plans, True)}))

    def another(self) -> EngineWallets:
        """Return new wallets of the same engine."""
        return wallets_of(self.engine, self.limits)

    @property
    def pool(self) -> PoolId:
        return PoolId(next(iter(self.limits.in_force())), "")


def wallets_of(engine: object, limits: PooledLimits, shards: int = 1) -> EngineWallets:
    """Return new wallets of the limits in force."""
    wallets = EngineWallets(engine, shards)  # type: ignore[arg-type]
    wallets.follow(limits.in_force())
    return wallets


@pytest.fixture(params=sorted(ENGINES))
def process(request: pytest.FixtureRequest) -> Process:
    return Process(ENGINES[request.param](lambda: 0))


def test_what_somebody_else_left_in_a_wallet_is_void(process: Process) -> None:
    """A forked child had the tokens of its parent, for the time until it lent its share."""
    pool = process.pool
    process.wallets.add(pool, 10)
    assert process.engine.check("/", {}, 3).allowed
    (wallets,) = process.another().shards
    wallets.deadline = 10**9
    assert wallets.read(pool) == Purse(0, 0, 0, 0)
    assert not process.engine.check("/", {}, 1).allowed


def test_nothing_is_refunded_to_a_wallet_that_was_emptied(process: Process) -> None:
    """The refund was spent after the owner had counted it as spent."""
    process.wallets.add(process.pool, 10)
    decision = process.engine.check("/", {}, 4)
    assert process.wallets.take(process.pool, FOREVER) == 6
    decision.settle(0)
    process.wallets.drop(process.pool)
    assert process.wallets.read(process.pool) == Purse(0, 4, 0, 0)


def test_a_debt_stays_when_a_wallet_is_emptied(process: Process) -> None:
    process.wallets.add(process.pool, 10)
    process.engine.check("/", {}, 4).settle(15)
    process.wallets.drop(process.pool)
    process.wallets.add(process.pool, 6)
    assert process.wallets.read(process.pool).tokens == 1


def test_a_debt_is_refunded_before_anything_is_given_to_others(process: Process) -> None:
    process.wallets.add(process.pool, 10)
    decision = process.engine.check("/", {}, 4)
    decision.settle(15)
    assert process.wallets.read(process.pool) == Purse(0, 10, 0, 0)
    decision.settle(10)
    assert not process.wallets.refunds()
    decision.settle(8)
    assert process.wallets.refunds()[process.pool].tokens == 2
    process.wallets.add(process.pool, 1)
    assert process.engine.check("/", {}).allowed


def test_a_child_has_no_refunds_of_its_parent(process: Process) -> None:
    process.wallets.add(process.pool, 10)
    decision = process.engine.check("/", {}, 4)
    process.wallets.read(process.pool)
    decision.settle(1)
    process.limits.after_fork_in_child()
    assert not process.wallets.refunds()


@pytest.mark.parametrize("name", ENGINES)
def test_what_fills_the_own_part_of_a_key_counts_as_spent(name: str) -> None:
    engine = ENGINES[name](lambda: 0)
    limits = PooledLimits(engine, TIMING)
    limits.begin_share(WHOLE // 2, b"sixteen bytes in all")
    with limits.collected() as pools:
        of_tenant = name_by_tenant("each")
        plan = LimitPlan(
            scope="/", name="each", algorithm=pools.bucket(of_tenant, bucket(1, 8)),
            per=("tenant",), shadow=False,
        )  # fmt: skip
        engine.swap(PlanSet(1, {"/": ScopePlan("/", (plan,), True)}))
    of_all_shards = wallets_of(engine, limits)
    of_all_shards.use_own_part_until(10**9)
    (wallets,) = of_all_shards.shards
    wallets.deadline = 10**9
    assert [engine.check("/", {"tenant": "a"}).allowed for _ in range(3)] == [True, True, False]
    (pool,) = wallets.touched()
    wallets.add(pool, 5)
    wallets.keep(pool)
    assert wallets.read(pool)[:2] == (3, 2)
    wallets.keep(pool)
    assert wallets.read(pool)[:2] == (3, 2)  # it is full


class Interrupted:
    """Engine in which something happens just after it has said what was spent."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.then: list[Callable[[], object]] = []

    def spent(self, name: tuple[object, ...]) -> int | None:
        spent = self._engine.spent(name)  # type: ignore[arg-type]
        if self.then:
            self.then.pop(0)()
        return spent


def test_a_refund_in_the_middle_of_a_reading_is_seen(process: Process) -> None:
    """Tokens that were told as spent stay spent: otherwise the wallet and the pool have them."""
    engine = Interrupted(process.engine)
    (wallets,) = wallets_of(engine, process.limits).shards
    wallets.deadline = 10**9
    wallets.add(process.pool, 10)
    decision = process.engine.check("/", {}, 4)
    engine.then = [lambda: decision.settle(1)]
    purse = wallets.read(process.pool)
    assert (purse.tokens, purse.spent) == (9, 1)
    later = wallets.read(process.pool)
    assert later.tokens + later.spent == 10


def test_decisions_during_a_taking_keep_their_tokens(process: Process) -> None:
    engine = Interrupted(process.engine)
    (wallets,) = wallets_of(engine, process.limits).shards
    wallets.deadline = 10**9
    wallets.add(process.pool, 10)
    engine.then = [lambda: process.engine.check("/", {}, 3)]
    assert wallets.take(process.pool, FOREVER) == 7
    assert wallets.read(process.pool) == Purse(0, 3, 0, 0)
    assert not process.engine.check("/", {}).allowed


def test_totals_of_a_limit_that_is_gone_are_told(process: Process) -> None:
    pool = process.pool
    process.wallets.add(pool, 10)
    process.engine.check("/", {}, 3)
    process.publish()
    process.of_all_shards.follow(process.limits.in_force())
    assert process.wallets.read(pool) == Purse(0, 10, 0, 0)  # nobody can spend the others
    process.wallets.add(pool, 5)  # a grant that was on its way
    assert process.wallets.read(pool) == Purse(0, 15, 0, 0)
    process.wallets.drop(pool)
    assert process.wallets.read(pool) == Purse(0, 0, 0, 0)


def test_a_limit_that_comes_back_goes_on(process: Process) -> None:
    pool = process.pool
    process.wallets.add(pool, 10)
    process.engine.check("/", {}, 3)
    for names in ((), ("one",)):
        process.publish(*names)
        process.of_all_shards.follow(process.limits.in_force())
    assert process.wallets.read(pool) == Purse(0, 10, 0, 0)
    process.wallets.add(pool, 1)
    assert process.engine.check("/", {}).allowed
    assert not process.engine.check("/", {}).allowed


# Generations --------------------------------------------------------------------------------------


@contextmanager
def failing(process: Process) -> Iterator[_Generation]:
    """Collect a generation that cannot be enforced."""
    with suppress(ZeroDivisionError), process.limits.collected() as pools:
        yield pools
        raise ZeroDivisionError


def names(limits: PooledLimits) -> list[str]:
    return sorted(limit.name[1] for limit in limits.in_force().values())


def test_a_generation_that_fails_changes_nothing(process: Process) -> None:
    before = process.limits.in_force()
    with failing(process) as pools:
        pools.bucket(name_of("other"), bucket(1, 1))
    assert process.limits.in_force() == before


def test_a_limit_compiled_late_counts_for_its_own_generation(process: Process) -> None:
    """While a generation was compiled, requests added limits of the old one to it, or lost them."""
    with process.limits.collected() as old:
        process.swap(old, "one")
    with failing(process):  # this generation cannot be enforced: the old one stays
        old.bucket(name_of("late"), bucket(10, 100))
    assert names(process.limits) == ["late", "one"]
    changes = process.limits.changes
    with process.limits.collected() as new:
        process.swap(new, "one")
        old.bucket(name_of("one"), bucket(10, 99))
        new.bucket(name_of("later"), bucket(10, 100))
    old.bucket(name_of("one"), bucket(10, 99))
    assert names(process.limits) == ["later", "one"]
    assert {limit.size.burst for limit in process.limits.in_force().values()} == {100}
    assert process.limits.changes > changes


def test_changes_are_told(process: Process) -> None:
    told: list[int] = []
    process.limits.on_change = lambda: told.append(process.limits.changes)
    with process.limits.collected() as pools:
        process.swap(pools, "one", "two")
        assert not told
    assert len(told) == 1
    process.publish("one", "two")
    assert len(told) == 1  # as before
    with process.limits.collected() as pools:
        process.swap(pools, "one", "two")
    pools.bucket(name_of("three"), bucket(1, 1))
    pools.bucket(name_of("three"), bucket(1, 1))
    assert len(told) == 2


def test_names_of_pools_are_short(process: Process) -> None:
    """A name with a thousand overrides was too long for a message."""
    overrides = tuple(f"override-{number}" for number in range(1_000))
    with process.limits.collected() as pools:
        for unit in ("requests", "tokens"):
            pools.bucket(("/", "one", True, overrides, (), unit), bucket(1, 1))
    assert len(process.limits.in_force()) == 2
    assert all(len(pool) <= 200 for pool in process.limits.in_force())
