"""The member's side, message by message."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.small_cluster import KEYED, ONE, TIMING, limits
from ratectl.cluster.protocol.capacity import GRAINS, WHOLE
from ratectl.cluster.protocol.lender import Lender
from ratectl.cluster.protocol.messages import (
    Close,
    Closed,
    Granted,
    Open,
    OwnerId,
    Poll,
    PoolId,
    Reply,
    ToOwner,
    Unknown,
    Welcome,
)
from ratectl.cluster.protocol.timing import MILLISECOND as MS
from simulation.buckets import DictWallets, OwnBuckets

A, A2, B = OwnerId("a", 1), OwnerId("a", 2), OwnerId("b", 1)
LEASE = TIMING.lease
RESUME = TIMING.resume_after


class Side:
    """One lender, and an owner's answers to it."""

    def __init__(self, *, resume_at: int | None = None) -> None:
        self.wallets = DictWallets()
        sizes = limits(1_000, 100)
        self.own = OwnBuckets(sizes, WHOLE, 0, resume_at is None)
        self.lender = Lender("m0", TIMING, self.wallets, self.own, resume_at=resume_at)
        self.lender.set_share(WHOLE)
        self.lender.set_sizes(sizes, (ONE,))
        self.replies = 0

    def begin(self, now: int, owner: OwnerId = A) -> Poll:
        """Open a session, and return its first poll."""
        (opened,) = self.lender.tick(now, owner.name)
        assert isinstance(opened, Open)
        (poll,) = self.welcome(opened, now, owner)
        assert isinstance(poll, Poll)
        return poll

    def welcome(self, opened: Open, now: int, owner: OwnerId = A) -> list[ToOwner]:
        self.replies += 1
        return self.lender.receive(Welcome("m0", opened.session, owner, self.replies), now)

    def reply(self, to: Poll, *granted: Granted, **changes: object) -> Reply:
        self.replies += 1
        reply = Reply("m0", to.session, to.owner, self.replies, to.number, 2 * MS, True, granted)
        return replace(reply, **changes)  # type: ignore[arg-type]

    def poll_at(self, now: int) -> Poll:
        (poll,) = self.lender.tick(now, "a")
        assert isinstance(poll, Poll)
        return poll

    def tokens(self, pool: PoolId = ONE) -> int:
        return self.wallets.read(pool).tokens


def granted(tokens: int, draw: int = 1, pool: PoolId = ONE, **changes: object) -> Granted:
    grant = Granted(
        pool, draw, tokens, None, scarce=False, stock=0 if pool.key else 5, in_vain=False
    )
    return grant._replace(**changes)  # type: ignore[arg-type]


def test_member_is_empty_handed_before_it_lends() -> None:
    side = Side()
    poll = side.begin(0)
    assert side.lender.lent
    assert poll.lending["one"].untouched == 100 * GRAINS
    assert side.own.level(ONE, 0) == 0
    assert (poll.share, poll.number, poll.echo) == (WHOLE, 1, 1)


def test_no_poll_and_no_session_from_lend_until_on() -> None:
    side = Side()
    side.lender.lend_until = 100 * MS
    (opened,) = side.lender.tick(99 * MS, "a")
    assert isinstance(opened, Open)
    assert side.welcome(opened, 100 * MS) == []
    assert not side.lender.lent  # its own tokens are where they were
    assert side.own.level(ONE, 100 * MS) == 100 * GRAINS
    assert side.lender.tick(150 * MS, "a") == []


def test_session_ends_at_lend_until() -> None:
    side = Side()
    side.lender.lend_until = 10 * MS
    poll = side.begin(0)
    side.lender.receive(side.reply(poll, granted(7)), 2 * MS)
    assert side.tokens() == 7
    side.wallets.spend(ONE, 7, 9 * MS)
    assert side.lender.receive(side.reply(poll, granted(9)), 10 * MS) == []
    assert side.lender.tick(10 * MS, "a") == []
    assert side.lender.session is None
    assert not side.wallets.usable(10 * MS)
    assert side.lender.lent


