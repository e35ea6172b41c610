"""The interface of every engine: it takes plans, and returns decisions and usage."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ratectl.engine.conditional_limit import plan_of
from ratectl.engine.observers import Mirror, Watcher
from ratectl.engine.scopes import lineage
from ratectl.engine.timings import NO_TIMINGS, Timings

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping

    from ratectl.engine.algorithms.keyed_bucket import AnyKeyWallets
    from ratectl.engine.algorithms.pooled import AnyWallet
    from ratectl.engine.buckets.counters import Key, Show
    from ratectl.engine.buckets.place import Place
    from ratectl.engine.buckets.resets import ResetCounts
    from ratectl.engine.buckets.traffic import KeyTraffic
    from ratectl.engine.conditional_limit import Conditions, LimitChoice
    from ratectl.engine.cost import Cost
    from ratectl.engine.decision import Decision
    from ratectl.engine.explanation import Explanation
    from ratectl.engine.keeping import KeptBuckets
    from ratectl.engine.limit_plan import GroupName, Identity, LimitPlan
    from ratectl.engine.stable_keys import StableKeys
    from ratectl.engine.waivers import Waiver

__all__ = [
    "FILL_BOUNDS",
    "Engine",
    "EngineCounts",
    "LimitCounts",
    "Locate",
    "Mirror",
    "PlanSet",
    "Request",
    "ScopePlan",
    "Tell",
    "Watcher",
]

T = TypeVar("T")

Request = tuple[str] | tuple[str, "Mapping[str, str]"] | tuple[str, "Mapping[str, str]", "Cost"]
"""A scope, attributes and a cost; attributes and cost may be left out."""

Tell = Callable[["Decision", str, dict[str, str]], "tuple[bytes, bytes, bytes, bytes] | None"]
"""Function from a decision, its scope and attributes to parts of an answer to Envoy.

They are the limit that decided, the header of the limits in force, the name of the limit in the
other header, and the metadata of a refusal; None: there are none, or they may be others soon."""

Locate = Callable[[str, str], str | None]
"""Function from an origin (see ``LimitPlan.origins``) to its place in a file, if that is known."""


FILL_BOUNDS: Final = (0.5, 0.8, 0.9, 1.0)
"""Bounds of ``LimitCounts.fill``, as shares of the capacity; ``fill_bounds`` of fill.h."""


class ScopePlan:
    """Limits of one declared scope, and the budgets on its path; all must admit a request.

    ``conditions`` is None if no limit depends on the request.
    """

    __slots__ = ("allow_on_error", "conditions", "limits", "scope")

    def __init__(
        self,
        scope: str,
        limits: tuple[LimitPlan | LimitChoice, ...],
        allow_on_error: bool,
        conditions: Conditions | None = None,
    ) -> None:
        self.scope = scope
        self.limits = limits
        self.allow_on_error = allow_on_error
        self.conditions = conditions

    def deciding(self, attributes: Mapping[str, str]) -> list[LimitPlan]:
        """Return the limits and budgets that decide a request with these attributes."""
        plans = [plan_of(limit, attributes) for limit in self.limits]
        return [plan for plan in plans if plan is not None]

    def limit(self, name: str) -> LimitPlan | LimitChoice | None:
        """Return the limit of this name."""
        return next(
            (limit for limit in self.limits if limit.name == name and not limit.budget), None
        )

    def budget(self, scope: str, name: str) -> LimitPlan | LimitChoice | None:
        """Return the budget of this name that ``scope`` declares."""
        identity = (scope, name, True)
        return next((limit for limit in self.limits if limit.identity == identity), None)

    def by_identity(self, identity: Identity) -> LimitPlan | LimitChoice | None:
        """Return the limit or budget with these buckets."""
        scope, name, budget = identity
        return self.budget(scope, name) if budget else self.limit(name)

    def counterpart(self, limit: LimitPlan | LimitChoice) -> LimitPlan | LimitChoice | None:
        """Return the limit here that replaces ``limit`` of another generation."""
        return self.budget(limit.scope, limit.name) if limit.budget else self.limit(limit.name)


@dataclass(frozen=True, slots=True)
class PlanSet:
    """All plans of a generation, by declared scope. Immutable."""

    generation: int
    scopes: Mapping[str, ScopePlan] = field(default_factory=dict)
    until_ns: int | None = None
    """Instant at which an exception starts or ends next, in nanoseconds since 1970; None: never."""

    def find(self, scope: str) -> ScopePlan | None:
        """Return the plan of ``scope`` or of its nearest declared ancestor."""
        plans = map(self.scopes.get, lineage(scope))
        return next((plan for plan in plans if plan is not None), None)


@dataclass(frozen=True, slots=True)
class LimitCounts:
    """Counts of one limit since the engine started, in requests."""

    scope: str
    limit: str
    overrides: tuple[str, ...]
    budget: bool
    shadow: bool
    per: tuple[str, ...]
    """Attributes that it counts per."""
    skips: bool
    """True if it does not apply to requests that lack one of them."""
    unit: str
    """What it counts, as ``most`` and ``lowest`` do; the other counts are of requests."""
    allowed: int
    refused: int
    """Requests that waiting would have helped."""
    never: int
    """Requests that waiting does not help: the cost exceeds a full bucket, or the rate is zero."""
    shadow_refused: int
    """Requests that this limit, in shadow, would have refused."""
    waited: int
    """Requests that waited for this limit, however they ended; each is counted once."""
    absent: int
    """Requests that lacked an attribute which it counts per: decided, or skipped."""
    most: int
    """Cost that a full bucket admits at once."""
    lowest: int | None
    """Least remaining of any key since usage was last read; None if nothing was admitted."""
    keys: int
    """Keys with a tracked bucket: one that is not full."""
    top_refused: tuple[tuple[str, int], ...]
    """Most refused keys since the start, most first; approximate beyond a few dozen keys."""
    refused_error: int = 0
    """Part of each count of ``top_refused`` that may be other keys'."""
    busiest: tuple[KeyTraffic, ...] = ()
    """Busiest keys of the last minutes, most requests first: every five minutes, all counts are
    halved. Empty unless it was asked for with ``fill``."""
    traffic: int = 0
    """Requests of all keys, halved as those of ``busiest``."""
    fill: tuple[int, ...] = ()
    """Keys by their use: below the first of ``FILL_BOUNDS``, below the second …, from the last on.

    Empty unless it was asked for. The pure engine examines the first 10,000 keys."""


