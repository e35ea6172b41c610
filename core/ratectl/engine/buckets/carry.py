"""Carry: what a request carries over to the bucket that serves it now.

A request whose bucket is another one than before a publication carries over what it left: the state
of the old bucket at the publication, aged since by the rates that the request itself was under. It
does so at its first look at the new bucket. To do it twice changes nothing, so the marks of those
that have done it only save time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

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

Left = Callable[["GroupName", "Change", "Mapping[str, str]"], "State"]
"""Function that returns the state of the bucket that a request left at a change."""

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
        for stay in self._path:
            in_use = stay.in_use
            for at, rule in stay.rules:
                if state is not None and algorithm is not None:
                    state = migrate(algorithm, rule, state, at, in_use=in_use)
                algorithm, in_use = rule, False
            if stay.left is not None and stay.name is not None:
                assert algorithm is not None
                left = self._left(stay.name, stay.left, attributes)
                state = left if state is None else algorithm.stricter(state, left, stay.left.at)
        return state
