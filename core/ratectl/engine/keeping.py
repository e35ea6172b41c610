"""Buckets that outlive the process: they are read out, and put back into the engine of a later one.

The later engine must be one for the same keys (see ``stable_keys``), with the plans and the time
that this one had. Then publications and exceptions follow, as if the process had gone on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ratectl.engine.resetting import ResettingEngine
from ratectl.runtime.cooperative import breathe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ratectl.engine.algorithms.protocol import Algorithm, State
    from ratectl.engine.buckets.bucket_set import Group
    from ratectl.engine.buckets.counters import Key
    from ratectl.engine.limit_plan import GroupName

__all__ = ["Interrupted", "KeepingEngine", "KeptBuckets"]

_PIECE: Final = 32
"""Buckets that are read in one step: some tens of microseconds."""


class Interrupted(Exception):
    """Raised when the plans changed while buckets were read: they do not belong together."""


class KeptBuckets(NamedTuple):
    """Some buckets of one group."""

    group: GroupName
    rule: str
    """Algorithm and parameters: a bucket means nothing under others."""
    default: State | None
    """State of a key without a bucket; None for a full bucket."""
    shared: list[tuple[int, State]]
    """Buckets of keys without room for their own, by number."""
    buckets: list[tuple[Key, State]]


class KeepingEngine(ResettingEngine):
    """An engine without ``check``."""

    def kept(self, *, pause: Callable[[], object] = breathe) -> Iterator[KeptBuckets]:
        with self._swapping:
            seq, groups = self._groups.seq, self._groups.in_force()
        for group in groups:
            if group.algorithm.moved(group.default_at(0), 0) is None:
                continue
            pieces = group.pieces(_PIECE)
            part: KeptBuckets | None = self._alone(self._first_part, group)
            while part is not None:
                if part.buckets or part.shared or part.default is not None:
                    yield part
                pause()
                part = self._alone(self._next_part, group, pieces, seq)

    def _first_part(self, group: Group) -> KeptBuckets:
        """Return a group's default, and its shared buckets."""
        shared = [(slot, group.shared_at(slot)) for slot in group.overflow]
        found = [(slot, bucket[0]) for slot, bucket in shared if bucket is not None]
        return KeptBuckets(group.group_name, _rule(group.algorithm), group.default, found, [])

    def _next_part(
        self, group: Group, pieces: Iterator[list[Key]], seq: int
    ) -> KeptBuckets | None:  # fmt: skip
        """Return buckets that differ from those of a new key; None at the end."""
        if self._groups.seq != seq:
            raise Interrupted
        keys = next(pieces, None)
        if keys is None:
            return None
        now = self._instant(None)
        algorithm, default, shares = group.algorithm, group.default_at(now), len(group.overflow)
        found = []
        for key in keys:
            bucket = group.tracked(key)
            if bucket is not None and (shares or not algorithm.same(bucket[0], default, now)):
                found.append((key, bucket[0]))
        return KeptBuckets(group.group_name, _rule(algorithm), None, [], found)

    def restore(self, kept: KeptBuckets, by: int) -> int | None:
        return self._alone(self._restore, kept, by)

    def _restore(self, kept: KeptBuckets, by: int) -> int | None:
        plan = self._groups.plan(kept.group)
        if plan is None or _rule(plan.algorithm) != kept.rule:
            return None
        group, now = self._groups.group(plan), self._turns.last
        algorithm = group.algorithm
        if kept.default is not None:
            group.default = algorithm.moved(kept.default, by)
        for slot, state in kept.shared:
            for number in group.slots_after_restart(slot):
                self._share(group, number, algorithm.moved(state, by), now)
        for key, state in kept.buckets:
            self._insert(group, key, algorithm.moved(state, by), now)
        return len(kept.shared) + len(kept.buckets)

    def _insert(self, group: Group, key: Key, state: State, now: int) -> None:
        if group.buckets.get(key) is not None:
            return
        group.owe(group.algorithm, state, now)
        slot = group.slot(key)
        shared = group.shared_at(slot)
        self._table.insert(group, key, state, now)
        if shared is not None and group.buckets.get(key) is None:  # the table is smaller now
            group.write_shared(slot, shared[0])
            self._share(group, slot, state, now)

    def _share(self, group: Group, slot: int, state: State, now: int) -> None:
        """Let a shared bucket admit no more than a state."""
        known = group.shared_at(slot)
        if known is not None:
            state = group.algorithm.stricter(known[0], state, now)
        group.write_shared(slot, state)


def _rule(algorithm: Algorithm[Any]) -> str:
    return f"{type(algorithm).__name__}{algorithm.parameters}"
