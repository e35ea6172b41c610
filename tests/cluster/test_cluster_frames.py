"""Frames and messages as bytes: exact round trips, and nothing but FrameError for what is wrong."""

from __future__ import annotations

import json
import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ratectl.cluster.protocol.capacity import Size
from ratectl.cluster.protocol.cooling import Step
from ratectl.cluster.protocol.messages import (
    Close,
    Closed,
    Drawn,
    Granted,
    Lending,
    Open,
    OwnerId,
    Poll,
    PoolId,
    Reply,
    Unknown,
    Welcome,
)
from ratectl.cluster.transport.codec import decode, encode
from ratectl.cluster.transport.fields import LARGEST, LONGEST, MOST_ENTRIES
from ratectl.cluster.transport.frames import MOST_BYTES, FrameError, Frames, framed
from ratectl.cluster.transport.hello import Hello, Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratectl.cluster.transport.codec import Message

NUMBERS = st.integers(0, LARGEST) | st.integers(0, 9)
# Keys come from requests: every text is possible, lone surrogates and control characters as well.
TEXTS = st.text(st.characters(codec=None, exclude_categories=()), max_size=12)
OWNERS = st.builds(OwnerId, TEXTS, NUMBERS)
POOLS = st.builds(PoolId, TEXTS, TEXTS)
DRAWN = st.builds(Drawn, POOLS, *[NUMBERS] * 8)
GRANTED = st.builds(
    Granted, POOLS, NUMBERS, NUMBERS, st.none() | NUMBERS, st.booleans(), NUMBERS, st.booleans()
)
SIZES = st.dictionaries(TEXTS, st.builds(Size, *[NUMBERS] * 5), max_size=4)
STEPS = st.lists(st.builds(Step, NUMBERS, NUMBERS), min_size=1, max_size=3).map(tuple)
LENDING = st.dictionaries(
    TEXTS,
    st.builds(
        Lending,
        NUMBERS,
        st.dictionaries(TEXTS, NUMBERS, max_size=4),
        st.dictionaries(TEXTS, STEPS, max_size=4),
    ),
    max_size=4,
)
HEAD = (TEXTS, NUMBERS, OWNERS)
POLLS = st.builds(
    Poll, *HEAD, NUMBERS, NUMBERS, NUMBERS, st.none() | SIZES, st.none() | LENDING,
    st.lists(DRAWN, max_size=4).map(tuple),
)  # fmt: skip
REPLIES = st.builds(
    Reply, *HEAD, NUMBERS, NUMBERS, NUMBERS, st.booleans(), st.lists(GRANTED, max_size=4).map(tuple)
)
MESSAGES: st.SearchStrategy[Message] = st.one_of(
    POLLS,
    REPLIES,
    st.builds(Open, TEXTS, NUMBERS),
    st.builds(Welcome, *HEAD, NUMBERS),
    *(st.builds(kind, *HEAD) for kind in (Close, Unknown)),
    st.builds(Closed, *HEAD, LENDING),
    st.builds(Hello, NUMBERS, TEXTS, TEXTS),
    st.builds(Refusal, TEXTS),
)

POLL = Poll(
    "member",
    7,
    OwnerId("owner", 3),
    12,
    11,
    50_000,
    {"limit": Size(10**30, 100, 10**10)},
    {"limit": Lending(10**40, {"key": 5}, {"key": (Step(5, 6), Step(7, 8))})},
    (Drawn(PoolId("limit", "key"), 1, 2, 3, 4, 5, 6, 7, 8),),
)
REPLY = Reply(
    "member",
    7,
    OwnerId("owner", 3),
    1,
    2,
    3,
    True,
    (Granted(PoolId("l", "k"), 1, 2, 9, True, 4, False),),
)


@contextmanager
def quickly(seconds: float = 5) -> Iterator[None]:
    """Check that a bound holds: what has none takes minutes."""
    begun = time.process_time()
    yield
    assert time.process_time() - begun < seconds


# Messages -----------------------------------------------------------------------------------------


@given(MESSAGES)
@example(Open("\ud83d\ude00 \ud83d", 0, "o"))
def test_messages_survive_exactly(message: Message) -> None:
    again = decode(encode(message))
    assert again == message
    assert type(again) is type(message)


@given(MESSAGES, st.lists(st.none() | st.booleans() | NUMBERS | TEXTS | st.just([1]), max_size=4))
def test_more_fields_of_a_newer_version_are_ignored(message: Message, more: list[Any]) -> None:
    fields = json.loads(encode(message).decode("utf-8", "surrogatepass"))
    body = json.dumps([*fields, *more], ensure_ascii=False).encode("utf-8", "surrogatepass")
    assert decode(body) == message


