"""A member that says whatever comes into its mind, among honest ones."""

from __future__ import annotations

import random
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, Final

from small_cluster import KEYED, ONE, SmallCluster

from ratectl.cluster.protocol.messages import Close, Drawn, Lending, Open, OwnerId, Poll, PoolId
from ratectl.cluster.protocol.timing import MILLISECOND as MS
from ratectl.cluster.protocol.timing import SECOND
from ratectl.cluster.transport.codec import decode, encode
from ratectl.cluster.transport.fields import LARGEST
from ratectl.cluster.transport.frames import FrameError

if TYPE_CHECKING:
    from ratectl.cluster.protocol.messages import ToOwner

__all__ = ["lie"]

RATE: Final = 300
BURST: Final = 60
LIAR: Final = 2
_ODD: Final = (0, 1, 2, 10**6, 10**12, 10**24, 10**30, LARGEST)


class _Liar:
    """Changes what an honest member says, repeats it, and says it later."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.said: list[ToOwner] = [Open("m2", 1, "o"), Close("m2", 1, OwnerId("o", 1))]

    def next_lie(self) -> ToOwner:
        """Return a message that no honest member would send now."""
        message: Any = self.random.choice(self.said[-200:])
        for _ in range(self.random.randrange(4)):
            field = self.random.choice(fields(message)).name
            if field != "member":  # links check that
                message = replace(message, **{field: self._changed(getattr(message, field))})
        return message

    def _changed(self, value: Any) -> Any:
        rnd = self.random
        match value:
            case int():
                return max(0, rnd.choice([*_ODD, value + rnd.randint(-3, 3), 2 * value]))
            case OwnerId():
                return OwnerId(value.name, rnd.choice([0, 1, 2, LARGEST]))
            case Lending():
                return Lending(self._changed(value.untouched), {"a": self._changed(1)})
            case Drawn():
                numbers = [self._changed(n) if rnd.random() < 0.4 else n for n in value[1:]]
                return Drawn(rnd.choice([ONE, KEYED, PoolId("none", "x"), value.pool]), *numbers)
            case tuple():
                count = rnd.randrange(4)
                other = [Drawn(rnd.choice([ONE, KEYED]), 1, 0, 0, 0, 1, 0)]
                return tuple(self._changed(rnd.choice([*value, *other])) for _ in range(count))
            case _:
                # Sizes are believed: members trust each other in this.
                lending = self._changed(Lending(1, {}))
                return (
                    rnd.choice([None, value, {"one": lending, "keyed": lending}])
                    if _is_lending(value)
                    else value
                )


def _is_lending(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(each, Lending) for each in value.values())


def lie(seed: int, seconds: int = 2) -> tuple[float, float]:
    """Let honest members ask while one lies, and after it has fallen silent.

    :return: parts of their own shares that honest members have used: while it lied, and after.
    """
    cluster, liar = SmallCluster(3, RATE, BURST), _Liar(seed)
    admitted = [0, 0]
    lies = True

    def each(step: int) -> None:
        for number in range(LIAR):
            for pool in (ONE, KEYED):
                admitted[not lies] += cluster.ask(number, pool)
        if not lies:
            return
        for _ in range(liar.random.choice((0, 1, 1, 5))):
            message = liar.next_lie()
            try:
                heard = decode(encode(message))
            except FrameError:
                continue
            cluster.up(LIAR, [heard])  # type: ignore[list-item]

    up = cluster.up

    def heard(i: int, messages: list[ToOwner]) -> None:
        if i == LIAR:
            liar.said += [each for each in messages if isinstance(each, Open | Poll | Close)]
        up(i, messages)

    cluster.up = heard  # type: ignore[method-assign]
    cluster.run(seconds * SECOND, each)
    cluster.cut.add(f"m{LIAR}")
    lies = False
    cluster.run(300 * MS)
    cluster.run(SECOND, each)
    shares = [2 * 2 / 3 * (BURST + RATE * each) for each in (seconds, 1)]  # of two limits
    return admitted[0] / shares[0], admitted[1] / shares[1]


def damage(seed: int, count: int) -> int:
    """Damage so many messages of a cluster byte by byte; return how many were still messages.

    Anything but a refusal is an error.
    """
    rnd, cluster = random.Random(seed), SmallCluster(2, RATE, BURST)
    bodies: list[bytes] = []
    up = cluster.up

    def heard(i: int, messages: list[ToOwner]) -> None:
        bodies.extend(map(encode, messages))
        up(i, messages)

    cluster.up = heard  # type: ignore[method-assign]
    cluster.run(200 * MS, lambda _: cluster.ask(0, KEYED) and None)
    understood = 0
    for _ in range(count):
        body = bytearray(rnd.choice(bodies))
        for _ in range(rnd.choice((1, 1, 2, 8))):
            _damage(body, rnd)
        try:
            encode(decode(bytes(body)))
        except FrameError:
            continue
        understood += 1
    return understood


def _damage(body: bytearray, rnd: random.Random) -> None:
    at = rnd.randrange(len(body)) if body else 0
    match rnd.randrange(4):
        case 0:
            body[at : at + 1] = bytes([rnd.randrange(256)])
        case 1:
            body[at:at] = rnd.choice(
                [b"9" * 60, b"[", b"]", b",", b'"', b"null", b"-1", b"\\u0000"]
            )
        case 2:
            del body[at : at + rnd.randrange(1, 9)]
        case _:
            body[at:at] = body[rnd.randrange(len(body) or 1) :][:9]