def test_other_owner_has_to_wait_and_the_same_one_has_not() -> None:
    side = Side()
    side.begin(0)
    end = LEASE
    # The lease ends without an answer: the same owner is asked at once.
    (again,) = side.lender.tick(end, "a")
    assert isinstance(again, Open)
    assert side.lender.tick(end + LEASE, "b") == []
    # Another one, and the same name after a restart, are answered only when the share is back.
    assert side.welcome(again, end + MS, A2) == []
    assert side.welcome(again, end + MS, B) == []
    assert side.lender.session is None
    (poll,) = side.welcome(again, end + 2 * MS)
    assert isinstance(poll, Poll)
    assert poll.lending == {}


def test_an_owner_is_asked_for_what_it_has_of_the_share_only_if_it_has_answered() -> None:
    """Otherwise it may have what was left of it long ago."""
    side = Side()
    poll = side.begin(0)
    assert poll.lending
    side.lender.receive(side.reply(poll), MS)
    (opened,) = side.lender.tick(LEASE, "a")
    assert isinstance(opened, Open)
    (poll,) = side.welcome(opened, LEASE + MS)
    assert isinstance(poll, Poll)
    assert poll.lending is None


def test_share_is_used_again_after_the_wait_with_no_tokens() -> None:
    side = Side()
    side.begin(5 * MS)
    side.lender.tick(5 * MS + RESUME - 1, None)
    assert side.lender.lent
    side.lender.tick(5 * MS + RESUME, None)
    assert not side.lender.lent
    assert side.own.level(ONE, 5 * MS + RESUME) == 0
    (opened,) = side.lender.tick(5 * MS + RESUME + LEASE, "b")
    (poll,) = side.welcome(opened, 5 * MS + RESUME + LEASE, B)
    assert isinstance(poll, Poll)


def test_only_a_new_echo_prolongs_the_wait() -> None:
    side = Side()
    poll = side.begin(0)
    side.lender.receive(side.reply(poll), MS)
    second = side.poll_at(20 * MS)
    assert second.echo == 2
    for now in (40, 59):  # no answer: it repeats what it said
        assert side.poll_at(now * MS).echo == 2
    side.lender.tick(20 * MS + RESUME - 1, None)
    assert side.lender.lent
    side.lender.tick(20 * MS + RESUME, None)
    assert not side.lender.lent


def test_restarted_member_waits() -> None:
    side = Side(resume_at=50 * MS)
    assert side.lender.lent
    assert side.lender.tick(0, "a") == []
    (opened,) = side.lender.tick(50 * MS, "a")
    assert not side.lender.lent
    (poll,) = side.welcome(opened, 51 * MS)
    assert isinstance(poll, Poll)
    assert poll.lending["one"].untouched == MS * side.own.sizes["one"].rate * WHOLE


@pytest.mark.parametrize(
    "changes",
    [{"session": 2}, {"session": 0}, {"owner": A2}, {"owner": B}],
)
def test_foreign_answer_is_ignored(changes: dict[str, object]) -> None:
    side = Side()
    poll = side.begin(0)
    side.lender.receive(side.reply(poll, granted(7), **changes), MS)
    side.lender.receive(Unknown("m0", 1, B), MS)
    side.lender.receive(Unknown("m0", 2, A), MS)
    side.lender.receive(Closed("m0", 1, A, {}), MS)
    assert side.tokens() == 0
    assert side.lender.session is not None
    assert side.wallets.deadline == LEASE


def test_unknown_session_ends_at_once_and_its_tokens_are_void() -> None:
    side = Side()
    poll = side.begin(0)
    side.lender.receive(side.reply(poll, granted(7)), MS)
    side.lender.receive(Unknown("m0", 1, A), 2 * MS)
    assert side.lender.session is None
    assert side.tokens() == 0
    assert not side.wallets.usable(2 * MS)
    (opened,) = side.lender.tick(10 * MS, "a")
    assert opened == Open("m0", 2, "a")


def test_repeated_and_overtaken_answers_give_nothing() -> None:
    side = Side()
    poll = side.begin(0)
    first = side.reply(poll, granted(3))
    second = side.reply(poll, granted(5))
    late = side.reply(poll, granted(4, hold=0))
    newest = side.reply(poll, granted(9))
    for answer, tokens in [
        (first, 3),
        (first, 3),
        (second, 5),
        (newest, 9),
        (late, 9),
        (second, 9),
    ]:
        side.lender.receive(answer, 2 * MS)
        assert side.tokens() == tokens
    side.lender.receive(first, 3 * MS)
    assert side.wallets.deadline == LEASE  # from when the poll was sent


