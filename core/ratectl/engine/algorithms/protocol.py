"""The protocol of an algorithm: all that the engine asks of one.

A new algorithm is a module here with one subclass of ``Algorithm``. The engine itself names none.
To be decided by the compiled core as well, it needs a packing (``native.packing``); without one,
its buckets are decided in Python.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, NamedTuple, Protocol, Self, TypeVar

if TYPE_CHECKING:
    from ratectl.engine.algorithms.refunds import Refunds

__all__ = ["FOREVER", "NEVER", "UNKNOWN", "Algorithm", "Extent", "Slot", "State", "migrate"]

NEVER: Final = -1
"""Stands for a wait in nanoseconds: waiting does not help."""

UNKNOWN: Final = -2
"""Stands for a wait in nanoseconds: it ends when other requests release what they hold."""

FOREVER: Final = 1 << 100
"""Later than any instant, and longer than any time, in nanoseconds."""

State = object
"""Bucket state of one key. Only the algorithm that made it can read it."""

S = TypeVar("S")


class Slot(Protocol):
    """Slots that one request holds until it releases them."""

    def release(self) -> None:
        """Free the slots. Only the first call has an effect."""


class Extent(NamedTuple):
    """Bound on the time for which a bucket remembers what it admitted."""

    capacity: int
    """Largest cost that a bucket admits at once."""
    token_ns: int
    """Longest time in which one token comes; 0 if all come back at the end of ``span_ns``."""
    span_ns: int
    """Longest window, and longest time for which a slot is held."""

    def joined(self, other: Extent) -> Extent:
        """Return the bound of both."""
        return Extent(
            max(self.capacity, other.capacity),
            max(self.token_ns, other.token_ns),
            max(self.span_ns, other.span_ns),
        )


class Algorithm(ABC, Generic[S]):
    """One kind of limit with its parameters: arithmetic on bucket states of type ``S``.

    Two algorithms are equal if they are of one kind and have the same parameters. Unless slots are
    held, states are immutable: a charge returns another state. Times are in nanoseconds. A wait is
    0 for now, ``NEVER`` or ``UNKNOWN``.
    """

    __slots__ = ()

    capacity: int
    """Cost that a full bucket admits at once."""

    holds: ClassVar[bool] = False
    """True if a request takes slots and holds them until it releases them."""

    starts_full: ClassVar[bool] = False
    """True if a new bucket always begins with ``full``, whatever has changed before."""

    refunds: Refunds | None = None
    """Where refunds are noted that a bucket has no room for, if others have its tokens as well."""

    wallets: Any = None
    """Wallets by key that have tokens beside the buckets (``KeyedBucket``)."""

    _key: tuple[object, ...]
    """The parameters."""

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def parameters(self) -> str:
        """Text of the parameters: equal in another process if they are equal."""
        return repr(self._key)

    # New states ---------------------------------------------------------------------------------

    @abstractmethod
    def full(self, now: int) -> S:
        """Return a bucket that was never drawn from."""

    @abstractmethod
    def spent(self, used: int, now: int) -> S:
        """Return a bucket from which ``used`` is missing; an empty one if it holds less."""

    def copied(self, state: S) -> S:
        """Return the state of another bucket that begins as this one."""
        return state

    def detached(self, state: S) -> S:
        """Return an equal state that an attempt may change: ``state`` stays as it is."""
        return state

    # Deciding -----------------------------------------------------------------------------------

    @abstractmethod
    def attempt(self, state: S, cost: int, now: int) -> tuple[int, S, int, Slot | None]:
        """Take ``cost`` if it is available. Return the wait, state, remaining cost and slot taken.

        If it is not available, the state is as of ``now``, and the wait is the time until it is.
        """

    @abstractmethod
    def settle(self, state: S, more: int, now: int, since: int, cost: int) -> S:
        """Charge ``more``, even below empty; refund it if it is negative.

        A refund belongs to a charge at ``since``. It never makes the bucket fuller than if that
        charge had been smaller; where this cannot be known, the bucket gets less. ``cost`` is what
        was charged then to this very bucket and not refunded since; it is 0 for a bucket that began
        as a copy of the charged one.
        """

    def put_back(self, before: S, after: S, now: int) -> int:  # noqa: ARG002
        """Return the tokens that a refund has put back, rounded up. Only with ``refunds``."""
        return 0

    def drawn(
        self, key: Any, cost: int, now: int, wait: int, state: S, *, is_real: bool  # noqa: ARG002
    ) -> int:  # fmt: skip
        """Return what would be left in the wallet of a key after ``cost``; -1: nothing is drawn.

        ``wait`` and ``state``: as ``attempt`` has returned them. ``is_real``: otherwise, nobody is
        told of the request. Only with ``wallets``.
        """
        return -1

    def advance(self, state: S, now: int) -> S:  # noqa: ARG002
        """Return the state without what has expired by ``now``."""
        return state

    # Reading ------------------------------------------------------------------------------------

    @abstractmethod
    def used(self, state: S, now: int) -> int:
        """Return the cost that is missing from a full bucket, rounded up."""

    @abstractmethod
    def remaining(self, state: S, now: int) -> int:
        """Return the cost that would be admitted at once."""

    @abstractmethod
    def reset_after(self, state: S, now: int) -> int:
        """Return the time until the bucket is full."""

    @abstractmethod
    def extent(self) -> Extent:
        """Return the bound on the time for which a bucket remembers what it admitted."""

    @abstractmethod
    def at(self, state: S, now: int) -> int:
        """Return ``now``, or the bucket's own time if that is later."""

    def moved(self, state: S, by: int) -> S | None:  # noqa: ARG002
        """Return the state with all instants of the engine's clock later by ``by``.

        None: such buckets are not kept across a restart of the process.
        """
        return None

    # Comparing ----------------------------------------------------------------------------------

    @abstractmethod
    def same(self, one: S, other: S, now: int) -> bool:
        """Return True if two buckets give equal answers from ``now`` on."""

    @abstractmethod
    def stricter(self, one: S, other: S, now: int) -> S:
        """Return a bucket that admits no more than either of two."""

    # The state of a key without a bucket, ``default``, is not full after growth. Stored states
    # count what is missing beside that, and so does a state that is made for a group.

    def absolute(self, state: S, default: S, now: int) -> S:  # noqa: ARG002
        """Return the state of a bucket of a group, so that it can leave the group."""
        return state

    def relative(self, state: S, default: S, now: int) -> S:  # noqa: ARG002
        """Return a state from elsewhere, so that it can be stored in a group."""
        return state

    # Changes of parameters ----------------------------------------------------------------------

    def fixed(self) -> Self:
        """Return the algorithm without what may change later, such as the wall clock's offset."""
        return self

    def continues(self, old: Algorithm[Any]) -> bool:
        """Return True if a bucket of ``old`` needs no conversion, only ``continued``."""
        return type(old) is type(self)

    @abstractmethod
    def continued(self, old: Self, state: S, now: int) -> S:
        """Return the state of a bucket that had the parameters ``old`` until ``now``."""

    def carried(self, old: Self, state: S, now: int) -> S:
        """Return what a request carries over from a bucket of ``old`` to one that is in use."""
        return self.continued(old, state, now)


