"""A real store whose replies can be lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratectl.errors import OutcomeUnknown
from ratectl.records import HEAD

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratectl.stores.base import Compare, Op, Store, TxnResult

__all__ = ["Flaky"]


class Flaky:
    """Store that raises OutcomeUnknown after, or instead of, writing ``key`` (the head)."""

    def __init__(self, store: Store, *, applied: bool, key: str = HEAD) -> None:
        self._store = store
        self._key = key
        self._applied = applied
        self.lost = 0
        self.between: list[object] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def txn(self, compare: Sequence[Compare], ops: Sequence[Op]) -> TxnResult:
        if not any(op.key == self._key for op in ops) or self.lost:
            return self._store.txn(compare, ops)
        self.lost += 1
        if self._applied:
            self._store.txn(compare, ops)
        for action in self.between:
            action()  # type: ignore[operator]
        raise OutcomeUnknown("the reply was lost")
