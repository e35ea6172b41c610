"""Refunds of limits across processes: what was charged and not used is there for others."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
from machine import Machine

from cluster.small_cluster import KEYED, ONE, TIMING
from cluster.test_cluster_owner import drawn, lending_peer, new_owner, pool_of
from engine.engines import ENGINES
from ratectl.cluster.own_share import OwnShare
from ratectl.cluster.protocol.capacity import GRAINS, WHOLE, Size
from ratectl.cluster.protocol.draw import Draw
from ratectl.cluster.protocol.pool import LentLimit
from ratectl.cluster.protocol.rooms import Rooms
from ratectl.cluster.protocol.timing import MILLISECOND as MS
from ratectl.cluster.protocol.timing import SECOND
from ratectl.engine.algorithms.refunds import NOTHING, Refund, Refunds
from ratectl.engine.algorithms.sliding_window import SlidingWindow
from simulation.buckets import Central, CentralWindow, DictWallets
from soak import scaled

if TYPE_CHECKING:
    from ratectl.cluster.protocol.messages import Drawn
    from ratectl.cluster.protocol.pool import Account, Pool
    from ratectl.engine.decision import Decision

BUCKET = Size(0, 100)
W = 1_000 * MS
WINDOW = Size(0, 100, W)
LATER = W // 128 + 1


class OnePool:
    """The pool of one key, and the account of a member."""

    def __init__(self, size: Size) -> None:
        self.limit = LentLimit(0)
        self.limit.change(size, WHOLE, 0)
        self.pool(1).level = self.limit.lent.capacity
        self.account: Account = self.pool(1).begin("m", 1)
        self.refunded = 0

    def pool(self, now: int) -> Pool:
        return self.limit.pool("", now)

    def spend(self, tokens: int, now: int) -> None:
        pool = self.pool(now)
        assert pool.grant(self.account, tokens) == tokens
        spent = self.account.spent + tokens
        pool.report(self.account, drawn(0, spent=spent), self.limit.lent)

    def refund(self, tokens: int, charged_at: int, now: int) -> float:
        """Return how many tokens are in the pool that were not there before."""
        pool = self.pool(now)
        before = pool.level
        self.refunded += tokens
        pool.refund(self.account, self.refunded, charged_at, self.limit.lent)
        return (pool.level - before) / GRAINS


# What a pool takes back -----------------------------------------------------------------------


def test_a_pool_that_was_never_more_than_half_full_takes_tokens_back() -> None:
    one = OnePool(BUCKET)
    one.spend(60, 10)
    one.spend(20, 20)
    assert one.refund(15, 19, 30) == 15
    assert one.refund(5, 19, 40) == 5


def test_a_pool_that_was_more_than_half_full_since_takes_nothing_back() -> None:
    one = OnePool(BUCKET)
    one.spend(50, 10)
    assert one.refund(20, 9, 30) == 0
    one.spend(30, 40)
    assert one.refund(10, 10, 50) == 0, "it was full at that very instant"
    assert one.refund(10, 11, 50) == 10


def test_tokens_in_the_hands_of_members_are_in_the_pool_as_well() -> None:
    one = OnePool(BUCKET)
    one.spend(40, 10)
    one.pool(20).grant(one.account, 60)
    assert one.refund(20, 15, 30) == 0


def test_refunds_of_charges_before_an_instant_fit_into_its_room_together() -> None:
    one = OnePool(BUCKET)
    one.spend(90, 10)
    assert one.refund(30, 11, 30) == 30
    one.spend(40, 40)
    assert one.refund(30, 11, 50) == 20, "there was room for fifty at 11"
    assert one.refund(10, 45, 60) == 0, "these twenty would have been there at 45, too"
    one.pool(10 * MS)
    one.pool(20 * MS)
    assert one.refund(10, 15 * MS, 21 * MS) == 10


@pytest.mark.parametrize("size", [BUCKET, WINDOW])
def test_nobody_gives_back_more_than_was_spent(size: Size) -> None:
    one = OnePool(size)
    one.spend(80, 10)
    assert one.refund(10**40, 9 if size.window else 11, 30) == (80 if size.window else 50)
    assert one.refund(1, 11, 30) == 0


def test_what_was_spent_in_a_draw_before_is_given_back() -> None:
    one = OnePool(BUCKET)
    one.spend(80, 10)
    one.pool(20).end("m")
    one.account = one.pool(20).begin("m", 2)
    assert one.refund(30, 11, 30) == 30


@pytest.mark.parametrize("size", [BUCKET, WINDOW])
def test_nothing_is_given_back_that_was_charged_before_the_capacity_changed(size: Size) -> None:
    one = OnePool(size)
    one.spend(80, 10)
    one.limit.change(size, WHOLE, 20)
    one.limit.change(size, -WHOLE, 25)
    assert one.refund(10, 25, 30) == 0
    assert one.refund(10, 26, 30) == 10


def test_a_window_takes_places_back_that_are_cooling() -> None:
    one = OnePool(WINDOW)
    one.spend(30, 10)
    assert one.refund(20, 9, W) == 20
    one.pool(W + LATER)
    assert one.refund(5, 9, W + LATER) == 0, "they are free already"


def test_places_that_were_spent_before_stand_for_those_that_are_given_back() -> None:
    one = OnePool(WINDOW)
    one.spend(10, 10)
    one.spend(10, 300 * MS)
    one.spend(10, 600 * MS)
    assert one.refund(10, 500 * MS, 700 * MS) == 10
    assert one.pool(W + LATER).level == 90 * GRAINS
    assert one.pool(1_300 * MS + LATER).level == 90 * GRAINS, "these are given back"
    assert one.refund(10, 500 * MS, 1_310 * MS) == 0, "and those of before are free"
    assert one.pool(1_600 * MS + LATER).level == 100 * GRAINS


def test_the_rest_of_a_step_stays() -> None:
    one = OnePool(WINDOW)
    one.spend(30, 10)
    assert one.refund(10, 9, 20) == 10
    pool = one.pool(30)
    assert (pool.level, pool.cooling.total) == (80 * GRAINS, 20 * GRAINS)
    assert sum(step.grains for step in pool.cooling.steps) == 20 * GRAINS


def test_a_member_gives_back_nothing_that_others_have_spent() -> None:
    one = OnePool(WINDOW)
    one.spend(30, 10)
    other = one.pool(20).begin("other", 1)
    one.pool(20).grant(other, 60)
    one.pool(20).report(other, drawn(0, spent=60), one.limit.lent)
    assert one.refund(40, 21, 30) == 30
    assert one.refund(20, 21, 40) == 0


def test_members_that_have_left_are_forgotten_when_shares_move() -> None:
    one = OnePool(BUCKET)
    one.spend(80, 10)
    pool = one.pool(20)
    pool.end("m")
    assert pool.ended
    one.limit.change(BUCKET, WHOLE, 30)
    assert not pool.ended


# Room in the past -----------------------------------------------------------------------------


def test_the_least_room_of_a_slice_counts() -> None:
    rooms = Rooms(0, 50)
    rooms.note(1 * MS, 10)
    rooms.note(2 * MS, 30)
    assert rooms.take(40, 1) == 10
    assert Rooms(10, 50).take(40, 10) == 0, "nothing is known of the time until then"


@pytest.mark.parametrize("seed", range(scaled(10, 200)))
def test_few_slices_never_allow_more_than_the_room_there_was(seed: int) -> None:
    random_ = random.Random(seed)
    rooms, known, now = Rooms(0, 1_000), [[1, 1_000]], 0
    for _ in range(400):
        now += random_.randint(1, 40 * MS)
        room = random_.randint(0, 1_000)
        rooms.note(now, room)
        known.append([now, room])
        if random_.random() < 0.3:
            charged_at = random_.randint(0, now)
            since = [each for each in known if each[0] > charged_at]
            taken = rooms.take(random_.randint(1, 300), charged_at)
            assert taken <= min((room for _, room in since), default=0)
            for each in since:
                each[1] -= taken
        assert len(rooms._starts) <= 16
    for later in (10, 20, 30):
        rooms.note(now + later * MS, 500)
    assert rooms.take(1_000, now + 15 * MS) == 500


# What a member reports ------------------------------------------------------------------------


class Reports:
    """The draw of one pool, and its polls."""

    def __init__(self) -> None:
        self.wallets = DictWallets()
        self.draw = Draw(1, self.wallets.read(ONE), TIMING, 0)
        self.poll = 0

    def report(self, now: int, answered: int) -> Drawn | None:
        self.poll += 1
        refund = self.wallets.refunds().get(ONE, NOTHING)
        if refund.tokens:
            self.draw.refund(refund, self.poll)
        return self.draw.report(
            self.wallets, ONE, self.poll, answered, now, MS, SECOND, standing=True
        )

    def refunds(self, now: int, answered: int) -> tuple[int, int] | None:
        told = self.report(now, answered)
        return told and (told.refunded, told.refunded_after)


def test_a_report_has_the_age_of_the_oldest_charge_until_it_is_confirmed() -> None:
    one = Reports()
    one.report(0, 0)
    one.wallets.refund(ONE, 3, 5)
    assert one.refunds(10, 1) == (3, 5)
    one.wallets.refund(ONE, 4, 8)
    assert one.refunds(20, 1) == (7, 15), "nobody has confirmed the first"
    assert one.refunds(30, 2) == (7, 22), "the first is confirmed"
    assert one.refunds(40, 3) is None
    one.wallets.refund(ONE, 1, 39)
    assert one.refunds(50, 3) == (8, 11)


def test_refunds_that_come_together_are_as_old_as_the_oldest() -> None:
    one = Reports()
    one.wallets.refund(ONE, 3, 8)
    one.wallets.refund(ONE, 4, 5)
    one.wallets.refund(KEYED, 9, 1)
    assert one.refunds(10, 0) == (7, 5)


def test_refunds_of_too_many_keys_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ratectl.engine.algorithms.refunds._MOST_KEYS", 2)
    refunds = Refunds()
    for key in ("a", "b", "c", "a"):
        refunds.add(key, Refund(1, 5))
    refunds.add("a", Refund(0, 1))
    assert refunds.take() == {"a": Refund(2, 5), "b": Refund(1, 5)}
    assert not refunds
    assert NOTHING.joined(Refund(1, 7)) == Refund(1, 7).joined(NOTHING) == Refund(1, 7)


# What an owner makes of it --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("after", "echo", "given"),
    [
        (0, None, 20),
        (2 * MS, None, 20),
        (3 * MS, None, 0),
        (10**30, None, 0),
        (0, 10**6, 0),
    ],
)
def test_a_charge_is_older_than_the_newest_answer_that_the_member_had(
    after: int, echo: int | None, given: int
) -> None:
    """The pool was full until 20 ms. The newest answer was sent at 23 ms."""
    owner = new_owner()
    peer = lending_peer(owner, "m0")
    peer.send(10 * MS, drawn(40))
    peer.send(20 * MS, drawn(0, spent=40))
    peer.send(23 * MS, drawn(0, spent=40))
    if echo is not None:
        peer.echo = echo
    peer.send(25 * MS, drawn(0, spent=40)._replace(refunded=20, refunded_after=after))
    assert pool_of(owner).level / GRAINS == pytest.approx(50 - 40 + 2.5 + given, abs=0.1)


def test_a_refund_is_given_back_once_however_often_it_is_reported() -> None:
    owner = new_owner()
    peer = lending_peer(owner, "m0")
    peer.send(10 * MS, drawn(48))
    peer.send(20 * MS, drawn(0, spent=48))
    peer.send(22 * MS, drawn(0, spent=48))
    for at in (23, 24, 25, 26):
        peer.send(at * MS, drawn(0, spent=48)._replace(refunded=4))
    assert pool_of(owner).level / GRAINS == pytest.approx(50 - 48 + 3 + 4, abs=0.1)


def test_a_last_report_that_is_repeated_refunds_nothing_again() -> None:
    """The account ends with it."""
    owner = new_owner()
    peer = lending_peer(owner, "m0")
    peer.send(10 * MS, drawn(50, pool=KEYED))
    for at in (11, 12, 13):
        peer.send(at * MS, drawn(1, spent=49, pool=KEYED))
    last = drawn(0, spent=49, returned=1, pool=KEYED)._replace(refunded=10)
    for at in range(14, 19):
        peer.send(at * MS, last)
    level = pool_of(owner, KEYED).level / GRAINS
    assert level == pytest.approx(50 - 49 + 8 / 2 + 10, abs=0.6)


# Real engines ---------------------------------------------------------------------------------


class Reserving:
    """Two members charge ten tokens for each request, and settle it with four after 200 ms."""

    def __init__(self, engine: str | None, central: Central | CentralWindow, **limits: Any) -> None:
        self.machine = machine = Machine(**limits.get("plain", {}))
        if engine is not None:
            machine.make_engine = ENGINES[engine]
        machine.by_tenant = limits.get("by_tenant", {})
        self.central = central
        self.members = machine.start(2)
        self.open: list[tuple[Decision, int]] = []
        self.used = 0
        machine.run(2 * SECOND)

    def each(self, step: int) -> None:
        now = self.machine.now
        while self.open and self.open[0][1] <= now - 200 * MS:
            decision, charged_at = self.open.pop(0)
            decision.settle(4)
            self.central.refund(6, charged_at, now)
        for member in self.members:
            decision = member.engine.check("/", {"tenant": "a"}, 10)
            if decision.allowed:
                assert self.central.admit(10, now) >= 0
                self.open.append((decision, now))
                self.used += 4

    def used_per_second(self, seconds: int) -> float:
        """Return the tokens that requests use in each second, after the burst."""
        self.machine.run(3 * SECOND, self.each)
        self.used = 0
        self.machine.run(seconds * SECOND, self.each)
        return self.used / seconds


@pytest.mark.parametrize("engine", sorted(ENGINES))
def test_a_key_that_nobody_asks_for_any_more_is_refunded(engine: str) -> None:
    one = Reserving(engine, Central(Size(100 * SECOND, 100)), by_tenant=BUCKETS)
    one.machine.run(2 * SECOND, one.each)
    one.machine.run(300 * MS)
    (pool,) = [
        pool
        for owner in one.machine.owners
        for limit in owner.limits.values()
        for pool in limit.pools.values()
    ]
    before = sum(account.refunded for account in pool.accounts.values())
    for decision, _ in one.open:
        decision.settle(4)
    one.machine.run(200 * MS)
    assert sum(account.refunded for account in pool.accounts.values()) > before


BUCKETS = {"shared": (100, 100)}
WINDOWS = {"shared": SlidingWindow(800, 16 * SECOND)}


@pytest.mark.parametrize("engine", sorted(ENGINES))
@pytest.mark.parametrize("kind", ["plain", "by_tenant"])
def test_what_was_reserved_and_not_used_is_used_by_others(engine: str, kind: str) -> None:
    """Without refunds it would be 40 a second."""
    central = Central(Size(100 * SECOND, 100))
    assert Reserving(engine, central, **{kind: BUCKETS}).used_per_second(6) > 95


@pytest.mark.parametrize("kind", ["plain", "by_tenant"])
def test_places_that_were_reserved_and_not_used_are_used_by_others(kind: str) -> None:
    """Without refunds it would be 20 a second."""
    reserving = Reserving(None, CentralWindow(Size(0, 800, 16 * SECOND)), **{kind: WINDOWS})
    reserving.machine.run(16 * SECOND, reserving.each)
    assert reserving.used_per_second(16) > 30


def test_a_share_that_is_not_lent_takes_tokens_back_as_well() -> None:
    wallets = DictWallets()
    own = OwnShare(wallets, lambda: 0, full=True)
    own.change(WHOLE, {"one": Size(100 * SECOND, 50)}, 0)
    own.tick(0, SECOND)
    assert wallets.spend(ONE, 45, 0)
    own.tick(10 * MS, SECOND)
    assert wallets.spend(ONE, 5, 11 * MS)
    own.tick(20 * MS, SECOND)
    wallets.refund(ONE, 4, 11 * MS)
    wallets.refund(ONE, 3, 10 * MS)
    own.tick(20 * MS, SECOND)
    assert wallets.tokens(ONE) == 1, "one of them was charged as the bucket was more than half full"
    wallets.refund(ONE, 4, 11 * MS)
    own.tick(20 * MS, SECOND)
    assert wallets.tokens(ONE) == 5