@given(MESSAGES, st.data())
def test_missing_fields_are_refused(message: Message, data: st.DataObject) -> None:
    fields = json.loads(encode(message).decode("utf-8", "surrogatepass"))
    kept = fields[: data.draw(st.integers(0, len(fields) - 1))]
    with pytest.raises(FrameError):
        decode(json.dumps(kept).encode())


WRONG = [
    True, False, -1, -(10**30), LARGEST + 1, 10**63, 1.0, 1e400, "1", {}, {"a": 1}, [[]],
    "x" * (LONGEST + 1),
]  # fmt: skip


def _places(fields: list[Any]) -> Iterator[tuple[list[Any], int]]:
    for at, field in enumerate(fields):
        yield fields, at
        if isinstance(field, list):
            yield from ((field, inner) for inner in range(len(field)))


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: repr(wrong)[:12])
@pytest.mark.parametrize("message", [POLL, REPLY], ids=["poll", "reply"])
def test_no_field_accepts_what_is_of_another_type(message: Message, wrong: Any) -> None:
    count = len(list(_places(json.loads(encode(message)))))
    for number in range(count):
        holder, at = list(_places(fields := json.loads(encode(message))))[number]
        if type(holder[at]) is type(wrong) and wrong == "1":
            continue  # a text like another, or an unknown kind
        if isinstance(holder[at], bool) and isinstance(wrong, bool):
            continue
        holder[at] = wrong
        with pytest.raises(FrameError):
            decode(json.dumps(fields).encode())


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "no JSON"),
        (b"[", "no JSON"),
        (b"[]", "empty"),
        (b"{}", "no array"),
        (b"7", "no array"),
        (b"null", "no array"),
        (b'["open","m",1] x', "no JSON"),
        (b'["open","m",1]["open","m",1]', "no JSON"),
        (b'["open","m",01]', "no JSON"),
        (b'["open","m\x00",1]', "no JSON"),
        (b'["open","m",NaN]', "NaN is no number"),
        (b'["open","m",Infinity]', "Infinity is no number"),
        (b'["open","m",-Infinity]', "-Infinity is no number"),
        (b'["open","m",1,NaN]', "NaN is no number"),
        (b'["open","m"]', "open: the field session is missing"),
        (b'["open","m",-1,"o"]', r"open: session is not a whole number from 0 to 10\^48"),
        (b'["open","m",true,"o"]', "open: session is not"),
        (b'["open","m",1]', "open: the field owner is missing"),
        (b'["open",null,1,"o"]', "open: member is not a text"),
        (b'["opens","m",1]', "an unknown kind of message: 'opens'"),
        (b'[["open"],"m",1]', "does not begin with its kind"),
        (b'[{"a":1,"a":2},"m",1]', "does not begin with its kind"),
        (b"\xff\xfe[\x00]\x00", "no JSON"),
        (b'["open","\xff",1]', "no JSON"),
        (b'\xef\xbb\xbf["open","m",1]', "no JSON"),
    ],
)
def test_what_is_no_message(body: bytes, why: str) -> None:
    with pytest.raises(FrameError, match=why):
        decode(body)


@pytest.mark.parametrize(
    ("at", "value", "why"),
    [
        (9, ["l", 1, 2, 0, 0, 0, "l", 3, 4, 0, 0, 0], "sizes: a limit is there twice"),
        (10, ["l", 1, "l", 2], "lending: a limit is there twice"),
        (11, ["limit", "k", 1, "limit", "k", 1], "key 'k' is there twice"),
        (11, ["other", "k", 1], "limit 'other' is not lent"),
        (12, ["other", "k", 1, 2], "cooling: limit 'other' is not lent"),
        (12, ["limit", "k", 1], "cooling: 3 fields: each entry has 4"),
        (12, ["limit", "k", -1, 2], "cooling: after is not a whole number"),
        (13, ["l", "k", 1, 2, 3, 4, 5, 6, 7], "each entry has 10"),
        (13, ["l", "k", 1, 2, 3, 4, 5, 6, 7, 8] * (MOST_ENTRIES + 1), f"at most {MOST_ENTRIES}"),
        (13, ["l", "k", 1, 2, 3, 4, 5, -6, 7, 8], "drawn of a poll: least is not a whole number"),
        (13, None, "drawn is not an array"),
    ],
)
def test_entries_that_are_wrong(at: int, value: Any, why: str) -> None:
    fields = json.loads(encode(POLL))
    fields[at - 1] = value
    with pytest.raises(FrameError, match=why):
        decode(json.dumps(fields, separators=(",", ":")).encode())


