"""Events of a group of buckets, and what is saved of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ratectl.engine.algorithms.protocol import State, migrate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratectl.engine.algorithms.protocol import Algorithm
    from ratectl.engine.buckets.counters import Key

__all__ = ["Event", "Room", "Saved", "cannot_wait"]

_PENDING: Final = 32
"""Most changes that a bucket may still have to follow."""


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

    @property
    def changes(self) -> bool:
        """True if it changed buckets."""
        return self.after is not self.before or self.missing > 0

    def followed(self, state: State) -> State:
        """Return the state after the event of a bucket that was in a state before."""
        after, at = self.after, self.at
        state = self.before.absolute(state, self.default, at)
        state = migrate(self.before, after, state, at)
        if self.missing:
            state = after.stricter(state, after.spent(self.missing, at), at)
        default = state if self.default_after is None else self.default_after
        return after.relative(state, default, at)


def cannot_wait(events: Sequence[Event]) -> bool:
    """Return True if buckets must follow these events even if no request touches them.

    They are many, or one counts the slots held at its instant for another algorithm: releases that
    come before a bucket follows would count less. A release only brings the bucket up to date that
    was charged, and not those that share its slots.
    """
    changes = [event for event in events if event.changes]
    return len(changes) > _PENDING or any(
        of.before.holds and not of.after.continues(of.before) for of in changes
    )


class Room:
    """Number of states that all groups may still save."""

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left


class Saved:
    """States of a group's buckets at an event, for the requests that left then.

    A bucket is saved before it is used again; until then, its state is still that of the event.
    """

    __slots__ = ("_room", "event", "lost", "shared", "states")

    def __init__(self, event: Event, room: Room) -> None:
        self.event = event
        self._room = room
        self.states: dict[Key, State] = {}
        self.shared: dict[int, State] = {}
        self.lost = 0
        """Largest cost that was missing from a bucket for which there was no room."""

    def save(self, key: Key | int, state: State, *, shared: bool) -> None:
        """Save a copy of the state of a bucket before the event, if there is room."""
        algorithm, at = self.event.before, self.event.at
        state = migrate(algorithm, algorithm, state, at)
        if algorithm.same(state, self.event.default, at):
            return
        if shared:
            assert isinstance(key, int)
            self.shared[key] = algorithm.copied(state)
        elif self._room.left > 0:
            self._room.left -= 1
            self.states[key] = algorithm.copied(state)
        else:
            self.lost = max(self.lost, algorithm.used(state, at))

    def of(self, key: Key, slot: int) -> State:
        """Return the state of a key whose bucket has been used since, or that has none."""
        state = self.states.get(key)
        if state is None:
            state = self.shared.get(slot)
        if state is None and self.lost:
            state = self.event.before.spent(self.lost, self.event.at)
        return self.event.default if state is None else state

    def free(self) -> None:
        """Make room for others."""
        self._room.left += len(self.states)
