"""Checks of arguments that every backend makes, so that all refuse the same calls.

An etcd server has limits of its own, which may be higher or lower.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ratectl.errors import UsageError
from ratectl.stores.base import MAX_OPS, MAX_VALUE_BYTES, MIN_TTL, Put

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratectl.stores.base import Compare, Op

__all__ = ["check_revision", "check_ttl", "check_txn", "encode_key", "encode_prefix"]


def encode_key(key: str) -> bytes:
    """Return a key as bytes.

    :raises UsageError: it is empty or not valid Unicode.
    """
    if not key:
        raise UsageError("a key cannot be empty")
    return encode_prefix(key)


def encode_prefix(prefix: str) -> bytes:
    """Return a prefix of keys as bytes; it may be empty.

    :raises UsageError: it is not valid Unicode.
    """
    try:
        return prefix.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"key {prefix!r} is not valid Unicode: {error.reason}") from error


def check_revision(revision: int) -> None:
    """:raises UsageError: no store has this revision."""
    if revision < 1:
        raise UsageError(f"revision {revision} does not exist; the first is 1")


def check_ttl(ttl: float) -> None:
    """:raises UsageError: no lease can have this time to live (seconds)."""
    if not (math.isfinite(ttl) and ttl >= MIN_TTL):
        raise UsageError(f"a lease needs a TTL of at least {MIN_TTL:g} s, not {ttl:g}")


def check_txn(compare: Sequence[Compare], ops: Sequence[Op]) -> None:
    """:raises UsageError: a transaction is over a limit, or writes a key twice."""
    longest = max(len(compare), len(ops))
    if longest > MAX_OPS:
        raise UsageError(f"{longest} operations in one transaction; at most {MAX_OPS} fit")
    keys: set[str] = set()
    for op in ops:
        if op.key in keys:
            raise UsageError(f"key {op.key!r} twice in one transaction")
        keys.add(op.key)
    size = sum(len(op.value) for op in ops if isinstance(op, Put))
    if size > MAX_VALUE_BYTES:
        raise UsageError(f"{size} bytes in one transaction; at most {MAX_VALUE_BYTES} fit")
