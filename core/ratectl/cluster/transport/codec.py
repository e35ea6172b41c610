r"""Messages as bytes: a JSON array, which begins with the kind of the message.

``["close","member-1",7,"owner-2",1764396000]``. Entries of a message stand one after the other in
one array, without arrays of their own. A message of the next version may have more fields at its
end: they are ignored. Kinds that only it has are unknown, and are refused.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

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
    ToMember,
    ToOwner,
    Unknown,
    Welcome,
)
from ratectl.cluster.transport.fields import (
    FLAG,
    FLAT,
    FLAT_OR_NULL,
    NUMBER,
    NUMBER_OR_NULL,
    TEXT,
    Shape,
    unique,
)
from ratectl.cluster.transport.frames import MOST_BYTES, FrameError
from ratectl.cluster.transport.hello import Hello, Refusal
from ratectl.cluster.transport.json_arrays import parse_array

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["Message", "decode", "encode"]

Message = ToOwner | ToMember | Hello | Refusal

_to_json: Final = json.JSONEncoder(
    ensure_ascii=False, check_circular=False, separators=(",", ":")
).encode

_SESSION: Final = {"member": TEXT, "session": NUMBER}
_OWNED: Final = {**_SESSION, "owner": TEXT, "incarnation": NUMBER}
_POOL: Final = {"limit": TEXT, "key": TEXT, "draw": NUMBER}

_HELLO: Final = Shape("hello", version=NUMBER, environment=TEXT, member=TEXT)
_REFUSAL: Final = Shape("refusal", reason=TEXT)
_OPEN: Final = Shape("open", **_SESSION, owner=TEXT)
_WELCOME: Final = Shape("welcome", **_OWNED, reply=NUMBER)
_POLL: Final = Shape(
    "poll", **_OWNED, number=NUMBER, echo=NUMBER, share=NUMBER,
    sizes=FLAT_OR_NULL, lending=FLAT_OR_NULL, touched=FLAT, cooling=FLAT, drawn=FLAT,
)  # fmt: skip
_REPLY: Final = Shape(
    "reply", **_OWNED, number=NUMBER, poll=NUMBER, gap=NUMBER, settled=FLAG, granted=FLAT,
    whole=FLAT,
)  # fmt: skip

_CLOSED: Final = Shape("closed", **_OWNED, lending=FLAT, touched=FLAT, cooling=FLAT)

_SIZES: Final = Shape(
    "sizes of a poll", limit=TEXT,
    rate=NUMBER, burst=NUMBER, window=NUMBER, added=NUMBER, kept=NUMBER,
)  # fmt: skip
_LENDING: Final = Shape("lending", limit=TEXT, untouched=NUMBER)
_TOUCHED: Final = Shape("touched", limit=TEXT, key=TEXT, level=NUMBER)
_COOLING: Final = Shape("cooling", limit=TEXT, key=TEXT, after=NUMBER, grains=NUMBER)
_DRAWN: Final = Shape(
    "drawn of a poll", **_POOL,
    spent=NUMBER, voided=NUMBER, returned=NUMBER, want=NUMBER, least=NUMBER,
    refunded=NUMBER, refunded_after=NUMBER,
)  # fmt: skip
_WHOLE: Final = Shape("whole of a reply", limit=TEXT)
_GRANTED: Final = Shape(
    "granted of a reply",
    **_POOL,
    granted=NUMBER,
    hold=NUMBER_OR_NULL,
    scarce=FLAG,
    stock=NUMBER,
    in_vain=FLAG,
)


# Writing ------------------------------------------------------------------------------------------


def encode(message: Message) -> bytes:
    """Return the body of the frame of a message.

    :raises FrameError: it is too large for a frame.
    """
    body = _to_json(_fields(message)).encode("utf-8", "surrogatepass")
    if len(body) > MOST_BYTES:
        raise FrameError(
            f"a message of {len(body)} bytes ({type(message).__name__}): at most {MOST_BYTES} are "
            "possible"
        )
    return body


def _fields(message: Message) -> list[Any]:
    match message:
        case Poll():
            return _poll_fields(message)
        case Reply():
            granted = [field for entry in message.granted for field in (*entry[0], *entry[1:])]
            return [
                *_head("reply", message), message.number, message.poll, message.gap,
                message.settled, granted, message.whole,
            ]  # fmt: skip
        case Open():
            return ["open", message.member, message.session, message.owner]
        case Welcome():
            return [*_head("welcome", message), message.reply]
        case Close() | Unknown():
            return _head(type(message).__name__.lower(), message)
        case Closed():
            return [*_head("closed", message), *_lending_fields(message.lending)]
        case Hello():
            return ["hello", message.version, message.environment, message.member]
        case Refusal():
            return ["refusal", message.reason]


def _head(kind: str, message: Poll | Reply | Welcome | Close | Closed | Unknown) -> list[Any]:
    return [kind, message.member, message.session, *message.owner]


def _poll_fields(poll: Poll) -> list[Any]:
    sizes = None
    if poll.sizes is not None:
        sizes = [field for limit, size in poll.sizes.items() for field in (limit, *size)]
    return [
        *_head("poll", poll),
        poll.number,
        poll.echo,
        poll.share,
        sizes,
        *([None, [], []] if poll.lending is None else _lending_fields(poll.lending)),
        [field for drawn in poll.drawn for field in (*drawn[0], *drawn[1:])],
    ]


def _lending_fields(lending: Mapping[str, Lending]) -> list[Any]:
    lent = lending.items()
    return [
        [field for limit, tokens in lent for field in (limit, tokens.untouched)],
        [
            field
            for limit, tokens in lent
            for key, level in tokens.touched.items()
            for field in (limit, key, level)
        ],
        [
            field
            for limit, tokens in lent
            for key, steps in tokens.cooling.items()
            for step in steps
            for field in (limit, key, *step)
        ],
    ]


# Reading ------------------------------------------------------------------------------------------


def decode(body: bytes) -> Message:
    """Return the message in the body of a frame.

    :raises FrameError: it is no message.
    """
    kind, *fields = parse_array(body)
    if type(kind) is not str:
        raise FrameError("the message does not begin with its kind")
    reader = _READERS.get(kind)
    if reader is None:
        raise FrameError(f"an unknown kind of message: {kind[:40]!r}")
    shape, build = reader
    return build(*shape.check(fields))


def _poll(
    member: str,
    session: int,
    owner: str,
    incarnation: int,
    number: int,
    echo: int,
    share: int,
    sizes: list[Any] | None,
    lending: list[Any] | None,
    touched: list[Any],
    cooling: list[Any],
    drawn: list[Any],
) -> Poll:
    return Poll(
        member,
        session,
        OwnerId(owner, incarnation),
        number,
        echo,
        share,
        None if sizes is None else _sizes(sizes),
        None if lending is None else _lending(lending, touched, cooling),
        tuple([Drawn(PoolId(limit, key), *totals) for limit, key, *totals in _DRAWN.rows(drawn)]),
    )


def _sizes(flat: list[Any]) -> Mapping[str, Size]:
    return unique("sizes", [(limit, Size(*size)) for limit, *size in _SIZES.rows(flat)])


def _lending(flat: list[Any], touched: list[Any], cooling: list[Any]) -> Mapping[str, Lending]:
    untouched = unique("lending", [(limit, level) for limit, level in _LENDING.rows(flat)])
    levels = _ByLimit("touched", untouched)
    for limit, key, level in _TOUCHED.rows(touched):
        if key in levels[limit]:
            raise FrameError(f"touched: key {key[:40]!r} is there twice")
        levels[limit][key] = level
    steps = _ByLimit("cooling", untouched)
    for limit, key, *step in _COOLING.rows(cooling):
        steps[limit].setdefault(key, []).append(Step(*step))
    return {
        limit: Lending(level, levels[limit], {k: tuple(s) for k, s in steps[limit].items()})
        for limit, level in untouched.items()
    }


class _ByLimit(dict[str, dict[str, Any]]):
    """Entries by key, of each limit that is lent."""

    def __init__(self, what: str, limits: Iterable[str]) -> None:
        super().__init__({limit: {} for limit in limits})
        self._what = what

    def __missing__(self, limit: str) -> dict[str, Any]:
        raise FrameError(f"{self._what}: limit {limit[:40]!r} is not lent")


def _reply(
    member: str,
    session: int,
    owner: str,
    incarnation: int,
    number: int,
    poll: int,
    gap: int,
    settled: bool,
    granted: list[Any],
    whole: list[Any],
) -> Reply:
    rows = _GRANTED.rows(granted)
    return Reply(
        member,
        session,
        OwnerId(owner, incarnation),
        number,
        poll,
        gap,
        settled,
        tuple([Granted(PoolId(limit, key), *state) for limit, key, *state in rows]),
        tuple([limit for (limit,) in _WHOLE.rows(whole)]),
    )


def _owned(kind: Callable[..., Message]) -> Callable[..., Message]:
    def built(member: str, session: int, owner: str, incarnation: int, *more: int) -> Message:
        return kind(member, session, OwnerId(owner, incarnation), *more)

    return built


def _closed(
    member: str,
    session: int,
    owner: str,
    incarnation: int,
    lending: list[Any],
    touched: list[Any],
    cooling: list[Any],
) -> Closed:
    left = _lending(lending, touched, cooling)
    return Closed(member, session, OwnerId(owner, incarnation), left)


_READERS: Final[Mapping[str, tuple[Shape, Callable[..., Message]]]] = {
    "hello": (_HELLO, Hello),
    "refusal": (_REFUSAL, Refusal),
    "open": (_OPEN, Open),
    "welcome": (_WELCOME, _owned(Welcome)),
    "poll": (_POLL, _poll),
    "reply": (_REPLY, _reply),
    "close": (Shape("close", **_OWNED), _owned(Close)),
    "closed": (_CLOSED, _closed),
    "unknown": (Shape("unknown", **_OWNED), _owned(Unknown)),
}
