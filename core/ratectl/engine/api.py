"""What every engine takes and gives: plans in, decisions and usage out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from ratectl.engine.algorithms.concurrency import Slot, SlotState
from ratectl.engine.algorithms.quota import QuotaState
from ratectl.engine.algorithms.sliding_window import WindowState
from ratectl.engine.algorithms.token_bucket import TokenState

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping

    from ratectl.engine.conditional_limit import Conditions, LimitChoice
    from ratectl.engine.decision import Decision
    from ratectl.engine.waivers import Waiver

__all__ = [
    "Algorithm",
    "Bucket",
    "Engine",
    "EngineUsage",
    "Identity",
    "LimitPlan",
    "LimitUsage",
    "Mirror",
    "PlanSet",
    "Request",
    "ScopePlan",
    "State",
]

State = TokenState | WindowState | QuotaState | SlotState

Bucket = tuple[State, int, int]
"""State of one key, the epoch of its group's parameters that it follows, and its serial number: a
bucket that is made again gets another one."""


class Algorithm(Protocol):
    """The maths of one kind of limit, with its parameters; a state fits the kind that made it.

    States of token buckets, windows and quotas never change: what changes a bucket returns another
    state. Times are in nanoseconds. A wait is 0 for now, ``NEVER`` for never, and ``UNKNOWN``.
    """

    @property
    def holds(self) -> bool:
        """True where slots are taken, and held until they are released."""

    @property
    def most(self) -> int:
        """What a full bucket admits at once."""

    def full(self, now: int) -> State:
        """A bucket that was never drawn from."""

    def spent(self, used: int, now: int) -> State:
        """A bucket from which ``used`` is missing (all of it, if that is more than it holds)."""

    def used(self, state: Any, now: int) -> int:
        """What is missing from a full bucket, rounded up."""

    def at(self, state: Any, now: int) -> int:
        """``now``, or the bucket's own time if that is later."""

    def advance(self, state: Any, now: int) -> Any:
        """Return the state as of ``now``: what has passed by then is forgotten."""

    def attempt(self, state: Any, cost: int, now: int) -> tuple[int, Any, int, Slot | None]:
        """Take ``cost`` if it is available. Return the wait, state, remaining cost and slot taken.

        If it is not available, the state is as of ``now``, and the wait is the time until it is.
        """

    def settle(self, state: Any, more: int, now: int, since: int, cost: int) -> Any:
        """Charge ``more``, admitted or not; or refund, where it is negative.

        What is refunded was charged at ``since``. The bucket never gets fuller than if it had not
        been: where that cannot be known, emptier. ``cost`` was charged then to this very state, and
        has not been given back; it is 0 for a state that began as a copy of the one charged.
        """

    def remaining(self, state: Any, now: int) -> int:
        """What would be admitted at once."""

    def reset_after(self, state: Any, now: int) -> int:
        """How long until the bucket is full."""

    def settled_after(self, owed: int = 0) -> int:
        """How long until any bucket is full, however empty, or ``owed`` below empty."""

    def same(self, one: Any, other: Any, now: int) -> bool:
        """Whether two buckets answer alike from ``now`` on."""

    def stricter(self, one: Any, other: Any, now: int) -> State:
        """A bucket that admits no more than either of two."""


Request = tuple[str] | tuple[str, "Mapping[str, str]"] | tuple[str, "Mapping[str, str]", int]
"""A scope, attributes and a cost; the latter two may be left out."""

Identity = tuple[str, str, bool]
"""Whose buckets: (declared scope, name, whether a budget). With the overrides that touched a limit,
it never has two sets of parameters."""


class LimitPlan:
    """A limit as an engine runs it; a budget is one whose buckets a whole subtree shares."""

    __slots__ = ("algorithm", "budget", "name", "overrides", "per", "scope", "shadow")

    def __init__(
        self,
        scope: str,
        name: str,
        algorithm: Algorithm,
        per: tuple[str, ...],
        shadow: bool,
        budget: bool = False,
        overrides: tuple[str, ...] = (),
    ) -> None:
        self.scope = scope
        self.name = name
        self.algorithm = algorithm
        self.per = per
        self.shadow = shadow
        self.budget = budget
        self.overrides = overrides
        """The overrides that select these buckets, among those of the limit."""

    @property
    def identity(self) -> Identity:
        return (self.scope, self.name, self.budget)


