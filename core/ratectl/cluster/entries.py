"""The roster as the store holds it: entries of members, hints of owners, and what is damaged."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from ratectl.errors import BundleError
from ratectl.records import (
    MEMBERS,
    OWNERS,
    ROSTER,
    WHOLE_SHARE,
    MemberRecord,
    OwnerHint,
    RosterRecord,
    member_key,
    name_problem,
)
from ratectl.stores.base import Compare, Put

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratectl.stores.base import Item, Snapshot, Store

__all__ = [
    "Entry",
    "Hint",
    "Overdue",
    "RosterState",
    "put_unowned",
    "read_hints",
    "read_roster",
]


@dataclass(frozen=True, slots=True)
class Entry:
    """A member's entry in the roster."""

    member: str
    record: MemberRecord
    revision: int

    @property
    def share(self) -> int:
        """Millionths."""
        return self.record.share

    @property
    def is_dedicated(self) -> bool:
        """True if the process owns limits for others, and never has a share."""
        return self.record.dedicated

    @property
    def unchanged(self) -> Compare:
        """Condition of a transaction: nobody has written the entry since it was read."""
        return Compare(member_key(self.member), self.revision)

    def put(self, share: int) -> Put:
        """Return the operation that changes the share in another member's entry."""
        record = replace(self.record, share=min(share, WHOLE_SHARE))
        return Put(member_key(self.member), record.encode())

    @classmethod
    def of(cls, member: str, item: Item) -> Entry:
        """Read an entry.

        :raises BundleError: it is damaged.
        """
        problem = name_problem(member)
        if problem:
            raise BundleError(problem)
        return cls(member, MemberRecord.decode(item.value), item.mod_revision)


class Hint(NamedTuple):
    """The owner of a shard, by what somebody has written. It may be wrong."""

    shard: str
    owner: OwnerHint | None
    """None if nobody has written one, or the record is damaged."""
    revision: int
    """0 if nobody has written one."""


class Overdue(NamedTuple):
    """An entry that was not renewed for too long: another member may remove it."""

    member: str
    revision: int


@dataclass(frozen=True, slots=True)
class RosterState:
    """Entries of the roster, all read at one revision, and hints of owners."""

    entries: Mapping[str, Entry]
    """By member. Damaged entries are not among them."""
    damaged: Mapping[str, int]
    """Revision of each damaged entry, by member."""
    unowned: int | None
    """Share that no member owns. None: the record is absent or damaged."""
    record_revision: int
    """Revision of the record that holds ``unowned``; 0 if it is absent: nobody ever joined."""
    revision: int
    problems: tuple[str, ...] = ()
    """Sentences about damaged records."""
    hints: Mapping[str, Hint] = field(default_factory=dict)
    """By shard."""
    overdue: tuple[Overdue, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Return True if the roster has no entry, not even a damaged one."""
        return not self.entries and not self.damaged

    @property
    def nobody_shares(self) -> bool:
        """Return True if no entry can have a share: there is none but of dedicated owners."""
        return not self.damaged and not self.sharing

    @property
    def sharing(self) -> int:
        """Number of members that share the limits: dedicated owners are none of them."""
        return sum(not entry.is_dedicated for entry in self.entries.values())

    @property
    def record_unchanged(self) -> Compare:
        """Condition of a transaction: ``unowned`` is as it was read."""
        return Compare(ROSTER, self.record_revision)

    def share_of(self, member: str) -> int:
        """Return the share of a member in millionths; 0 without an entry that can be read."""
        entry = self.entries.get(member)
        return 0 if entry is None else entry.share

    def revision_of(self, member: str) -> int:
        """Return the revision of a member's entry, also of a damaged one; 0 without an entry."""
        entry = self.entries.get(member)
        return self.damaged.get(member, 0) if entry is None else entry.revision

    def hint(self, shard: str) -> Hint:
        """Return the hint of one shard."""
        return self.hints.get(shard) or Hint(shard, None, 0)

    def owners(self) -> set[str]:
        """Return the members that are named as owners of shards."""
        return {hint.owner.member for hint in self.hints.values() if hint.owner is not None}

    def shares(self) -> dict[str, int]:
        """Return the shares of the members whose entries are not overdue, but dedicated owners."""
        return {entry.member: entry.share for entry in self.live() if not entry.is_dedicated}

    def live(self) -> list[Entry]:
        """Return the entries that are not overdue."""
        overdue = {each.member for each in self.overdue}
        return [entry for member, entry in self.entries.items() if member not in overdue]

    def left_by(self, member: str) -> int:
        """Return the share that becomes free if an entry is removed.

        A damaged entry does not tell its share. No transaction changes the sum of all shares, and
        none changes the share of a damaged entry. So, if only this one is damaged, its share is
        what no other entry has, for as long as nobody writes it. If several are damaged, the last
        one to be removed leaves the shares of all.
        """
        if member in self.entries:
            return self.entries[member].share
        if self.unowned is None or len(self.damaged) != 1:
            return 0
        return max(0, WHOLE_SHARE - self.unowned - self._sum())

    def leave_unowned(self, share: int) -> tuple[list[Compare], list[Put]]:
        """Return condition and operation of a transaction that adds to what nobody owns."""
        if not share:
            return [], []
        return [self.record_unchanged], [put_unowned((self.unowned or 0) + share)]

    def _sum(self) -> int:
        return sum(entry.share for entry in self.entries.values())


def put_unowned(share: int) -> Put:
    """Return the operation that stores the share that nobody owns."""
    return Put(ROSTER, RosterRecord(unowned=min(share, WHOLE_SHARE)).encode())


def read_roster(store: Store) -> RosterState:
    """Return the entries of the roster, without hints.

    :raises StoreError: the store does not answer.
    """
    return _roster(store.list(ROSTER))


def _roster(snapshot: Snapshot) -> RosterState:
    entries: dict[str, Entry] = {}
    damaged: dict[str, int] = {}
    unowned, record_revision = None, 0
    problems: list[str] = []
    for item in snapshot.items:
        try:
            if item.key == ROSTER:
                record_revision = item.mod_revision
                unowned = RosterRecord.decode(item.value).unowned
            elif item.key.startswith(MEMBERS):
                member = item.key.removeprefix(MEMBERS)
                entries[member] = Entry.of(member, item)
        except BundleError as error:
            problems.append(f"{item.key} is left out: {error}")
            if item.key != ROSTER:
                damaged[item.key.removeprefix(MEMBERS)] = item.mod_revision
    total = sum(entry.share for entry in entries.values()) + (unowned or 0)
    if total > WHOLE_SHARE:
        problems.append(
            f"the shares of all members are {total} millionths: more than the whole, so more "
            "requests may be admitted than a limit allows"
        )
    return RosterState(
        entries, damaged, unowned, record_revision, snapshot.revision, tuple(problems)
    )


def read_hints(store: Store) -> tuple[dict[str, Hint], list[str]]:
    """Return the hints of all shards, and sentences about damaged ones.

    :raises StoreError: the store does not answer.
    """
    found = [_hint(item) for item in store.list(OWNERS).items]
    hints = {hint.shard: hint for hint, _ in found}
    return hints, [problem for _, problem in found if problem]


def _hint(item: Item) -> tuple[Hint, str | None]:
    """Return a hint, and the problem of a damaged one."""
    shard = item.key.removeprefix(OWNERS)
    try:
        return Hint(shard, OwnerHint.decode(item.value), item.mod_revision), None
    except BundleError as error:
        return Hint(shard, None, item.mod_revision), f"{item.key} is left out: {error}"
