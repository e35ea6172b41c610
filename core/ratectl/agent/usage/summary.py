"""Result of ``agent.usage()``."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Final

from ratectl.records import pool_use

if TYPE_CHECKING:
    from ratectl.agent.usage.history import Minute
    from ratectl.engine.buckets.traffic import KeyTraffic
    from ratectl.engine.timings import Timings

__all__ = ["AgentUsage", "LimitUsage", "PoolUsage"]


Rates = tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitUsage:
    """Usage of one limit or budget in one agent, or of its buckets that certain overrides select.

    Counts are of requests since the agent started. A request is counted by every limit that it
    meets, so the counts of several limits do not add up to a number of requests.
    """

    scope: str
    limit: str
    budget: bool
    """True for a budget: all requests at and below its scope use its buckets."""
    overrides: tuple[str, ...]
    """Overrides that select these buckets, such as ``gold@/payments``; empty if none does."""
    unit: str
    """What the limit counts: the unit of ``capacity``. The other numbers are requests or keys."""
    per: tuple[str, ...]
    """Attributes that it counts per."""
    shadow: bool
    capacity: int
    """Cost that a full bucket admits at once: the burst, the count of a window, or slots."""
    allowed: int
    refused: int
    """Refused for now: waiting would have helped."""
    never: int
    """Refused for good: the cost exceeds the capacity, or the rate is zero."""
    shadow_refused: int
    """Admitted requests that this limit, in shadow, would have refused."""
    waited: int
    """Requests that waited for this limit, however they ended."""
    absent: int
    """Requests that lacked an attribute which it counts per."""
    keys: int | None
    """Keys whose bucket is not full; None if unknown."""
    near_keys: int | None
    """Keys that use at least 80 % of their bucket, of those in ``keys_by_use``; None if unknown."""
    keys_by_use: tuple[int, int, int, int, int]
    """Keys that use less than 50 % of their bucket, 50 to 80, 80 to 90, 90 to 100, and all of it.

    The pure engine examines the first 10,000 keys of a limit. All 0 if the keys are unknown."""
    peak: float | None
    """Use of the fullest bucket in the last minute, 0 to 1; None if nothing was admitted, or if
    it is unknown (see ``pool``)."""
    recent_allowed: int
    """Requests in the last minute (see ``AgentUsage.recent_seconds``)."""
    recent_refused: int
    """Requests of the last minute that were refused, or that a shadow limit would have refused."""
    rates: Rates
    """Requests per second: since the last reading, over the last minute, and over 15 minutes."""
    refused_rates: Rates
    """Of them, those that were refused, or that a shadow limit would have refused."""
    trend: tuple[Minute, ...]
    """The last 15 minutes of the clock, the one under way last."""
    busiest: tuple[KeyTraffic, ...]
    """Busiest keys of the last minutes, most requests first: at most 20. Every five minutes, all
    counts are halved."""
    traffic: int
    """Requests of all keys, in the last minutes like those of ``busiest``."""
    top_refused: tuple[tuple[str, int], ...]
    """Most refused keys, most first: at most 20."""
    refused_error: int
    """Part of each count of ``top_refused`` that may be other keys'."""
    pool: str = ""
    """Not empty: the limit is one for all processes, and this is the name of its pool. Its owner
    knows how full it is (see ``AgentUsage.owned`` and ``heard``); counts are of this process."""

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain data."""
        data = {name: getattr(self, name) for name in _NAMES}  # ``asdict`` copies every value
        data["trend"] = [minute._asdict() for minute in self.trend]
        data["busiest"] = [busy._asdict() for busy in self.busiest]
        return data


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolUsage:
    """Use of a limit that is one for all processes, as one of its owners pools it.

    Totals of all its buckets in tokens (the limit's unit). Those of several owners add up.
    """

    pool: str
    """Name of the pool, as in ``LimitUsage.pool``."""
    owner: str
    capacity: int
    """Tokens that full buckets hold, of what members lend to this owner."""
    free: int
    """Tokens that nobody has."""
    held: int
    """Tokens that members may still spend."""
    members: int
    """Processes that lend their share to this owner."""
    keys: int
    """Keys whose bucket is not full."""
    near_keys: int
    """Keys that use at least 80 % of their bucket."""
    keys_by_use: tuple[int, int, int, int, int] | None
    """See ``LimitUsage.keys_by_use``. The owner examines the first 1,000 keys of a limit. None:
    only the process that owns the limit knows."""
    peak: float
    """Use of the fullest bucket in the last minute, 0 to 1."""
    trend: tuple[float | None, ...]
    """Use in the last 15 minutes of the clock, the one under way last; None if unknown."""
    reported: str
    """Time of these numbers (ISO 8601, UTC)."""
    is_one: bool
    """The limit has one bucket: its parts at several owners count as one key."""

    @property
    def used(self) -> float:
        """Use at that time, 0 to 1."""
        return pool_use(self.capacity, self.free, self.held)


_NAMES: Final = tuple([field.name for field in fields(LimitUsage)])


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentUsage:
    """Usage of one agent since it started."""

    id: str
    generation: int
    since: str
    """Time at which counting began: the agent's start, or the fork (ISO 8601, UTC)."""
    at: str
    """Time of this reading."""
    recent_seconds: float
    """Seconds that the ``recent_…`` counts cover: up to a minute, and one reading more."""
    limits: tuple[LimitUsage, ...]
    owned: tuple[PoolUsage, ...]
    """Limits across the cluster that this process owns, in part or whole."""
    heard: tuple[PoolUsage, ...]
    """Limits that another process owns, as it has reported to the store lately."""
    no_policy: int
    """Requests admitted because no policy covers their scope."""
    failed_allowed: int
    """Requests that ``on_error`` allowed, as the limiter failed or had no policies yet."""
    failed_refused: int
    """Requests that ``on_error`` refused."""
    waiting: int
    """Requests that wait in ``acquire`` now."""
    buckets: int
    bytes: int
    """Memory of the buckets."""
    max_bytes: int
    evicted: int
    """Buckets that were dropped because they equalled new ones."""
    overflowed: int
    """Requests that shared a bucket because there was no room for one of their own."""
    timings: Timings
    """Times of one call of ``check`` in 1,024."""

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain data."""
        return {**self.without_limits(), "limits": [limit.as_dict() for limit in self.limits]}

    def without_limits(self) -> dict[str, Any]:
        """Return the fields as plain data, but for those of limits."""
        data = asdict(replace(self, limits=()))
        del data["limits"]
        data["timings"] = self.timings._asdict()
        return data
