"""Events of a group of buckets, and what is saved of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ratectl.engine.algorithms.protocol import State, migrate

if TYPE_CHECKING:
    from ratectl.engine.algorithms.protocol import Algorithm
    from ratectl.engine.buckets.counters import Key

__all__ = ["Event", "Saved"]


class Event(NamedTuple):
    """A publication that changed the parameters of a group, or after which requests left it."""

    seq: int
    at: int
    """Instant, in nanoseconds."""
    before: Algorithm[Any]
    after: Algorithm[Any]
    left: bool
    """True if requests may have left the group."""
    default: State
    """State of a key without a bucket, before the event."""
    missing: int = 0
    """Cost that is missing from every bucket then, at least."""
    default_after: State = None
    """State of a key without a bucket, after the event."""

    def followed(self, state: State) -> State:
        """Return the state after the event of a bucket that was in a state before."""
        after, at = self.after, self.at
        state = self.before.absolute(state, self.default, at)
        state = migrate(self.before, after, state, at)
        if self.missing:
            state = after.stricter(state, after.spent(self.missing, at), at)
        default = state if self.default_after is None else self.default_after
        return after.relative(state, default, at)


class Saved:
    """States of a group's buckets at an event, for the requests that left then."""

    __slots__ = ("lost", "shared", "states")

    def __init__(self) -> None:
        self.states: dict[Key, State] = {}
        self.shared: dict[int, State] = {}
        self.lost = False
        """True if there was no room for a state."""
