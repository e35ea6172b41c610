"""A member's work on the roster: it joins, renews its entry, and moves shares.

Every change of shares is one transaction, on condition that no record it was computed from has
changed. So the sum of all shares stays the whole, whoever writes at the same time, and whether or
not a reply is lost. Errors of the store pass through: call again.

No threads and no clock: ``now`` is the time before the call, in nanoseconds of the member's clock.
One thread at a time may use a roster.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ratectl.cluster.entries import (
    Entry,
    Overdue,
    RosterState,
    put_unowned,
    read_hints,
    read_roster,
)
from ratectl.cluster.joining import Joined, beginning
from ratectl.cluster.protocol.membership import Membership, Reaper
from ratectl.cluster.sockets import has_ended
from ratectl.errors import BundleError, Conflict, NotFound, UsageError
from ratectl.records import (
    WHOLE_SHARE,
    MemberRecord,
    member_key,
    name_problem,
    owner_key,
)
from ratectl.stores.base import Compare, Delete, Put

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ratectl.cluster.protocol.timing import Timing
    from ratectl.records import OwnerHint
    from ratectl.stores.base import Op, Store

__all__ = ["Roster"]

_ATTEMPTS: Final = 16
"""Transactions that a call tries while others write first."""

_STEP: Final = 1 << 30
"""Bound of the random step by which ``MemberRecord.renewed`` grows."""


class Roster:
    """The roster of one environment, for one member.

    :param member: id of the member. A process takes a new one each time that it starts, and each
        time that it has lost its entry: nobody knows what the old one still counts on.
    :param lasts: nanoseconds that an entry lasts after it was sent; renew it three times as often.
    :param dedicated: the member owns limits for others, and never has a share.
    """

    def __init__(
        self, store: Store, member: str, lasts: int, timing: Timing, *, dedicated: bool = False
    ) -> None:
        problem = name_problem(member)
        if problem:
            raise UsageError(problem)
        self.member = member
        self.dedicated = dedicated
        self.membership: Membership | None = None
        """How long the member may count on its entry; None before it has joined."""
        self.state: RosterState | None = None
        """The roster as it was read the last time."""
        self._store = store
        self._lasts = lasts
        self._timing = timing
        self._reaper = Reaper(lasts, timing)
        self._ended = Reaper(timing.resume_after, timing)
        """Finds members whose processes have ended, once nobody counts on their shares any more."""
        self._own: Entry | None = None
        """The member's entry; None if it must be read before it is written."""
        self._numbers: set[int] = set()
        """Values of ``renewed`` that this process has written, or may have written."""
        self._tried_at: int | None = None
        self._lost: dict[int, tuple[str, int]] = {}
        """Donations whose outcome is unknown, by the value of ``renewed`` written with them."""
        self._given: tuple[str, int] | None = None
        """Donation that turned out to be done, and that the caller does not know of yet."""

    # The member's own entry ---------------------------------------------------------------------

    def join(self, address: str, now: int, *, host: str = "") -> Joined:
        """Create the member's entry.

        The first member ever gets the whole of all limits. A member that finds no other gets the
        whole as well, or what nobody owns. Any other begins without a share. A dedicated owner
        has none, and does not count as a member that another finds.

        :param address: address at which the process answers as an owner; it may be empty.
        :raises UsageError: it has joined before, or a text is too long.
        :raises Conflict: another process has this id, or others wrote first too often.
        """
        if self.membership is not None:
            raise UsageError(f"member {self.member} has joined before: join under a new id")
        for _ in range(_ATTEMPTS):
            roster = read_roster(self._store)
            if self.member in roster.entries or self.member in roster.damaged:
                return self._joined_before(roster.entries.get(self.member))
            joined, ops = beginning(roster, dedicated=self.dedicated)
            record = self._first_record(joined.share, address, host)
            self._numbers.add(record.renewed)
            if self._tried_at is None:
                self._tried_at = now
            result = self._store.txn(
                [Compare(member_key(self.member), 0), roster.record_unchanged],
                [Put(member_key(self.member), record.encode()), *ops],
            )
            if result.ok:
                self._own = Entry(self.member, record, result.revision)
                self.membership = Membership(self._lasts, self._timing, now)
                return joined
        raise Conflict("others change the roster at the same time: try again")

    def _first_record(self, share: int, address: str, host: str) -> MemberRecord:
        renewed = secrets.randbelow(_STEP)
        record = MemberRecord(
            share=share, renewed=renewed, address=address, host=host, dedicated=self.dedicated
        )
        try:
            record.check()
        except (TypeError, ValueError) as error:
            raise UsageError(str(error)) from None
        return record

    def _joined_before(self, own: Entry | None) -> Joined:
        """Take over the entry that a call created whose reply was lost."""
        if own is None or own.record.renewed not in self._numbers or self._tried_at is None:
            raise Conflict(f"another process has the member id {self.member}: join under a new id")
        self._own = own
        self.membership = Membership(self._lasts, self._timing, self._tried_at)
        return Joined(own.share, starts_full=False)

    def renew(self, now: int) -> Entry | None:
        """Renew the member's entry and return it: others may have added to its share.

        :return: None if the entry is gone, damaged, or written by another process with the same id.
            The member has no share any more: it stops using it at once, and joins again under a new
            id.
        """
        for _ in range(_ATTEMPTS):
            own = self._read_own()
            if own is None:
                self._end(now)
                return None
            if self._write_own(own, own.share):
                if self.membership is not None:
                    self.membership.renewed(now)
                return self._own
        raise Conflict("others change the member's entry at the same time: try again")

    def leave(self, now: int, is_heir: Callable[[str], bool] = lambda _: True) -> None:
        """Remove the member's entry; the live member with the smallest share gets its share.

        Call it only when the share is not lent, and the member has stopped using it for good: the
        other member uses it at once. Without an heir, nobody owns the share until another member
        finds it so, or joins. A second call does nothing.

        :param is_heir: returns True for a member that surely runs. A process that was killed looks
            live for as long as its entry lasts.
        """
        for attempt in range(_ATTEMPTS):
            own = self._read_own()
            if own is None or self._leave(own, now, attempt, is_heir):
                self._end(now)
                return
        raise Conflict("others change the roster at the same time: try again")

    def _leave(self, own: Entry, now: int, attempt: int, is_heir: Callable[[str], bool]) -> bool:
        roster = self._look(now)
        shares = roster.shares()
        heirs = filter(is_heir, shares.keys() - {self.member})
        others = sorted(heirs, key=lambda each: (shares[each], each))
        if not own.share:
            compares, ops = [], []
        elif others:
            # If many leave at the same time, they would all write into the entry of one.
            heir = roster.entries[secrets.choice(others) if attempt else others[0]]
            compares, ops = [heir.unchanged], [heir.put(heir.share + own.share)]
        else:
            compares, ops = roster.leave_unowned(own.share)
        self._own = None
        delete = Delete(member_key(own.member))
        return self._store.txn([own.unchanged, *compares], [delete, *ops]).ok

    def _end(self, now: int) -> None:
        self._own = None
        if self.membership is not None:
            self.membership.use_until = min(self.membership.use_until, now)

    # Others -------------------------------------------------------------------------------------

    def read(self, now: int) -> RosterState:
        """Return the roster as it is, and remember it for ``share_of``.

        An entry is overdue if this member has read it twice, long enough apart, and its owner has
        not renewed it in between; or if the owner's process on this machine has ended.
        """
        roster = self._look(now)
        hints, problems = read_hints(self._store)
        roster = replace(roster, hints=hints, problems=(*roster.problems, *problems))
        self.state = roster
        return roster

    def _look(self, now: int) -> RosterState:
        """Read the entries, and find those that are overdue."""
        roster = read_roster(self._store)
        # What others write into an entry does not renew it. A damaged entry has its revision alone.
        seen = {member: entry.record.renewed for member, entry in roster.entries.items()}
        seen |= {member: -revision for member, revision in roster.damaged.items()}
        ended = {
            member: entry.record.renewed
            for member, entry in roster.entries.items()
            if member != self.member and has_ended(entry.record.address)
        }
        found = {*self._reaper.overdue(seen, now), *self._ended.overdue(ended, now)}
        overdue = tuple(
            Overdue(member, roster.revision_of(member)) for member in found - {self.member}
        )
        return replace(roster, overdue=overdue)

    def share_of(self, member: str) -> int:
        """Return the share of a member as it was read the last time; 0 if it had none."""
        return 0 if self.state is None else self.state.share_of(member)

    def wait_again(self) -> None:
        """Let no entry be overdue before it has been read for as long as it lasts, from now on."""
        self._reaper = Reaper(self._lasts, self._timing)

    def remove(self, member: str, revision: int) -> bool:
        """Remove an overdue entry, and add its share to the member's own.

        Nobody owns the share if this is a dedicated owner.

        :param revision: revision of the entry when it was found to be overdue.
        :return: False if it was written or removed meanwhile.
        :raises UsageError: it is the member's own entry.
        :raises NotFound: the member's own entry is gone.
        """
        if member == self.member:
            raise UsageError(f"member {member} cannot remove its own entry: it leaves")
        for _ in range(_ATTEMPTS):
            own = self._need_own()
            roster = read_roster(self._store)
            if roster.revision_of(member) != revision:
                return False
            share, key = roster.left_by(member), member_key(member)
            compares, ops = roster.leave_unowned(share) if self.dedicated else ([], [])
            mine = own.share if self.dedicated else own.share + share
            if self._write_own(own, mine, [Compare(key, revision), *compares], [Delete(key), *ops]):
                return True
        raise Conflict("others change the roster at the same time: try again")

    def give(self, other: str, part: int) -> Entry:
        """Move a part of the member's share to another member; return the member's entry.

        Call it only when the member has lowered the share that it lends and uses by this part, and
        ``Timing.resume_after`` has passed since: the other member uses it at once. After an error
        of the store, call again with the same arguments: a part that was moved is not moved twice.

        :raises UsageError: the member has less, or it is the other member.
        :raises NotFound: the other's entry is gone or damaged, or the member's own is gone.
        """
        if other == self.member or part <= 0:
            raise UsageError(f"cannot give {part} millionths to {other}")
        for _ in range(_ATTEMPTS):
            own = self._need_own()
            given, self._given = self._given, None
            if given == (other, part):
                return own
            if part > own.share:  # others may have added to it
                self._own = None
                own = self._need_own()
            if part > own.share:
                raise UsageError(f"cannot give {part} millionths of {own.share}")
            target = self._other(other)
            compare, put = target.unchanged, target.put(target.share + part)
            if self._write_own(own, own.share - part, [compare], [put], donation=(other, part)):
                return self._need_own()
        raise Conflict("others change the roster at the same time: try again")

    def adopt(self) -> Entry | None:
        """Add the share that nobody owns to the member's own; return its entry.

        It writes only if ``RosterState.unowned`` is not 0. Call it when the roster was read so.

        :return: None if somebody owns all.
        :raises NotFound: the member's own entry is gone.
        """
        for _ in range(_ATTEMPTS):
            own = self._need_own()
            roster = read_roster(self._store)
            if not roster.unowned:
                return None
            share = own.share + roster.unowned
            if self._write_own(own, share, [roster.record_unchanged], [put_unowned(0)]):
                return self._need_own()
        raise Conflict("others change the roster at the same time: try again")

    # Owners -------------------------------------------------------------------------------------

    def name_owner(self, shard: str, owner: OwnerHint, seen_revision: int) -> bool:
        """Write which member owns a shard. It becomes the owner when it reads that.

        :param seen_revision: ``Hint.revision``, as it was read.
        :return: False if somebody has written a hint meanwhile.
        :raises UsageError: a name or the address cannot be written.
        """
        problem = name_problem(shard)
        try:
            owner.check()
        except (TypeError, ValueError) as error:
            problem = str(error)
        if problem:
            raise UsageError(problem)
        key = owner_key(shard)
        return self._store.txn([Compare(key, seen_revision)], [Put(key, owner.encode())]).ok

    # Reading and writing of entries -------------------------------------------------------------

    def _other(self, member: str) -> Entry:
        item = self._store.get(member_key(member))
        if item is None:
            raise NotFound(f"the roster has no member {member}")
        try:
            return Entry.of(member, item)
        except BundleError as error:
            raise NotFound(f"the entry of member {member} is damaged: {error}") from None

    def _need_own(self) -> Entry:
        own = self._read_own()
        if own is None:
            raise NotFound(f"member {self.member} has lost its entry: join under a new id")
        return own

    def _read_own(self) -> Entry | None:
        """Return the member's entry as it is, or as it was written last; None if it is gone."""
        if self._own is not None:
            return self._own
        try:
            own = self._other(self.member)
        except NotFound:
            return None
        if own.record.renewed not in self._numbers:
            return None  # another process writes it
        if own.record.renewed in self._lost:
            self._given = self._lost[own.record.renewed]
            self._lost.clear()
        self._own = own
        return own

    def _write_own(
        self,
        own: Entry,
        share: int,
        compares: Sequence[Compare] = (),
        ops: Sequence[Op] = (),
        *,
        donation: tuple[str, int] | None = None,
    ) -> bool:
        """Write the member's entry, and what belongs to it; return False if others were first."""
        number = own.record.renewed + 1 + secrets.randbelow(_STEP)
        record = replace(own.record, share=min(share, WHOLE_SHARE), renewed=number)
        self._numbers.add(number)
        if donation is not None:
            self._lost[number] = donation
        self._own = None  # until the outcome is known
        put = Put(member_key(self.member), record.encode())
        result = self._store.txn([own.unchanged, *compares], [put, *ops])
        if result.ok:  # whatever had an unknown outcome can no longer be applied
            self._own = Entry(self.member, record, result.revision)
            self._numbers = {number}
            self._lost.clear()
        return result.ok