def test_answer_after_the_deadline_revives_nothing() -> None:
    side = Side()
    poll = side.begin(0)
    side.lender.receive(side.reply(poll, granted(7)), MS)
    assert side.lender.receive(side.reply(poll, granted(9)), LEASE) == []
    assert side.lender.session is None
    assert side.tokens() == 0
    assert not side.wallets.usable(LEASE)


def test_lease_counts_from_when_the_answered_poll_was_sent() -> None:
    side = Side()
    poll = side.begin(0)
    side.lender.receive(side.reply(poll), 10 * MS)
    second = side.poll_at(20 * MS)
    side.lender.receive(side.reply(second), 50 * MS)
    assert side.wallets.deadline == 20 * MS + LEASE


def test_answer_to_a_poll_that_was_never_sent_prolongs_nothing() -> None:
    side = Side()
    poll = side.begin(0)
    side.lender.receive(side.reply(poll, granted(3), poll=10**300), 10 * MS)
    assert side.wallets.deadline == LEASE


@given(
    st.lists(
        st.tuples(
            st.integers(-5, 20), st.one_of(st.none(), st.integers(-5, 20)), st.integers(0, 4)
        ),
        max_size=12,
    )
)
def test_member_holds_what_it_may_and_no_wallet_is_below_0(
    answers: list[tuple[int, int | None, int]],
) -> None:
    side = Side()
    poll = side.begin(0)
    most = spent = 0
    for tokens, hold, cost in answers:
        side.lender.receive(side.reply(poll, granted(tokens, hold=hold)), MS)
        most = max(most, tokens)
        assert 0 <= side.tokens() <= max(0, most - spent)
        if hold is not None:
            assert side.tokens() <= max(0, hold)
        spent += cost * side.wallets.spend(ONE, cost, MS)
    drawn = next(each for each in side.poll_at(40 * MS).drawn if each.pool == ONE)
    assert drawn.spent == spent
    assert drawn.spent + drawn.voided + drawn.returned + side.tokens() == most


def test_hold_takes_what_is_beyond() -> None:
    side = Side()
    poll = side.begin(0)
    side.lender.receive(side.reply(poll, granted(10)), MS)
    side.wallets.spend(ONE, 2, MS)
    side.lender.receive(side.reply(poll, granted(14, hold=5)), MS)
    assert side.tokens() == 5
    side.lender.receive(side.reply(poll, granted(14, hold=5)), MS)
    assert side.tokens() == 5
    second = side.poll_at(20 * MS)
    (drawn,) = (each for each in second.drawn if each.pool == ONE)
    assert (drawn.spent, drawn.voided, drawn.returned) == (2, 7, 0)


# Draws --------------------------------------------------------------------------------------------


def final_poll(side: Side) -> tuple[Poll, int, int]:
    """Ask once for a key, then lose interest. Return the final poll, its draw, and the time."""
    poll = side.begin(0)
    side.lender.receive(side.reply(poll), MS)
    side.wallets.spend(KEYED, 1, 2 * MS)
    for now in range(3 * MS, 500 * MS, MS):
        for poll in side.lender.tick(now, "a"):
            assert isinstance(poll, Poll)
            for drawn in poll.drawn:
                if drawn.pool == KEYED and drawn.want == 0:
                    return poll, drawn.draw, now
            side.lender.receive(side.reply(poll), now)
    raise AssertionError


def test_tokens_that_come_when_the_interest_is_over_are_given_back() -> None:
    """The wallet was dropped with the tokens in it, and the owner took them for held for ever."""
    side = Side()
    final, draw, now = final_poll(side)
    returned = 0
    # The owner granted 3 tokens before it had this poll, and says so again in its answer.
    side.lender.receive(side.reply(final, granted(3, draw, KEYED)), now)
    for _ in range(60):
        now += MS
        for poll in side.lender.tick(now, "a"):
            assert isinstance(poll, Poll)
            returned = max([returned, *(e.returned for e in poll.drawn if e.pool == KEYED)])
            side.lender.receive(side.reply(poll, granted(3, draw, KEYED)), now)
    assert returned == 3
    assert side.tokens(KEYED) == 0


