"""Records of agents: their states and their usage."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final, Self

from ratectl.errors import BundleError
from ratectl.records.base import Record
from ratectl.records.checks import check_counts, check_fields, sequence_problem

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "AgentRecord",
    "Beat",
    "BesideReport",
    "LimitReport",
    "Obeyed",
    "PoolReport",
    "UsageRecord",
    "added_keys",
    "fullest",
    "pool_use",
]


_MAX_JSON: Final = 4 << 20
"""Most bytes of a usage record before it is compressed."""

_PAIRS: Final = ("trend", "busiest", "top_refused")
_LISTS: Final = (*_PAIRS, "rates", "refused_rates")


@dataclass(frozen=True, slots=True, kw_only=True)
class Obeyed:
    """A kill switch that an agent obeys."""

    scope: str
    mode: str
    """``open`` or ``shadow``."""
    source: str
    """``store``, or ``file`` for one in the agent's state directory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRecord(Record):
    """State of an agent, as it reports it."""

    id: str
    generation: int
    """The generation that it enforces; 0 before the first."""
    state: str
    """``serving``, ``rejected`` (keeps serving ``generation``) or ``waiting`` (has none yet)."""
    error: str | None
    rejected: int | None
    """The generation that it refused, while ``state`` is ``rejected``."""
    applied: str | None
    """When it began to enforce ``generation`` (ISO 8601, UTC)."""
    swap_ms: float | None
    """Milliseconds from seeing the head to enforcing it."""
    started: str
    reported: str
    host: str
    pid: int
    version: str
    engine: str
    errors: int = 0
    """Decisions answered by ``on_error`` since the start."""
    rollout: str | None = None
    """The rollout whose candidate it runs."""
    sequence: int = 0
    """Sequence of the newest head that it accepted."""
    interval: float = 2.0
    """Seconds between its usage reports."""
    panic: list[Obeyed] = field(default_factory=list)
    panic_sequence: int = 0
    """Sequence of the store's record of switches that it obeys; 0 for none."""
    reset_sequence: int | None = None
    """Sequence of the last reset that it obeyed or that was there when it started; 0 for none. None
    for an agent of a version without resets."""
    reset_shared: int = 0
    """Buckets of the last reset that other keys share: they stayed as they were."""
    cluster: str | None = None
    """Why limits across the cluster are not shared here as they should be; None if they are."""
    instance: str = ""
    """Random name of the agent's state on disk, which one process at a time uses; without a disk,
    of the process. Empty for an agent of a version without it."""

    @classmethod
    def _build(cls, value: dict[str, Any]) -> Self:
        value["panic"] = [Obeyed(**_known(Obeyed, obeyed)) for obeyed in value.get("panic", ())]
        return cls(**_known(cls, value))

    def check(self) -> None:
        """See ``Record.check``."""
        check_fields(self)
        for sequence in (self.sequence, self.panic_sequence, self.reset_sequence):
            problem = sequence_problem(sequence)
            if sequence not in (None, 0) and problem:
                raise ValueError(problem)


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat(Record):
    """A small record that an agent is alive, written with every usage record."""

    id: str
    generation: int
    since: str
    reported: str
    requests: int
    """Decisions since its start; never more than were made (see ``agent.usage``)."""
    refused: int

    def check(self) -> None:
        """See ``Record.check``."""
        check_fields(self)
        check_counts(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitReport:
    """Counts of one limit in one agent, or of its buckets that certain overrides select.

    ``recent_*`` cover ``UsageRecord.recent_seconds``.
    """

    scope: str
    limit: str
    shadow: bool
    most: int
    allowed: int
    refused: int
    never: int
    shadow_refused: int
    keys: int
    recent_allowed: int
    recent_refused: int
    peak: float | None
    """Highest recent use of a single bucket, 0 to 1; None if nothing was admitted."""
    top_refused: list[tuple[str, int]] = field(default_factory=list)
    budget: bool = False
    """True for a budget of ``scope``: all requests at or below it use its bucket."""
    overrides: list[str] = field(default_factory=list)
    """Names of the overrides that select these buckets; empty if none does."""
    waited: int = 0
    """Requests that waited for this limit in ``acquire``, however they ended."""
    absent: int = 0
    """Requests that lacked an attribute which the limit counts per."""
    unit: str = "requests"
    """What the limit counts: the unit of ``most``. The other numbers are requests."""
    near_keys: int = 0
    """Keys that use at least 80 % of their bucket now."""
    rates: list[float] = field(default_factory=list)
    """Requests per second: since the last report, over a minute, over 15 minutes."""
    refused_rates: list[float] = field(default_factory=list)
    trend: list[tuple[int, int, float | None]] = field(default_factory=list)
    """Allowed, refused and use of the fullest bucket in each of the last minutes, newest last."""
    busiest: list[tuple[str, int, int, float | None]] = field(default_factory=list)
    """Busiest keys of the last minutes: at least so many requests (all are halved every five
    minutes), so many more at most, and use of the bucket."""
    traffic: int = 0
    """Requests of all keys, in the last minutes like those of ``busiest``."""
    refused_error: int = 0
    """Part of each count of ``top_refused`` that may be other keys'."""
    pool: str = ""
    """Not empty: the limit is one for all processes, and this is the name of its pool. How full it
    is, its owners report (see ``PoolReport``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolReport:
    """Use of a limit across the cluster, as one of its owners pools it.

    Totals of all its buckets in tokens (the limit's unit). Those of several owners add up.
    """

    pool: str
    owner: str
    """Name of the owner: a process may have been several."""
    capacity: int
    """Tokens that full buckets hold, of what members lend to this owner."""
    free: int
    """Tokens that nobody has."""
    held: int
    """Tokens that members may still spend."""
    members: int
    """Members with a session at this owner."""
    keys: int
    """Keys whose bucket is not full."""
    near_keys: int
    """Keys that use at least 80 % of their bucket."""
    peak: float
    """Use of the fullest bucket in the last minute, 0 to 1."""
    trend: list[float | None] = field(default_factory=list)
    """Use of the fullest bucket in each of the last minutes, newest last."""
    is_one: bool = False
    """The limit has one bucket: its parts at several owners count as one key."""


def pool_use(capacity: int, free: int, held: int) -> float:
    """Return how much of a limit is used, 0 to 1: what is neither free nor held. In one unit."""
    return min(1.0, max(0.0, (capacity - free - held) / capacity)) if capacity else 0.0


def added_keys(one: int, other: int, *, is_one: bool) -> int:
    """Return the number of keys at two owners.

    :param is_one: the limit has one bucket: its parts count as one key.
    """
    return max(one, other) if is_one else one + other


def fullest(one: Sequence[float | None], other: Sequence[float | None]) -> list[float | None]:
    """Return the larger use in each minute, of two trends whose last minutes are the same."""
    joined = [
        max((peak for peak in pair if peak is not None), default=None)
        for pair in zip_longest(reversed(one), reversed(other))
    ]
    return joined[::-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class BesideReport:
    """Differences between a shadow candidate's decisions and those of one agent."""

    rollout: str
    generation: int
    requests: int
    """Requests decided by both since the agent began to evaluate the candidate."""
    newly_refused: int
    """Requests that were allowed, and that the candidate would have refused."""
    newly_allowed: int
    """Requests that were refused, and that the candidate would have allowed."""
    limits: list[tuple[str, str, int, int]] = field(default_factory=list)
    """Limits that refused, most first: scope, limit, newly refused, newly allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRecord(Record):
    """Counts of an agent since its start, most active limits first."""

    id: str
    generation: int
    since: str
    reported: str
    recent_seconds: float
    limits: list[LimitReport]
    omitted: int
    """Number of less active limits that were left out to bound the record."""
    no_policy: int
    errors: int
    buckets: int
    overflowed: int
    beside: BesideReport | None = None
    pools: list[PoolReport] = field(default_factory=list)
    """Limits across the cluster that this agent owns."""
    dedicated: bool = False
    """A dedicated owner has written it, and no agent."""

    def encode(self) -> bytes:
        """Return the record as JSON, compressed: its many limits have much in common."""
        return zlib.compress(Record.encode(self), 1)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """See ``Record.decode``. JSON that is not compressed is read as well."""
        if data[:1] == b"{":
            return super(UsageRecord, cls).decode(data)
        unpacking = zlib.decompressobj()
        try:
            text = unpacking.decompress(data, _MAX_JSON)
        except zlib.error as error:
            raise BundleError(f"not a readable {cls.__name__}: {error}") from None
        if not unpacking.eof or unpacking.unused_data:
            raise BundleError(f"not a readable {cls.__name__}: too long, or cut off")
        return super(UsageRecord, cls).decode(text)

    @classmethod
    def _build(cls, value: dict[str, Any]) -> Self:
        if value.get("beside") is not None:
            value["beside"] = BesideReport(
                **_known(BesideReport, _with_tuples(value["beside"], "limits"))
            )
        value["limits"] = [
            LimitReport(**_known(LimitReport, _with_tuples(limit, *_PAIRS)))
            for limit in value["limits"]
        ]
        value["pools"] = [PoolReport(**_known(PoolReport, pool)) for pool in value.get("pools", ())]
        return cls(**_known(cls, value))

    def check(self) -> None:
        """See ``Record.check``."""
        check_fields(self)
        for counts in (self, *self.limits, *self.pools, *filter(None, [self.beside])):
            check_counts(counts)
        for pool in self.pools:
            if pool.peak > 1 or any(peak is not None and not 0 <= peak <= 1 for peak in pool.trend):
                raise ValueError(f"the use of pool {pool.pool!r} is not 0 to 1")
        for limit in self.limits:
            if limit.peak is not None and limit.peak > 1:
                raise ValueError(f"peak cannot be {limit.peak!r}, more than full")
            for name in _LISTS:
                for value in getattr(limit, name):
                    _check_numbers(name, value)


def _check_numbers(name: str, value: Any) -> None:
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, int | float) and number < 0:
            raise ValueError(f"{name} cannot hold {number!r}, less than 0")


def _known(kind: Any, value: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that the dataclass has. A newer version may write more."""
    return {name: item for name, item in value.items() if name in kind.__dataclass_fields__}


def _with_tuples(value: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return a JSON object with tuples in place of the arrays in some of its fields."""
    tuples = {name: [tuple(array) for array in value.get(name, ())] for name in names}
    return {**value, **tuples}
