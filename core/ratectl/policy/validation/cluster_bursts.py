"""Bursts, and numbers of a window, that are too small for a limit across the cluster.

Tokens that processes hold still occupy the bucket. So a bucket is empty while others have tokens if
it has few for each process, or if it holds less than what accrues while a process pauses. With
consistency: optimistic, each process adds some.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from ratectl.diagnostics import Diagnostic
from ratectl.policy import codes
from ratectl.policy.language.durations import Duration
from ratectl.policy.language.rates import NS
from ratectl.policy.resolution.resolver import Resolver
from ratectl.policy.validation.declared_limits import shared_limits

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ratectl.policy.language.model import PolicyTree
    from ratectl.policy.resolution.effective_limit import Limit
    from ratectl.policy.validation.declared_limits import DeclaredLimit

__all__ = [
    "LEAST_TIME", "LEAST_TOKENS", "PARTS", "SmallBurst", "check_bursts", "parts_in",
    "size_of_limit", "small_bursts",
]  # fmt: skip

LEAST_TOKENS: Final = 2
"""Tokens that a bucket should have for each process that shares it."""
PARTS: Final = 2
"""Parts of a large limit with one bucket. Each has an owner (see ``cluster.sharding``)."""
_LARGE: Final = 1_000
"""Such a limit has at least this size."""
_SHARES: Final = 1_000_000
"""Each process has a whole number of these parts of a limit."""
LEAST_TIME: Final = 50_000_000
"""Nanoseconds. A bucket should hold what accrues in this time: processes pause for some
milliseconds."""


def parts_in(size: int) -> int:
    """Return the number of parts of a limit with one bucket.

    ``size``: its burst, or the number of a window.
    """
    return PARTS if size >= _LARGE else 1


class SmallBurst(NamedTuple):
    """A limit across the cluster whose burst, or number of a window, is too small."""

    scope: str
    path: str
    """Place of the value in the document of ``scope``, such as ``limits.fleet.burst``."""
    name: str
    """``fleet``, ``budget fleet``, or ``fleet of override 'gold'``."""
    given: str
    """``burst of 5`` or ``rate of 5/min``."""
    least: str
    """Smallest one that is enough: ``burst: 40`` or ``rate: 40/min``."""
    reason: str
    always: bool
    """True if it is too small for any number of processes."""
    is_strict: bool

    def __str__(self) -> str:
        way_out = ", or consistency: optimistic" if self.is_strict else ""
        return (
            f"{self.name} at {self.scope} is shared by the cluster, and its {self.given} is too "
            f"small: {self.reason}. Requests are refused although the limit has room: write "
            f"{self.least}, or more{way_out}"
        )


def check_bursts(tree: PolicyTree, declared: Iterable[DeclaredLimit]) -> Iterator[Diagnostic]:
    """Yield the findings for any number of processes."""
    for small in _small_bursts(declared, 0):
        yield Diagnostic(
            codes.CLUSTER_BURST,
            f"{small.name} is shared by the cluster, and its {small.given} is too small: "
            f"{small.reason}",
            tree.span(small.scope, small.path),
            "warning",
            f"write {small.least}, or more: `ratectl cluster size` tells how much for your "
            "processes",
        )


def small_bursts(tree: PolicyTree, members: int) -> list[SmallBurst]:
    """Return limits whose burst is too small for so many processes that share them."""
    return list(_small_bursts(shared_limits(tree, Resolver(tree)), members))


def _small_bursts(declared: Iterable[DeclaredLimit], members: int) -> Iterator[SmallBurst]:
    for each in declared:
        yield from _judged(each, members)


def _judged(declared: DeclaredLimit, members: int) -> Iterator[SmallBurst]:
    """Yield a limit whose size is set by these fields, if it is too small."""
    set_here = [
        each
        for each in ("burst", "rate", "across", "consistency")
        if getattr(declared.fields, each)
    ]
    limit = declared.limit
    if limit is None or not set_here or not limit.is_shared:
        return
    assert limit.rate is not None
    size, paused, is_strict = size_of_limit(limit), 0, limit.consistency != "optimistic"
    if limit.burst is not None and limit.rate.per_second:
        paused = -(-limit.rate.per_second * LEAST_TIME // NS)
        paused -= 0 if is_strict or limit.per else LEAST_TOKENS * members
    least = max(paused, _least_tokens(limit, members) if is_strict else 0)
    if size >= least or not size:
        return
    if least == paused:
        reason = f"it holds less than the rate of {Duration(LEAST_TIME)}, and processes may pause"
    elif limit.per:
        reason = (
            f"not each of {members} processes has a token of its own for the first request of a key"
        )
    else:
        reason = f"it has less than {least // members} tokens for each of {members} processes"
        if parts_in(size) > 1:
            reason += ", as it is in two parts"
    given, enough = f"burst of {size}", f"burst: {least}"
    if limit.burst is None:
        given, enough = f"rate of {limit.rate}", f"rate: {least}/{str(limit.rate).split('/')[1]}"
    yield SmallBurst(
        declared.scope, f"{declared.path}.{set_here[0]}", declared.name, given, enough, reason,
        size < paused, is_strict,
    )  # fmt: skip


def _least_tokens(limit: Limit, members: int) -> int:
    """Return the size of a limit with which each process has enough tokens.

    Of a key, each process keeps a token, and the owner has at least as many: half of the burst.
    """
    if not limit.per or not members:
        return LEAST_TOKENS * members * parts_in(size_of_limit(limit))
    share = max(1, _SHARES // members)  # of the process that has the smallest one
    if limit.burst is None:
        return -(-LEAST_TOKENS * _SHARES // share)
    return LEAST_TOKENS * -(-_SHARES // share)


def size_of_limit(limit: Limit) -> int:
    """Return the burst of a token bucket, or the number of a sliding window."""
    if limit.burst is not None:
        return limit.burst
    assert limit.rate is not None
    return limit.rate.count or 0
