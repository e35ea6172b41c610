"""Carry: what a request carries over to the bucket that serves it now.

A request whose bucket is another one than before a publication carries over what it left: the state
of the old bucket at the publication, aged since by the rates that the request itself was under. It
does so at its first look at the new bucket. To do it twice changes nothing, so the marks of those
that have done it only save time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from ratectl.engine.algorithms.protocol import migrate
from ratectl.engine.buckets.counters import plain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratectl.engine.algorithms.protocol import Algorithm, State
    from ratectl.engine.buckets.bucket_set import Group
    from ratectl.engine.buckets.changes import Change
    from ratectl.engine.buckets.counters import Key
    from ratectl.engine.buckets.past import Stay
    from ratectl.engine.limit_plan import GroupName

__all__ = ["Carry", "Left"]


class Left(Protocol):
    """Access to the buckets that requests left."""

    def state_left(self, name: GroupName, change: Change, attributes: Mapping[str, str]) -> State:
        """Return the state of the bucket that a request left at a change."""

    def default_left(self, name: GroupName, change: Change) -> State:
        """Return the state that a key without a bucket left at a change."""

    def was_reset(
        self, name: GroupName, since: int, until: int | None, attributes: Mapping[str, str]
    ) -> bool:
        """Return True if a request's bucket was reset between two changes (None: up to now)."""


_MARKS: Final = 100_000
"""Most keys that are remembered as carried."""


class Carry:
    """Requests of one scope that have taken the same path to one group."""

    __slots__ = ("_left", "_marks", "_path", "names")

    def __init__(
        self,
        path: tuple[Stay, ...],
        group: Group,
        left: Left,
    ) -> None:
        self._path = path
        self._left = left
        names = dict.fromkeys(group.per)
        for stay in path:
            names.update(dict.fromkeys(stay.name[4] if stay.name else ()))
        self.names = tuple(names)
        """Attributes that select the buckets on the path."""
        self._marks: set[Key] = set()

    def mark(self, attributes: Mapping[str, str]) -> Key:
        """Return what tells apart requests that had different buckets on the path."""
        return plain(tuple([attributes.get(name) for name in self.names]))

    def is_done(self, mark: Key) -> bool:
        """Return True if the requests of a mark have carried, as far as is remembered."""
        return mark in self._marks

    def done(self, mark: Key) -> None:
        """Remember that the requests of a mark have carried."""
        if len(self._marks) >= _MARKS:
            self._marks = set()
        self._marks.add(mark)

    def state(self, attributes: Mapping[str, str]) -> State | None:
        """Return what a request carries over, under the present parameters; None for nothing."""
        state: State | None = None
        algorithm: Algorithm[Any] | None = None
        for stay, forgotten in zip(self._path, self._forgotten(attributes), strict=True):
            in_use = stay.in_use
            for at, rule in stay.rules:
                if state is not None and algorithm is not None:
                    state = migrate(algorithm, rule, state, at, in_use=in_use)
                algorithm, in_use = rule, False
            if stay.left is not None and stay.name is not None:
                assert algorithm is not None
                if forgotten:
                    left = self._left.default_left(stay.name, stay.left)
                else:
                    left = self._left.state_left(stay.name, stay.left, attributes)
                state = left if state is None else algorithm.stricter(state, left, stay.left.at)
        return state

    def _forgotten(self, attributes: Mapping[str, str]) -> list[bool]:
        """Return, for each stay, True if a later reset makes the request one of a new key there.

        The reset of a key forgets the buckets that only its requests used: they counted per the
        same attributes at least. A bucket that other keys used as well is carried over.
        """
        flags: list[bool] = []
        resets: list[set[str]] = []
        changes = [stay.left for stay in self._path]
        for stay, before in zip(reversed(self._path), [*reversed(changes[:-1]), None], strict=True):
            per = set(stay.name[4]) if stay.name else None
            flags.append(per is not None and any(key <= per for key in resets))
            since = 0 if before is None else before.seq
            until = None if stay.left is None else stay.left.seq
            if stay.name and self._left.was_reset(stay.name, since, until, attributes):
                resets.append(set(stay.name[4]))
        return flags[::-1]
