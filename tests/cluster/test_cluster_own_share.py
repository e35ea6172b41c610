"""A share that is not lent: what a member grants itself is what one bucket of that size would."""

from __future__ import annotations

import random

import pytest

from ratectl.cluster.own_share import OwnShare
from ratectl.cluster.protocol.capacity import GRAINS, WHOLE, Size
from ratectl.cluster.protocol.messages import PoolId
from ratectl.cluster.protocol.timing import MILLISECOND as MS
from ratectl.cluster.protocol.timing import SECOND
from simulation.buckets import Central, DictWallets
from soak import scaled

ONE = PoolId("one", "")
SIZE = Size(100 * SECOND, 50)


def own_share(*, full: bool) -> tuple[OwnShare, DictWallets]:
    wallets = DictWallets()
    return OwnShare(wallets, lambda: 0, full=full), wallets


def spent_at_once(wallets: DictWallets, now: int) -> int:
    count = 0
    while wallets.spend(ONE, 1, now):
        count += 1
    return count


@pytest.mark.parametrize(("full", "tokens"), [(True, 25), (False, 0)])
def test_half_a_share(full: bool, tokens: int) -> None:
    own, wallets = own_share(full=full)
    own.change(WHOLE // 2, {"one": SIZE}, 0)
    own.tick(0, SECOND)
    assert spent_at_once(wallets, 0) == tokens
    own.tick(0, SECOND)  # until now, what was spent still occupied the bucket
    own.tick(100 * MS, SECOND)
    assert spent_at_once(wallets, 100 * MS) == 5
    own.tick(100 * MS, SECOND)
    own.tick(900 * MS, SECOND)
    assert spent_at_once(wallets, SECOND) == 0  # nothing may be spent from then on
    assert spent_at_once(wallets, SECOND - 1) == 25


def test_a_limit_that_comes_back_begins_empty() -> None:
    """Each publication gave a process that counted alone another burst."""
    own, wallets = own_share(full=True)
    own.change(WHOLE, {"one": SIZE}, 0)
    own.tick(0, SECOND)
    assert spent_at_once(wallets, 0) == 50
    own.change(WHOLE, {}, 0)
    own.change(WHOLE, {"one": SIZE}, 0)
    own.tick(0, SECOND)
    assert spent_at_once(wallets, 0) == 0
    own.tick(100 * MS, SECOND)
    assert spent_at_once(wallets, 100 * MS) == 10


def test_a_limit_comes_and_goes_while_the_share_is_lent() -> None:
    own, wallets = own_share(full=True)
    own.change(WHOLE, {"one": SIZE}, 0)
    own.lend(0)
    own.change(WHOLE, {}, 0)
    own.resume(0, {})
    own.change(WHOLE, {"one": SIZE}, 0)
    own.change(WHOLE, {}, 0)
    own.change(0, {}, 0)
    own.tick(0, SECOND)
    assert spent_at_once(wallets, 0) == 0


def test_lending_brings_what_is_left() -> None:
    own, wallets = own_share(full=True)
    own.change(WHOLE, {"one": SIZE}, 0)
    own.tick(0, SECOND)
    wallets.spend(ONE, 20, 0)
    own.tick(0, SECOND)
    lending = own.lend(100 * MS)["one"]
    assert lending.touched[""] == 40 * GRAINS
    assert wallets.deadline == 100 * MS
    assert wallets.tokens(ONE) == 0


class Refunding(DictWallets):
    """Wallets into which a refund comes just after they were emptied."""

    refund = 3

    def take(self, pool: PoolId, at_most: int) -> int:
        taken = super().take(pool, at_most)
        if taken and self.refund:
            purse = self._purses[pool]
            purse[0], purse[1], self.refund = purse[0] + self.refund, purse[1] - self.refund, 0
        return taken


def test_a_refund_while_the_wallet_is_emptied_is_lent_as_well() -> None:
    """The refund stayed in the wallet, and the owner had not granted it."""
    wallets = Refunding()
    own = OwnShare(wallets, lambda: 0, full=True)
    own.change(WHOLE, {"one": SIZE}, 0)
    own.tick(0, SECOND)
    wallets.spend(ONE, 20, 0)
    lending = own.lend(0)["one"]
    assert wallets.tokens(ONE) == 0
    assert lending.touched[""] == 33 * GRAINS


def test_a_new_size_takes_tokens_back() -> None:
    own, wallets = own_share(full=True)
    own.change(WHOLE, {"one": SIZE}, 0)
    own.tick(0, SECOND)
    own.change(WHOLE, {"one": Size(SIZE.rate, 10)}, 0)
    own.tick(0, SECOND)
    assert spent_at_once(wallets, 0) == 10
    own.change(WHOLE // 2, {"one": SIZE}, 0)
    own.tick(0, SECOND)
    assert spent_at_once(wallets, 0) == 0


@pytest.mark.parametrize("seed", range(scaled(10, 200)))
def test_never_more_than_one_bucket_of_the_largest_size(seed: int) -> None:
    random_ = random.Random(seed)
    own, wallets = own_share(full=True)
    central = Central(SIZE)
    now = 0
    for _ in range(2_000):
        now += random_.randrange(20 * MS)
        match random_.randrange(12):
            case 0:
                sizes = random_.choice([{}, {"one": SIZE}, {"one": Size(SIZE.rate // 3, 7)}])
                own.change(random_.choice((WHOLE, WHOLE // 2, 0)), sizes, now)
            case 1:
                own.lend(now)
                now += random_.randrange(SECOND)
                own.resume(now, {})
            case _:
                own.tick(now, now + SECOND)
                cost = random_.choice((1, 1, 5))
                if wallets.spend(ONE, cost, now):
                    assert central.admit(cost, now) >= 0


def test_a_full_bucket_has_what_each_process_adds() -> None:
    own, wallets = own_share(full=True)
    own.change(WHOLE, {"one": SIZE._replace(added=2)}, 0)
    own.tick(0, SECOND)
    assert spent_at_once(wallets, 0) == 52


class NotedWallets(DictWallets):
    """Wallets that note whose tokens fill the part that is never lent."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[PoolId] = []

    def keep(self, pool: PoolId) -> None:
        assert self.tokens(pool)
        self.kept.append(pool)


def test_a_key_that_nobody_asks_for_fills_the_part_that_is_never_lent() -> None:
    wallets, clock = NotedWallets(), [0]
    own = OwnShare(wallets, lambda: clock[0], full=True)
    own.change(WHOLE, {"one": SIZE}, 0, keyed={"one"})
    key = PoolId("one", "k")
    for at in range(5):
        clock[0] = at * SECOND
        if at < 2:
            wallets.spend(key, 1, clock[0])
        own.tick(clock[0], clock[0] + SECOND)
        assert wallets.kept == ([key] if at >= 3 else [])
    wallets.spend(key, 1, clock[0])
    own.tick(clock[0], clock[0] + SECOND)
    own.lend(clock[0])
    assert wallets.kept == [key, key]


def test_a_smaller_size_takes_tokens_out_of_all_wallets() -> None:
    """Also of a key that nobody asks for any more."""
    own, wallets = own_share(full=True)
    key = PoolId("keyed", "a")
    own.change(WHOLE, {"keyed": SIZE}, 0, ["keyed"])
    wallets.spend(key, 1, 0)
    own.tick(0, SECOND)
    assert wallets.tokens(key) == 50
    own.change(WHOLE, {"keyed": Size(100 * SECOND, 20)}, 0, ["keyed"])
    assert wallets.tokens(key) == 20
