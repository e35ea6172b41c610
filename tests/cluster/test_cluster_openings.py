"""An owner remembers members before their sessions begin and after they have ended."""

from __future__ import annotations

from ratectl.cluster.protocol.messages import Open, OwnerId, Poll
from ratectl.cluster.protocol.openings import Openings


def first_poll(session: int, echo: int) -> Poll:
    return Poll("m", session, OwnerId("o", 1), 1, echo, 0, {}, {}, ())


def test_a_session_begins_with_a_poll_that_echoes_a_fresh_answer() -> None:
    openings = Openings()
    replies = openings.asked(Open("m", 2, "o"))
    assert replies is not None
    replies.append((7, 100))
    assert openings.begun(first_poll(2, 7), after=99) is replies
    assert openings.begun(first_poll(2, 7), after=100) is None
    assert openings.begun(first_poll(2, 6), after=99) is None
    assert openings.begun(first_poll(1, 7), after=99) is None


def test_an_older_session_is_not_opened_again() -> None:
    openings = Openings()
    assert openings.asked(Open("m", 2, "o")) is not None
    assert openings.asked(Open("m", 1, "o")) is None
    assert openings.asked(Open("m", 2, "o")) is not None  # the answer was lost


def test_a_session_that_has_ended_stays_so_though_an_older_one_ends_later() -> None:
    openings = Openings()
    openings.end("m", 2)
    openings.end("m", 1)
    assert openings.is_over("m", 2)
    assert openings.asked(Open("m", 2, "o")) is None
    assert openings.asked(Open("m", 3, "o")) is not None


def test_members_without_a_session_are_forgotten() -> None:
    openings = Openings()
    for member in ("gone", "here", "late"):
        replies = openings.asked(Open(member, 1, "o"))
        assert replies is not None
        replies.append((1, 11 if member == "late" else 10))
        openings.end(member, 1)
        openings.closing.add(member)
    openings.forget(10, {"here"})
    assert [member in openings for member in ("gone", "here", "late")] == [False, True, True]
    assert openings.closing == {"here", "late"}
    assert not openings.is_over("gone", 1)