def test_tokens_of_an_old_draw_are_never_in_the_wallet_of_a_new_one() -> None:
    """The owner counts what the old draw held as spent as soon as it hears of the new one."""
    side = Side()
    final, draw, now = final_poll(side)
    # Granted before the owner has the final poll; it is the answer to an older one.
    grant = side.reply(final, granted(3, draw, KEYED), poll=final.number - 1)
    side.lender.receive(grant, now)
    side.wallets.spend(KEYED, 1, now)
    poll = side.poll_at(now + 20 * MS)
    (drawn,) = (each for each in poll.drawn if each.pool == KEYED)
    assert drawn.draw == draw
    assert drawn.spent == 1


def test_draw_is_not_over_while_it_asks_for_a_large_request() -> None:
    """The draw ended when the request was too large, and the owner granted the tokens later."""
    side = Side()
    poll = side.begin(0)
    side.lender.receive(side.reply(poll), MS)
    side.wallets.spend(KEYED, 5, 2 * MS)
    for now in range(3 * MS, 250 * MS, MS):  # less than the interest
        for poll in side.lender.tick(now, "a"):
            assert isinstance(poll, Poll)
            grant = granted(0, 2, KEYED, in_vain=True)
            side.lender.receive(side.reply(poll, grant), now)
    assert side.lender.session is not None
    assert not side.lender.session.draws[KEYED].is_final
    side.lender.receive(side.reply(poll, granted(5, 2, KEYED)), now)
    assert side.tokens(KEYED) == 5


def test_draw_that_is_over_begins_again_with_another_number() -> None:
    side = Side()
    poll = side.begin(0)
    side.lender.receive(side.reply(poll), MS)
    numbers = []
    now = 2 * MS
    for _ in range(3):
        side.wallets.spend(KEYED, 1, now)
        for _ in range(80):
            now += MS
            for poll in side.lender.tick(now, "a"):
                assert isinstance(poll, Poll)
                numbers.extend(each.draw for each in poll.drawn if each.pool == KEYED)
                side.lender.receive(side.reply(poll), now)
        assert side.lender.session is not None
        assert KEYED not in side.lender.session.draws
    assert len(set(numbers)) == 3
    assert numbers == sorted(numbers)
    # Grants to an old draw are ignored.
    side.wallets.spend(KEYED, 1, now)
    poll = side.poll_at(now + 20 * MS)
    side.lender.receive(side.reply(poll, granted(50, numbers[-1], KEYED)), now + 20 * MS)
    assert side.tokens(KEYED) == 0


# Sessions -----------------------------------------------------------------------------------------


def test_slow_network_does_not_prevent_a_session() -> None:
    """Each repeated OPEN had another number: answers that took longer than a tenth of the lease
    were all ignored."""
    side = Side()
    opened = [message for now in range(0, 30 * MS, MS) for message in side.lender.tick(now, "a")]
    assert len(opened) > 3
    assert isinstance(opened[0], Open)
    assert len(side.welcome(opened[0], 30 * MS)) == 1


def test_answer_begins_one_session_only() -> None:
    """A repeated WELCOME began the same session again, after it had ended."""
    side = Side()
    poll = side.begin(0)
    side.lender.receive(side.reply(poll), MS)
    (close,) = side.lender.close(2 * MS)
    side.lender.receive(Closed("m0", 1, A, {}), 3 * MS)
    side.lender.tick(3 * MS, None)
    assert not side.lender.lent
    assert side.lender.receive(Welcome("m0", 1, A, 1), 4 * MS) == []
    assert not side.lender.lent
    assert isinstance(close, Close)


def test_close_is_repeated_and_the_share_is_back_at_once_when_it_is_answered() -> None:
    side = Side()
    poll = side.begin(0)
    side.lender.receive(side.reply(poll, granted(7)), MS)
    close = Close("m0", 1, A)
    assert side.lender.close(2 * MS) == [close]
    assert side.tokens() == 0
    assert side.lender.close(2 * MS) == []
    assert side.lender.tick(10 * MS, "a") == [close]
    side.lender.receive(Closed("m0", 9, A, {}), 11 * MS)
    assert side.lender.tick(20 * MS, "a") == [close]
    side.lender.receive(Closed("m0", 1, A, {}), 21 * MS)
    side.lender.tick(21 * MS, None)
    assert not side.lender.lent


