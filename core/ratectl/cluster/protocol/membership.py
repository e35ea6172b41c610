"""A member's entry in the roster, and entries of members that are gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratectl.cluster.protocol.timing import Timing

__all__ = ["Membership", "Reaper"]


class Membership:
    """Time until which a member may use its entry.

    :param lasts: nanoseconds that an entry lasts after it was sent to the store.
    :param sent: when the member sent its first entry.
    """

    def __init__(self, lasts: int, timing: Timing, sent: int) -> None:
        self._lasts = lasts
        self._timing = timing
        self.use_until = sent + lasts
        """The member may use its own share until then: others may have it afterwards."""

    @property
    def lend_until(self) -> int:
        """The member may lend its share until then, so that it has it back before it ends."""
        return self.use_until - self._timing.resume_after

    def renewed(self, sent: int) -> None:
        """Take over that the store has a renewal: nobody removes the entry before it is old."""
        self.use_until = max(self.use_until, sent + self._lasts)


class Reaper:
    """Finds entries that were not renewed: their shares may go to others.

    :param lasts: as for the members.
    """

    def __init__(self, lasts: int, timing: Timing) -> None:
        self._wait = timing.stretched(lasts)
        self._seen: dict[str, tuple[int, int | None]] = {}
        """Revision of each entry, and an instant after it was read; None: there is none yet."""

    def overdue(self, entries: Mapping[str, int], now: int) -> list[str]:
        """Return the members whose entries have not changed for too long.

        The wait begins with the second call that finds an entry: it may have been renewed while the
        first one waited for the store.

        :param entries: revision of each entry, by member.
        :param now: an instant before the entries were read, and after they were read before.
        """
        before, self._seen = self._seen, {}
        for member, revision in entries.items():
            known, since = before.get(member, (None, None))
            if known != revision:
                since = None
            elif since is None:
                since = now
            self._seen[member] = revision, since
        return [
            member
            for member, (_, since) in self._seen.items()
            if since is not None and now - since > self._wait
        ]