@pytest.mark.parametrize(
    "body",
    [
        b'["open","m",' + b"9" * 1_000_000 + b"]",
        b'["open","m",-' + b"9" * 1_000_000 + b"]",
        b'["open","m",0.' + b"9" * 1_000_000 + b"]",
        b'["open","m",1e' + b"9" * 1_000_000 + b"]",
        b'["open","m",1' + b',"9"' * 200_000 + b"," + b"9" * 100_000 + b"]",
        b"[" * 1_000_000,
        b"[" * 500_000 + b"]" * 500_000,
        b'["open","m",1,' + b"[" * 400_000 + b"]" * 400_000 + b"]",
        b'["open","m",1,' + b'{"":' * 200_000 + b"1" + b"}" * 200_000 + b"]",
        b'["' + b'\\"' * 500_000,
        b'["' + b"\\" * 1_000_001 + b'"]',
        b'["poll","' + b"[" * 1_000_000 + b'"]',
        b"[" + b'"a",' * 200_000 + b"1]",
        b'["open","m",1,' + b"[1]," * 200_000 + b"1]",
        b'["open","' + b"m" * 1_000_000 + b'",1]',
        b" " * MOST_BYTES,
        b" " * (MOST_BYTES + 1),
    ],
    ids=range(17),
)
@pytest.mark.parametrize("digits", [4_300, 0])
def test_bombs_are_refused_quickly(body: bytes, digits: int) -> None:
    usual = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(digits)  # an application may have lifted the bound of Python
    try:
        with quickly(), pytest.raises(FrameError):
            decode(body)
    finally:
        sys.set_int_max_str_digits(usual)


def test_deep_arrays_are_refused_whatever_the_recursion_limit_is() -> None:
    usual = sys.getrecursionlimit()
    sys.setrecursionlimit(10_000_000)
    try:
        for body in (b"[" * 1_000_000, b'["open","m",1,' + b"[" * 1_000 + b"]" * 1_000 + b"]"):
            with pytest.raises(FrameError, match="more than 64 arrays"):
                decode(body)
    finally:
        sys.setrecursionlimit(usual)


@pytest.mark.parametrize(
    "text", ["[" * 1_000, '\\"[{' * 500, '"[' * 500, "9" * 100, "\\" * 99 + "["]
)
def test_texts_may_look_like_arrays_and_numbers(text: str) -> None:
    message = Close(text, 1, OwnerId(text, 10**40))
    assert decode(encode(message)) == message


def test_messages_that_are_too_large_are_not_made() -> None:
    drawn = tuple(Drawn(PoolId("l" * 100, f"k{n}"), 1, 2, 3, 4, 5, 6) for n in range(10_000))
    with pytest.raises(FrameError, match=r"a message of \d+ bytes \(Poll\): at most 1048576"):
        encode(Poll("m", 1, OwnerId("o", 1), 1, 1, 1, None, {}, drawn))


@given(MESSAGES, st.data())
def test_damaged_messages_are_refused_or_are_messages(
    message: Message, data: st.DataObject
) -> None:
    body = bytearray(encode(message))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body) - 1))
        how = data.draw(st.sampled_from(["set", "cut", "insert", "double"]))
        if how == "set":
            body[at] = data.draw(st.integers(0, 255))
        elif how == "cut":
            del body[at + 1 :]
        elif how == "insert":
            body[at:at] = data.draw(st.sampled_from([b"[", b"]", b'"', b",", b"-", b"NaN", b"\\"]))
        else:
            body[at:at] = body[:at]
    with suppress(FrameError):
        again = decode(bytes(body))
        assert decode(encode(again)) == again


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(body: bytes) -> None:
    with suppress(FrameError):
        decode(body)


# Frames -------------------------------------------------------------------------------------------


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=20), st.data())
def test_frames_in_chunks_of_any_size(bodies: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(map(framed, bodies))
    frames, taken, at = Frames(), [], 0
    while at < len(stream):
        size = data.draw(st.integers(1, 100))
        frames.feed(stream[at : at + size])
        at += size
        for _ in range(data.draw(st.integers(0, 3))):  # the caller need not take all
            if (body := frames.take()) is not None:
                taken.append(body)
    while (body := frames.take()) is not None:
        taken.append(body)
    assert taken == bodies


@pytest.mark.parametrize("size", [0, 101, MOST_BYTES, 2**32 - 1])
def test_frames_without_a_body_or_too_large_are_refused(size: int) -> None:
    frames = Frames(100)
    frames.feed(size.to_bytes(4, "big"))
    with pytest.raises(FrameError, match=f"a frame of {size} bytes: 1 to 100 are possible"):
        frames.take()


def test_the_largest_frame() -> None:
    frames = Frames()
    frames.feed(framed(b"x" * MOST_BYTES))
    assert frames.take() == b"x" * MOST_BYTES
    with pytest.raises(FrameError, match="1048577 bytes"):
        framed(b"x" * (MOST_BYTES + 1))


def test_a_frame_that_arrives_byte_by_byte_takes_linear_time() -> None:
    stream = framed(b"x" * 200_000)
    frames = Frames()
    with quickly():
        for at in range(len(stream)):
            assert frames.take() is None
            frames.feed(stream[at : at + 1])
    assert frames.take() == b"x" * 200_000
