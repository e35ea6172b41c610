"""Stable keys: numbers of keys that every process with the same secret computes alike.

By default the compiled engine keeps a key as a fingerprint under a secret of its own process. With
a shared secret, the same key has the same number of 64 bits everywhere, on every machine and
Python, so that other processes can find its bucket. Without the secret, nobody can search for keys
that share a number. ``csrc/base.h`` has the same arithmetic in C.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from ratectl.engine.buckets.counters import exact_text
from ratectl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["MIN_SECRET_BYTES", "StableKeys"]

MIN_SECRET_BYTES: Final = 16

_MASK: Final = (1 << 64) - 1
_PERSON: Final = b"ratectl keys"
"""Separates this use of a secret from others."""


class StableKeys:
    """Hash of keys under a shared secret of at least 16 bytes.

    All bytes of the secret count. It cannot be read from this object, nor from its text.

    :raises UsageError: the secret is shorter, or not ``bytes``.
    """

    __slots__ = ("k0", "k1")

    def __init__(self, secret: bytes) -> None:
        if type(secret) is not bytes or len(secret) < MIN_SECRET_BYTES:
            given = f"{len(secret)} bytes" if type(secret) is bytes else type(secret).__name__
            raise UsageError(
                f"stable_keys is a secret of at least {MIN_SECRET_BYTES} bytes, not {given}: make "
                "one with secrets.token_bytes(16), and give the same one to every process"
            )
        digest = blake2b(secret, digest_size=16, person=_PERSON).digest()
        self.k0 = int.from_bytes(digest[:8], "little")
        self.k1 = int.from_bytes(digest[8:], "little")

    def key_of(self, values: Iterable[object]) -> int:
        """Return the number of a key, from 1 to 2**64 - 1.

        ``values``: those of the attributes in ``per``, in its order; None is an absent attribute,
        and of a value that is no text, ``str`` counts. No values: the only key of its limit.
        """
        key = 0
        for value in values:
            hashed = ~self.k1 & _MASK if value is None else self._siphash(_utf8(exact_text(value)))
            key = _mixed(_rotated(key, 17) + _mixed(hashed) & _MASK)
        return key or 1

    def _siphash(self, text: bytes) -> int:
        """Return SipHash-1-3 of a text."""
        state = (
            self.k0 ^ 0x736F6D6570736575, self.k1 ^ 0x646F72616E646F6D,
            self.k0 ^ 0x6C7967656E657261, self.k1 ^ 0x7465646279746573,
        )  # fmt: skip
        whole = len(text) & ~7
        for at in range(0, whole, 8):
            state = _absorbed(state, int.from_bytes(text[at : at + 8], "little"))
        last = int.from_bytes(text[whole:], "little") | (len(text) & 0xFF) << 56
        v0, v1, v2, v3 = _absorbed(state, last)
        state = (v0, v1, v2 ^ 0xFF, v3)
        for _ in range(3):
            state = _round(*state)
        v0, v1, v2, v3 = state
        return v0 ^ v1 ^ v2 ^ v3


State = tuple[int, int, int, int]


def _absorbed(state: State, word: int) -> State:
    v0, v1, v2, v3 = state
    v0, v1, v2, v3 = _round(v0, v1, v2, v3 ^ word)
    return v0 ^ word, v1, v2, v3


def _round(v0: int, v1: int, v2: int, v3: int) -> State:
    """Return the state after one round of SipHash."""
    v0 = v0 + v1 & _MASK
    v1 = _rotated(v1, 13) ^ v0
    v0 = _rotated(v0, 32)
    v2 = v2 + v3 & _MASK
    v3 = _rotated(v3, 16) ^ v2
    v0 = v0 + v3 & _MASK
    v3 = _rotated(v3, 21) ^ v0
    v2 = v2 + v1 & _MASK
    v1 = _rotated(v1, 17) ^ v2
    return v0, v1, _rotated(v2, 32), v3


def _rotated(word: int, by: int) -> int:
    return (word << by | word >> 64 - by) & _MASK


def _mixed(word: int) -> int:
    word ^= word >> 32
    word = word * 0x9E3779B97F4A7C15 & _MASK
    return word ^ word >> 29


def _utf8(text: str) -> bytes:
    """Return a text as UTF-8; lone surrogates as if they were characters."""
    return text.encode("utf-8", "surrogatepass")
