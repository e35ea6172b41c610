"""Choice of the member that owns the limits: dedicated owners come before all others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ratectl.cluster.protocol.timing import SECOND

if TYPE_CHECKING:
    from collections.abc import Callable

    from ratectl.cluster.entries import Entry, Hint, RosterState

__all__ = ["CLAIM_AFTER", "Succession", "heir"]

CLAIM_AFTER: Final = 1 * SECOND
"""An owner that has not answered a member for so long since it was named is silent."""
_REST: Final = 10 * SECOND
"""A dedicated owner that others have replaced does not come back sooner: it may be slow, or some
members cannot reach it. Each change of the owner costs those a pause."""


class Succession:
    """Knowledge of one member about owners, to name the next one.

    :param lasts: nanoseconds that an entry in the roster lasts. For twice as long, the member
        prefers no dedicated owner that was silent: by then, others have removed the entry of one
        that has ended.
    """

    def __init__(self, member: str, lasts: int, *, dedicated: bool) -> None:
        self._member = member
        self._lasts = lasts
        self._dedicated = dedicated
        self._revision = -1
        """Revision of the newest hint, and when the member has read it the first time."""
        self._named_at = 0
        self._owner: str | None = None
        self._given_to: str | None = None
        """Member that this one has chosen as another owner."""
        self._rests_until = 0
        self._silent: dict[str, int] = {}
        """Owners that were silent, and until when they are not preferred."""

    def next_owner(self, hint: Hint, state: RosterState, reached_at: int, now: int) -> Entry | None:
        """Return the member to name as the owner now; None if the hint is to stay.

        :param reached_at: when an owner has answered the last time.
        """
        owner = None if hint.owner is None else hint.owner.member
        if hint.revision != self._revision:
            self._revision, self._named_at = hint.revision, now
            before, self._owner = self._owner, owner
            if before == self._member and owner not in {before, self._given_to}:
                self._rests_until = now + _REST
            elif before not in {None, owner} and owner == self._member:  # it may have been silent
                self._silent[before] = max(self._silent.get(before, 0), now + _REST)
        if owner == self._member:
            return None
        if owner is not None:
            if now - max(reached_at, self._named_at) > CLAIM_AFTER:
                self._silent[owner] = now + 2 * self._lasts
            elif not self._dedicated or _is_dedicated(state, owner):
                return None
            if self._dedicated and now < self._rests_until:
                return None
        return self._next(state, now)

    def other_owner(
        self, state: RosterState, heard: Callable[[str], bool], now: int
    ) -> Entry | None:
        """Return another member to name as the owner, for a member that owns other shards as well.

        If there are dedicated owners, it is one of them. None: there is no such member.

        :param heard: returns True for a member from which this one has heard lately.
        """
        if any(not entry.share and not entry.is_dedicated for entry in state.live()):
            return None  # each change of the owner costs less when shares do not move
        others = [entry for entry in self._willing(state, now) if heard(entry.member)]
        dedicated = [entry for entry in others if entry.is_dedicated]
        chosen = dedicated if dedicated or self._dedicated else others
        found = max(chosen, key=lambda entry: (entry.share, entry.member), default=None)
        self._given_to = None if found is None else found.member
        return found

    def _next(self, state: RosterState, now: int) -> Entry | None:
        own = state.entries.get(self._member)
        if self._dedicated:
            return own
        dedicated = [entry for entry in self._willing(state, now) if entry.is_dedicated]
        owning = state.owners()
        key = lambda entry: (entry.member in owning, entry.member)  # noqa: E731
        return min(dedicated, key=key, default=own)

    def _willing(self, state: RosterState, now: int) -> list[Entry]:
        """Return other members that can be owners, and were not silent."""
        self._silent = {member: until for member, until in self._silent.items() if now < until}
        return [
            entry
            for entry in state.live()
            if entry.record.address
            and entry.member != self._member
            and entry.member not in self._silent
        ]


def _is_dedicated(state: RosterState, member: str) -> bool:
    entry = state.entries.get(member)
    return entry is not None and entry.is_dedicated


def heir(state: RosterState, leaving: str, runs: Callable[[str], bool]) -> Entry | None:
    """Return the member that an owner which leaves hands over to; None if there is no other.

    :param runs: returns True for a member from which this one has heard lately.
    """
    others = [entry for entry in state.live() if entry.record.address and entry.member != leaving]
    owning = state.owners()
    return max(
        others,
        key=lambda entry: (
            runs(entry.member),
            entry.is_dedicated,
            entry.member not in owning,
            entry.share,
            entry.member,
        ),
        default=None,
    )
