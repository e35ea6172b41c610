"""Room that a bucket had in the past: as much may be refunded.

If requests had been charged less at first, the bucket would have been fuller from the charge on,
and what it had no room for would have been lost. So a refund is at most the least room since the
charge. It then takes this room from all refunds of charges before now: they would have been in the
bucket together.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

__all__ = ["Rooms"]

_MOST: Final = 16
_SHORTEST: Final = 5_000_000
"""Nanoseconds."""


class Rooms:
    """The least room in each of a few slices of time: recent ones are short, old ones long.

    :param since: nothing is known of the time until then.
    :param room: least room since then, in grains.
    """

    __slots__ = ("_rooms", "_starts")

    def __init__(self, since: int, room: int) -> None:
        self._starts = [since]
        self._rooms = [room]

    def note(self, now: int, room: int) -> None:
        """Note the room of now. Since the last call it was not less."""
        self._rooms[-1] = min(self._rooms[-1], room)
        if now - self._starts[-1] >= _SHORTEST:
            self._starts.append(now)
            self._rooms.append(room)
            if len(self._starts) > _MOST:
                self._merge(now)

    def _merge(self, now: int) -> None:
        """Merge the two slices that are the shortest together, for their age."""
        starts = self._starts
        place = min(
            range(1, len(starts) - 1),
            key=lambda i: (starts[i + 1] - starts[i - 1]) / (now - starts[i + 1] + _SHORTEST),
        )
        del starts[place]
        room = self._rooms.pop(place)
        self._rooms[place - 1] = min(self._rooms[place - 1], room)

    def take(self, grains: int, charged_at: int) -> int:
        """Take room for what was charged after an instant; return for how many grains there was."""
        first = bisect_left(self._starts, charged_at) - 1
        if first < 0:
            return 0
        taken = max(0, min(grains, *self._rooms[first:]))
        for place in range(first, len(self._rooms)):
            self._rooms[place] -= taken
        return taken
