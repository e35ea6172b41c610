"""Polls and answers about many keys: each key has its turn, and messages stay small."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cluster.small_cluster import TIMING, limits
from ratectl.cluster.protocol.capacity import GRAINS, WHOLE
from ratectl.cluster.protocol.lender import Lender
from ratectl.cluster.protocol.messages import (
    Drawn,
    Granted,
    Lending,
    Open,
    OwnerId,
    Poll,
    PoolId,
    Reply,
    Welcome,
)
from ratectl.cluster.protocol.owner import Owner
from ratectl.cluster.protocol.timing import MILLISECOND as MS
from ratectl.cluster.protocol.timing import SECOND
from simulation.buckets import DictWallets, OwnBuckets

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ratectl.cluster.protocol.member_session import MemberSession

OWNER = OwnerId("o", 1)
SIZES = limits(1_000, 100)


def keys(count: int, prefix: str = "k") -> list[PoolId]:
    return [PoolId("keyed", f"{prefix}{number}") for number in range(count)]


class Generous:
    """A member, and an owner that gives it one token of each key, to hold without requests."""

    def __init__(self) -> None:
        self.now = 0
        self.wallets = DictWallets()
        self.lender = Lender("m", TIMING, self.wallets, OwnBuckets(SIZES, WHOLE, 0, True))
        self.lender.set_share(WHOLE)
        self.lender.set_sizes(SIZES)
        self.replies = 1
        self.polls: list[list[PoolId]] = []
        """Keys that each poll has told of."""
        self.returned: dict[PoolId, int] = {}
        """When the member gave its token back."""
        (opened,) = self.lender.tick(0, "o")
        assert isinstance(opened, Open)
        (poll,) = self.lender.receive(Welcome("m", opened.session, OWNER, 1), 0)
        self.answer(poll)

    def answer(self, poll: object) -> None:
        assert isinstance(poll, Poll)
        self.polls.append([drawn.pool for drawn in poll.drawn])
        for drawn in poll.drawn:
            if drawn.returned:
                self.returned.setdefault(drawn.pool, self.now)
        self.replies += 1
        granted = tuple(
            Granted(each.pool, each.draw, 1, None, scarce=False, stock=1, in_vain=False)
            for each in poll.drawn
        )
        number = self.replies
        reply = Reply("m", poll.session, OWNER, number, poll.number, 2 * MS, True, granted)
        assert self.lender.receive(reply, self.now) == []

    def ask(self, pools: Iterable[PoolId]) -> None:
        for pool in pools:
            self.wallets.spend(pool, 1, self.now)

    def run(self, duration: int, busy: Iterable[PoolId] = ()) -> None:
        for _ in range(duration // MS):
            self.now += MS
            self.ask(busy)
            for poll in self.lender.tick(self.now, "o"):
                self.answer(poll)


@pytest.fixture
def few_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ratectl.cluster.protocol.lender.MOST_DRAWN", 3)


@pytest.mark.usefixtures("few_drawn")
def test_a_poll_tells_of_so_many_keys_and_the_next_ones_of_the_others() -> None:
    side = Generous()
    side.ask(keys(8))
    side.run(40 * MS)
    assert max(len(told) for told in side.polls) == 3
    assert {pool for told in side.polls for pool in told} == set(keys(8))


@pytest.mark.usefixtures("few_drawn")
def test_keys_that_are_asked_for_come_before_those_that_have_a_turn() -> None:
    side = Generous()
    side.ask(keys(8))
    side.run(100 * MS)
    side.polls.clear()
    (new,) = keys(1, "new")
    side.now += TIMING.poll_every - MS  # all have a turn now
    side.ask([new])
    side.run(MS)
    assert side.polls == [[new]]


def test_keys_that_nobody_asks_for_have_turns_while_others_are_asked_for() -> None:
    side = Generous()
    busy, idle = keys(6, "busy"), keys(12)
    side.run(10 * MS, busy)
    side.ask(idle)
    side.run(3 * SECOND, busy)
    assert side.returned.keys() == set(idle)


def test_an_idle_token_stays_as_long_as_a_part_of_ones_own_takes_to_fill() -> None:
    """A fiftieth of the rate fills half of the burst: 100 tokens at 1000/s take 2.5 seconds."""
    side = Generous()
    side.ask(keys(1))
    side.run(3 * SECOND)
    (at,) = side.returned.values()
    assert 2_500 * MS <= at <= 2_550 * MS


def with_keys(count: int, duration: int) -> tuple[Generous, MemberSession]:
    """Ask for keys, and let time pass; return the member and its session."""
    side = Generous()
    side.ask(keys(count))
    side.run(duration)
    assert side.lender.session is not None
    return side, side.lender.session


def test_a_turn_is_not_spent_on_every_poll() -> None:
    """A look at each of many keys takes time: a poll looks at so many that all have one in time."""
    side, session = with_keys(100, 5 * MS)
    turns = side.lender._turns(session, session.turned_at + TIMING.poll_every // 10)
    assert len(turns) == 10


def test_a_key_that_nobody_asks_for_has_no_turn_until_it_is_given_back() -> None:
    """Each had one every 150 ms: a member that held tokens of 5,000 keys was busy with that."""
    side, session = with_keys(100, 50 * MS)
    assert (len(session.draws), len(session.in_turn)) == (100, 0)
    side.run(2 * SECOND)
    side.ask(keys(3))  # their tokens are spent
    side.run(4 * SECOND)
    assert len(side.returned) == 97
    assert not session.draws
    assert not session._resting
    assert not session._ends


def test_an_answer_tells_of_so_many_keys_and_the_next_ones_of_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ratectl.cluster.protocol.owner.MOST_GRANTED", 3)
    owner = Owner(OWNER, TIMING, 0, lambda member: WHOLE)
    (welcome,) = owner.receive(Open("m", 1, "o"), 0)
    assert isinstance(welcome, Welcome)
    echo, told, drawn = (
        welcome.reply,
        set(),
        tuple(Drawn(pool, 1, 0, 0, 0, 1, 0) for pool in keys(8)),
    )
    full = {name: Lending(100 * GRAINS, {}) for name in SIZES}
    for number in range(1, 5):
        poll = Poll("m", 1, OWNER, number, echo, WHOLE, SIZES, full, drawn)
        (reply,) = owner.receive(poll, number * MS)
        assert isinstance(reply, Reply)
        assert len(reply.granted) <= 3
        told |= {granted.pool for granted in reply.granted}
        echo, drawn = reply.number, ()
    assert told == set(keys(8))