@dataclass(frozen=True, slots=True)
class EngineCounts:
    """Counts of an engine since it started."""

    generation: int
    limits: tuple[LimitCounts, ...]
    no_policy: int
    """Requests whose scope no policy covers."""
    buckets: int
    overflowed: int
    """Requests answered from shared overflow buckets because the table was full."""
    evicted: int = 0
    """Buckets that were dropped, as they equalled that of a key without a bucket."""
    bytes: int = 0
    """Memory of the buckets: exact for the compiled core, an upper bound for the pure engine."""
    max_bytes: int = 0
    timings: Timings = NO_TIMINGS


class Engine(ABC):
    """Buckets for one process. Thread-safe."""

    name: str
    """Name of the implementation: ``pure`` or ``c``."""
    show_key: Show
    """Texts of keys in ``usage``."""
    stable_keys: StableKeys | None = None
    """Numbers of keys that are the same in other processes; None without a shared secret."""

    def rls(
        self, plans: dict[bytes, Any], tell: Tell, data: bytes
    ) -> bytes | list[tuple[Decision, str, dict[str, str], Cost]] | None:
        """Decide a request of Envoy's Rate Limit Service, if it is a usual one.

        ``plans``: those of the domains that are known (see ``sidecar/mapping.py``).

        Return the bytes of the answer; or the decision of each descriptor with the arguments of
        ``check``: somebody else has to write the answer; or None for a request that nobody has
        decided.
        """
        del plans, tell, data
        return None

    @abstractmethod
    def check(
        self, scope: str, attributes: Mapping[str, str], cost: Cost = 1, now: int | None = None
    ) -> Decision:
        """Decide one request: charge every limit or none.

        ``cost``: an integer is the number of requests, and 0 peeks at limits of all units. A
        mapping of units counts one request as well, unless it names ``requests``. A limit whose
        unit the cost does not name is not consulted: it neither refuses nor counts. ``now``
        (nanoseconds) is for tests and replays; without it, the engine reads its clock.

        :raises UsageError: ``cost`` is not such a cost.
        """

    @abstractmethod
    def check_many(self, requests: Iterable[Request], now: int | None = None) -> list[Decision]:
        """Decide requests in order, all as of one reading of the clock.

        :raises UsageError: an entry is no (scope, attributes) or (scope, attributes, cost).
        """

    @abstractmethod
    def gate(self, scope: str, *names: str, cost: Cost = 1) -> Callable[..., bool]:
        """Return ``check`` for one scope as a function of the values of the attributes ``names``.

        The function takes them in this order, None for an absent one, and returns True or False.
        """

    @abstractmethod
    def explain(
        self, scope: str, attributes: Mapping[str, str], cost: Cost = 1, now: int | None = None
    ) -> Explanation | None:
        """Return what ``check`` would answer now, and what each limit has left.

        It charges and counts nothing. None before the first swap, if ``guard`` decides then.

        :raises UsageError: ``cost`` is not a cost (see ``check``).
        """

    @abstractmethod
    def explain_decision(self, decision: Decision) -> Explanation:
        """Return why a decision of this engine was made; see ``Decision.explain``."""

    @abstractmethod
    def locate_by(self, locate: Locate) -> None:
        """Let explanations have the places of values in files from ``locate``."""

    @abstractmethod
    def describe_by(self, describe: Callable[[GroupName], str | None]) -> None:
        """Let explanations have a sentence about each group of buckets from ``describe``."""

    @abstractmethod
    def attempt(
        self, scope: str, attributes: Mapping[str, str], cost: Cost = 1, now: int | None = None
    ) -> Decision:
        """Decide as ``check`` does, for a request that can wait.

        If waiting helps, a refusal counts nowhere, and the mirror does not see it: ``give_up``
        counts the refusal of a request that waits no longer.

        :raises UsageError: ``cost`` is not a cost (see ``check``).
        """

    @abstractmethod
    def places(
        self, scope: str, attributes: Mapping[str, str], cost: Cost = 1
    ) -> tuple[Place, ...]:
        """Return the buckets that can refuse such a request; none if its attributes are unreadable.

        They are those of the plans in force. Buckets of shadow limits are left out.

        :raises UsageError: ``cost`` is not a cost (see ``check``).
        """

    @abstractmethod
    def wait_at(self, place: Place) -> None:
        """Count a request that waits at a bucket."""

    @abstractmethod
    def give_up(
        self,
        place: Place,
        scope: str,
        attributes: Mapping[str, str],
        cost: Cost,
        decision: Decision,
    ) -> None:
        """Count the refusal of a request that has waited at a bucket, and waits no longer."""

    @abstractmethod
    def watch(self, watcher: Watcher | None) -> None:
        """Tell ``watcher`` of changes that may let waiting requests pass; None ends it.

        Releases take longer while there is a watcher.
        """

    @abstractmethod
    def guard(
        self, failed: Callable[[str, Exception], Decision], unready: Callable[[], Decision]
    ) -> None:
        """Make checks return the result of these functions instead of raising a failure.

        ``failed`` gets the scope and the error; ``unready`` decides before the first swap.
        """

    @abstractmethod
    def waive(self, by_scope: Mapping[str, Waiver]) -> None:
        """Refuse nothing at and below these scopes from now on.

        The call replaces earlier waivers. It takes constant time, waits for no swap, and leaves
        buckets as they are; every check that starts afterwards obeys it, also before the first
        swap, whatever ``guard`` was given.
        """

    @abstractmethod
    def waived(self, scope: str) -> Waiver | None:
        """Return the waiver at ``scope``; None if there is none."""

    @abstractmethod
    def mirror(self, mirror: Mirror | None) -> None:
        """Tell ``mirror`` of every decision from now on; None ends it.

        Decisions of ``guard``'s functions are left out. Checks take longer while there is a
        mirror. A forked child has none.
        """

    @abstractmethod
    def release(self, decision: Decision) -> None:
        """Free the slots that an allowed decision holds; see ``Decision.release``."""

    @abstractmethod
    def settle(self, decision: Decision, actual: Cost, now: int | None = None) -> None:
        """Correct the cost of an allowed decision; see ``Decision.settle``."""

    @abstractmethod
    def charge(
        self, scope: str, attributes: Mapping[str, str], cost: Cost, now: int | None = None
    ) -> None:
        """Charge a request that is over, whatever is left; see ``Agent.charge``.

        :raises UsageError: ``cost`` is no cost.
        """

    @abstractmethod
    def reset(
        self,
        scope: str,
        limit: str,
        attributes: Mapping[str, str | None],
        *,
        budget: bool = False,
        now: int | None = None,
    ) -> ResetCounts | None:
        """Make all buckets of one key as those of an untracked key (see docs/buckets.md).

        ``attributes``: a value, or None for an absent attribute, for each attribute that the limit
        counts per. Buckets of all overrides are reset. Return None if there is no such limit.

        :raises Busy: the calling thread is changing the engine, as a signal handler may be.
        """

    @abstractmethod
    def new_wallet(self) -> AnyWallet:
        """Return an empty wallet for a limit across the cluster."""

    @abstractmethod
    def new_key_wallets(self) -> AnyKeyWallets:
        """Return wallets, by key, for a limit across the cluster that counts per key."""

    @abstractmethod
    def with_wallets(self, work: Callable[[], T]) -> T:
        """Call ``work``, which reads or fills wallets by key, while no request is decided."""

    @abstractmethod
    def keep_tokens(
        self, name: GroupName, key: Key, now: int | None = None, *, owed: bool = False
    ) -> int:
        """Move tokens from the wallet of a key into the process's own part of its bucket.

        Return how many: as many as there is room for. A key without a bucket has a full one.
        After the deadline of the wallets: 0.

        :param owed: only as many as it owes, after requests that were settled with more.
        """

    @abstractmethod
    def spent(self, name: GroupName, now: int | None = None) -> int | None:
        """Return the total that was spent of a pooled limit; None if it has no bucket.

        The bucket of a limit without conditions begins with the first call: what its wallet is
        granted from then on can be spent. Decisions that began earlier are counted.
        """

    @abstractmethod
    def swap(
        self, plans: PlanSet, now: int | None = None, *, pause: Callable[[], object] = ...
    ) -> None:
        """Replace all plans at one instant and keep the buckets (rules: ``migrate``).

        A bucket follows the change when it is next touched, so a swap delays no check. ``pause`` is
        called between small pieces of the work, without locks: in a ``cooperative`` thread, other
        threads run there.
        """

    @abstractmethod
    def plan(self, scope: str) -> ScopePlan | None:
        """Return the plan that governs ``scope`` now."""

    @property
    @abstractmethod
    def generation(self) -> int:
        """Generation of the plans in force; 0 before the first swap."""

    @abstractmethod
    def usage(self, *, fill: bool = False, pause: Callable[[], object] = ...) -> EngineCounts:
        """Return the counts so far and reset each limit's ``lowest``. ``pause``: see ``swap``.

        ``fill``: also examine every bucket, to count keys by their use of the limit, and show the
        busiest keys.
        """

    @abstractmethod
    def kept(self, *, pause: Callable[[], object] = ...) -> Iterator[KeptBuckets]:
        """Yield all buckets that differ from those of new keys, for a later process.

        Buckets of concurrency limits, and of limits across the cluster, are left out. ``pause``:
        see ``swap``; the caller may also rest between any two.

        :raises Interrupted: the plans have changed meanwhile: begin again.
        """

    @abstractmethod
    def restore(self, kept: KeptBuckets, by: int) -> int | None:
        """Put buckets back whose engine's clock was behind this one by ``by`` (nanoseconds).

        Return how many; None if the limit is not in force with the same parameters. Do so before
        the first decision, at the instant of the swap. A key that has a bucket already keeps that.
        """

    @property
    @abstractmethod
    def changing(self) -> bool:
        """True in a thread that is changing the engine at this moment, as a handler may be."""

    @abstractmethod
    def standstill(self) -> Generator[None]:
        """Return a generator that holds the engine still for a fork.

        Its first step waits for the end of a change under way, and then prevents further ones;
        closing it permits them again. An exception at any moment leaves it in one of the two
        states.
        """

    @abstractmethod
    def after_fork_in_child(self) -> None:
        """Take fresh locks, after the standstill has ended. Safe to repeat."""