class ScopePlan:
    """The limits of one declared scope, and the budgets on its path; all must admit a request.

    ``conditions`` is None where no limit depends on the request.
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

    def limit(self, name: str) -> LimitPlan | LimitChoice | None:
        """The limit of this name."""
        return next((each for each in self.limits if each.name == name and not each.budget), None)

    def budget(self, scope: str, name: str) -> LimitPlan | LimitChoice | None:
        """The budget of this name that ``scope`` declares."""
        identity = (scope, name, True)
        return next((each for each in self.limits if each.identity == identity), None)

    def by_identity(self, identity: Identity) -> LimitPlan | LimitChoice | None:
        """The limit or budget with these buckets."""
        scope, name, budget = identity
        return self.budget(scope, name) if budget else self.limit(name)

    def counterpart(self, limit: LimitPlan | LimitChoice) -> LimitPlan | LimitChoice | None:
        """What does here what ``limit`` does in another generation."""
        return self.budget(limit.scope, limit.name) if limit.budget else self.limit(limit.name)


@dataclass(frozen=True, slots=True)
class PlanSet:
    """Everything a generation says, by declared scope. Never changed once made."""

    generation: int
    scopes: Mapping[str, ScopePlan] = field(default_factory=dict)
    until_ns: int | None = None
    """When an exception starts or ends next, in nanoseconds since 1970; None for never."""

    def find(self, scope: str) -> ScopePlan | None:
        """The plan of ``scope`` or of its nearest declared ancestor."""
        while True:
            plan = self.scopes.get(scope)
            if plan is not None or scope in ("/", ""):
                return plan
            scope = scope.rpartition("/")[0] or "/"


@dataclass(frozen=True, slots=True)
class LimitUsage:
    """Counts of one limit since the engine started, in requests."""

    scope: str
    limit: str
    overrides: tuple[str, ...]
    budget: bool
    shadow: bool
    allowed: int
    refused: int
    """Refused for now."""
    never: int
    """Refused for good: the cost exceeds what a full bucket holds, or the rate is zero."""
    shadow_refused: int
    """Admitted, though this limit, in shadow, would have refused."""
    most: int
    """What a full bucket admits at once."""
    lowest: int | None
    """Least remaining of any key since usage was last read; None when nothing was admitted."""
    keys: int
    """Keys tracked now: those whose bucket is not full."""
    top_refused: tuple[tuple[str, int], ...]
    """Most refused keys since the start, most first; approximate beyond a few dozen keys."""


@dataclass(frozen=True, slots=True)
class EngineUsage:
    """What an engine has seen since it started."""

    generation: int
    limits: tuple[LimitUsage, ...]
    no_policy: int
    """Requests whose scope no policy covers."""
    buckets: int
    overflowed: int
    """Requests answered from shared overflow buckets because the table was full."""


class Mirror(Protocol):
    """Is told of what an engine does, right after it was done. Never raises."""

    def decided(
        self, scope: str, attributes: Mapping[str, str], cost: int, now: int, decision: Decision
    ) -> bool:
        """A request was decided at ``now``. True: its release matters, whatever it charged."""

    def released(self, decision: Decision) -> None:
        """It was released."""

    def settled(self, decision: Decision, actual: int, now: int) -> None:
        """Its cost was corrected at ``now``."""


class Engine(ABC):
    """Buckets for one process. Thread-safe."""

    name: str
    """The implementation: ``pure`` or ``c``."""

    @abstractmethod
    def check(
        self, scope: str, attributes: Mapping[str, str], cost: int = 1, now: int | None = None
    ) -> Decision:
        """Decide one request, charging every limit or none.

        ``cost`` 0 looks without taking. ``now`` (nanoseconds) is for tests and replays; the
        engine reads its clock otherwise.

        :raises UsageError: ``cost`` is negative or not an integer.
        """

    @abstractmethod
    def check_many(self, requests: Iterable[Request], now: int | None = None) -> list[Decision]:
        """Decide requests in order, all as of one reading of the clock.

        :raises UsageError: an entry is no (scope, attributes) or (scope, attributes, cost).
        """

    @abstractmethod
    def gate(self, scope: str, *names: str, cost: int = 1) -> Callable[..., bool]:
        """``check`` for one scope, as a function of the values of the attributes ``names``.

        It takes them in this order, None for an absent one, and answers True or False.
        """

    @abstractmethod
    def guard(
        self, failed: Callable[[str, Exception], Decision], unready: Callable[[], Decision]
    ) -> None:
        """From now on no check raises a failure: these answer instead.

        ``failed`` gets the scope and the error; ``unready`` answers before the first swap.
        """

    @abstractmethod
    def waive(self, by_scope: Mapping[str, Waiver]) -> None:
        """From now on refuse nothing at and below these scopes; elsewhere, all as before.

        Replaces what was waived before. Takes as long for any number of plans, and waits for no
        swap; buckets stay as they are, and every check that starts afterwards goes by it. Before
        the first swap, too, whatever ``guard`` was given.
        """

    @abstractmethod
    def waived(self, scope: str) -> Waiver | None:
        """What is waived at ``scope``; None for nothing."""

    @abstractmethod
    def mirror(self, mirror: Mirror | None) -> None:
        """From now on tell ``mirror`` of every decision; None for nobody, as at first.

        Not of what ``guard``'s functions answered. While there is a mirror, checks take longer. A
        forked child has none.
        """

    @abstractmethod
    def release(self, decision: Decision) -> None:
        """Free the slots that an allowed decision holds; see ``Decision.release``."""

    @abstractmethod
    def settle(self, decision: Decision, actual: int, now: int | None = None) -> None:
        """Correct the cost of an allowed decision; see ``Decision.settle``."""

    @abstractmethod
    def swap(
        self, plans: PlanSet, now: int | None = None, *, pause: Callable[[], object] = ...
    ) -> None:
        """Replace all plans at one instant, keeping buckets (rules: ``migrate``).

        What the change means for a bucket is worked out when the bucket is next touched, so a swap
        keeps no check waiting. ``pause`` is called between small pieces of the work, without locks:
        in a ``cooperative`` thread, others get their turn there.
        """

    @abstractmethod
    def plan(self, scope: str) -> ScopePlan | None:
        """The plan that governs ``scope`` now."""

    @property
    @abstractmethod
    def generation(self) -> int:
        """Generation of the plans in force; 0 before the first."""

    @abstractmethod
    def usage(self, *, pause: Callable[[], object] = ...) -> EngineUsage:
        """Counts so far; resets each limit's ``lowest``. ``pause`` is as for ``swap``."""

    @abstractmethod
    def standstill(self) -> Generator[None]:
        """Return a generator that holds the engine still for a fork.

        Its first step waits until no change is half done, and keeps others from starting; closing
        it lets them go on. An exception at any moment leaves it in one of the two states.
        """

    @abstractmethod
    def after_fork_in_child(self) -> None:
        """Take fresh locks, after the standstill has ended. Safe to repeat."""
