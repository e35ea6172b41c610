"""Questions of a member that the owner, as the store names it, leaves without an answer."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from ratectl.cluster.protocol.timing import SECOND

if TYPE_CHECKING:
    from ratectl.records import OwnerHint

__all__ = ["Reach"]

_SILENT: Final = SECOND // 2
"""An owner that has not answered for so long is not reached. After a second, the member takes the
limits over, and the store may name the same owner again."""
_LASTING: Final = 5 * SECOND
"""An owner that does not answer for so long is a problem the first time."""
_OFTEN: Final = 3
"""So many owners in a minute that did not answer are a problem: one may have ended."""
_MINUTE: Final = 60 * SECOND


class Reach:
    """Questions of one member that owners in other processes have not answered."""

    def __init__(self) -> None:
        self._asked: OwnerHint | None = None
        """Owner that has not answered yet."""
        self._asked_at = 0
        self._counted = False
        self._last: OwnerHint | None = None
        """Owner that did not answer the last time."""
        self._failures: deque[int] = deque(maxlen=_OFTEN)
        """Times of the last failures."""

    def asks(self, owner: OwnerHint, now: int) -> None:
        """Take note of a question to an owner in another process, which is repeated."""
        if self._asked is None or self._asked.owner != owner.owner:
            self._asked, self._asked_at, self._counted = owner, now, False
        if not self._counted and now - self._asked_at >= _SILENT:
            self._counted, self._last = True, owner
            self._failures.append(now)

    def answered(self, owner: str) -> None:
        """Take note of a session with an owner. With one in another process, all is well."""
        if self._asked is not None and self._asked.owner == owner:
            self._asked = None
            self.met()

    def met(self) -> None:
        """Take note that members of other processes have sessions at the owner of this process."""
        self._failures.clear()
        self._last = None

    def left(self) -> None:
        """Take note that the store names this member, or nobody: it asks no other."""
        self._asked = None

    def unreached(self, now: int) -> OwnerHint | None:
        """Return the owner that this member cannot reach; None without a lasting problem."""
        if self._asked is not None and now - self._asked_at >= _LASTING:
            return self._asked
        often = len(self._failures) == _OFTEN and now - self._failures[0] < _MINUTE
        return self._last if often else None