def test_member_moves_to_another_owner_when_the_hint_changes() -> None:
    """A member stayed while it was answered: two owners could have half of the limit each."""
    side = Side()
    poll = side.begin(0)
    side.lender.receive(side.reply(poll, granted(7)), MS)
    side.lender.tick(2 * MS, None)
    assert side.lender.session is not None
    assert side.lender.tick(3 * MS, "b") == [Close("m0", 1, A)]
    assert side.lender.tick(4 * MS, "b") == []
    side.lender.receive(Closed("m0", 1, A, {}), 5 * MS)
    assert side.lender.tick(10 * MS, "b") == [Open("m0", 2, "b")]
    assert not side.lender.lent


def test_close_without_an_answer_costs_the_wait_only() -> None:
    side = Side()
    side.begin(0)
    side.lender.close(2 * MS)
    side.lender.receive(Unknown("m0", 1, A), 3 * MS)
    side.lender.tick(RESUME - 1, "a")
    assert side.lender.lent
    side.lender.tick(RESUME, "a")
    assert not side.lender.lent


def test_sizes_are_told_until_they_are_known() -> None:
    side = Side()
    poll = side.begin(0)
    assert poll.sizes is not None
    side.lender.receive(side.reply(poll), MS)
    assert side.poll_at(20 * MS).sizes is None
    side.lender.set_sizes(limits(2_000, 200), (ONE,))
    for now in (38, 56):
        told = side.poll_at(now * MS)
        assert told.sizes == limits(2_000, 200)
    side.lender.receive(side.reply(told, poll=told.number - 1), 57 * MS)
    assert side.poll_at(75 * MS).sizes is None


@pytest.mark.parametrize(("scarce", "asks"), [(False, True), (True, False)])
def test_an_empty_wallet_is_told_before_a_request_is_refused(scarce: bool, asks: bool) -> None:
    """Unless the pool is empty as well: then the owner grants as tokens accrue."""
    side = Side()
    poll = side.begin(0)
    answer = side.reply(poll, granted(2, stock=2, scarce=scarce), gap=20 * MS)
    assert side.lender.receive(answer, MS) == []
    assert side.wallets.spend(ONE, 1, MS)
    assert side.lender.tick(2 * MS, "a") == []
    assert side.wallets.spend(ONE, 1, 2 * MS)
    assert len(side.lender.tick(3 * MS, "a")) == asks


def test_time_that_stands_still_sends_no_flood() -> None:
    side = Side()
    poll = side.begin(0)
    sent = 0
    for _ in range(100):
        side.wallets.spend(ONE, 1, 0)
        sent += len(side.lender.receive(side.reply(poll), 0)) + len(side.lender.tick(0, "a"))
    assert sent == 0


def test_sizes_are_settled_when_the_owner_has_answered_a_poll_with_them() -> None:
    """Until then it counts those before: a limit that moves to other shards waits for that."""
    side = Side()
    assert side.lender.sizes_settled
    poll = side.begin(0)
    side.lender.set_sizes(limits(500, 50), (ONE,))
    assert not side.lender.sizes_settled
    side.lender.receive(side.reply(poll, granted(1)), MS)
    assert not side.lender.sizes_settled, "that poll had the sizes before"
    now = MS + TIMING.poll_every
    poll = side.poll_at(now)
    assert poll.sizes == limits(500, 50)
    side.lender.receive(side.reply(poll, granted(1), settled=False), now)
    assert not side.lender.sizes_settled, "tokens are recalled"
    poll = side.poll_at(now + TIMING.poll_every)
    side.lender.receive(side.reply(poll, granted(1)), now + TIMING.poll_every)
    assert side.lender.sizes_settled


def test_sizes_are_settled_when_the_member_has_its_share_back() -> None:
    side = Side()
    side.begin(0)
    side.lender.set_sizes(limits(500, 50), (ONE,))
    side.lender.tick(LEASE, None)
    assert not side.lender.sizes_settled, "the owner may still count the share"
    side.lender.tick(RESUME, None)
    assert side.lender.sizes_settled
    side.lender.set_sizes(limits(400, 40), (ONE,))
    assert side.lender.sizes_settled, "nobody else counts them"