def migrate(
    old: Algorithm[Any], new: Algorithm[Any], state: Any, now: int, *, in_use: bool = False
) -> Any:
    """Return the state under ``new`` of a bucket that was ``state`` under ``old`` until ``now``.

    The bucket first accrues at its old parameters up to ``now``. ``in_use``: the state is what a
    request carries over to a bucket that other requests have used before. Then only what is
    *missing* counts: what was admitted and is not refilled yet, whatever the burst was then.

    ==================================  ==========================================================
    change                              what happens
    ==================================  ==========================================================
    token-bucket: rate or burst         tokens = min(tokens, new burst): growth adds capacity, not
                                        tokens. Into a bucket in use: burst - missing, if more
    sliding-window: count               what was counted stays counted
    sliding-window: length              what both lengths hold stays counted; a longer window
                                        does not know, and refunds, what is older
    quota: count                        what was counted stays counted until the window ends
    quota: unit, zone or time           what was counted counts in the new window, as if admitted
                                        now
    concurrency: max                    what is held stays held
    concurrency: hold                   a slot is freed when its old time is up or, if that is
                                        sooner, the new one, counted from the change
    one algorithm to another            what is missing (tokens, or what is counted) is missing
                                        from the new bucket, as if admitted now
    ==================================  ==========================================================
    """
    if new.continues(old):
        return new.carried(old, state, now) if in_use else new.continued(old, state, now)
    return new.spent(old.used(state, now), old.at(state, now))
