"""The roster in every store: joins, renewals, and reading."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from conformance.roster_rig import (
    LASTS,
    OLD,
    TIMING,
    WHOLE,
    meddled,
    member,
    members,
    new_roster,
    owned_in,
    run_together,
    shares_in,
)
from ratectl.cluster.entries import read_roster
from ratectl.cluster.joining import Joined
from ratectl.cluster.protocol.timing import SECOND
from ratectl.errors import Conflict, UsageError
from ratectl.records import MemberRecord, member_key
from ratectl.stores import open_store

if TYPE_CHECKING:
    from ratectl.stores.base import Store


# -- join ------------------------------------------------------------------------------------------


def test_the_first_member_ever_owns_all_and_starts_full(store: Store) -> None:
    assert new_roster(store, "a").join("a:7000", 0, host="box") == Joined(WHOLE, starts_full=True)
    record = read_roster(store).entries["a"].record
    assert (record.share, record.address, record.host) == (WHOLE, "a:7000", "box")


def test_a_member_that_finds_others_begins_without_a_share(store: Store) -> None:
    member(store, "a")
    assert new_roster(store, "b").join("", 0) == Joined(0, starts_full=False)
    assert shares_in(store) == {"a": WHOLE, "b": 0}


def test_the_first_member_of_an_empty_roster_owns_all_and_starts_empty(store: Store) -> None:
    member(store, "a").leave(0)
    assert read_roster(store).unowned == WHOLE
    assert new_roster(store, "b").join("", 0) == Joined(WHOLE, starts_full=False)
    assert (shares_in(store), owned_in(store)) == ({"b": WHOLE}, WHOLE)


def test_entry_counts_from_the_time_before_it_was_sent(store: Store) -> None:
    roster = member(store, "a", now=5)
    assert roster.membership is not None
    assert roster.membership.use_until == 5 + LASTS
    assert roster.membership.lend_until == 5 + LASTS - TIMING.resume_after


def test_a_member_joins_once(store: Store) -> None:
    roster = member(store, "a")
    with pytest.raises(UsageError, match="has joined before"):
        roster.join("", 0)


def test_an_id_that_another_process_has_is_refused(store: Store) -> None:
    member(store, "a")
    with pytest.raises(Conflict, match="another process has the member id a"):
        new_roster(store, "a").join("", 0)
    assert shares_in(store) == {"a": WHOLE}


@pytest.mark.parametrize("name", ["", "a/b", "a b", "ä", "a" * 129, "a\n"])
def test_an_id_that_is_no_name_is_refused(store: Store, name: str) -> None:
    with pytest.raises(UsageError, match="a name has 1 to 128"):
        new_roster(store, name)


@pytest.mark.parametrize("address", ["a" * 256, "a\n", "\ud800"])
def test_an_address_that_nobody_could_read_is_refused(store: Store, address: str) -> None:
    with pytest.raises(UsageError, match="address"):
        new_roster(store, "a").join(address, 0)
    assert read_roster(store).is_empty


@pytest.mark.parametrize("existed", [False, True])
def test_of_members_that_join_at_once_one_owns_all(store_url: str, existed: bool) -> None:
    joined: list[Joined] = []
    with open_store(store_url, timeout=30) as store:
        if existed:
            member(store, "before").leave(0)
        run_together(12, lambda n: joined.append(new_roster(store, f"m{n}").join("", 0)))
        assert sorted(joined)[-2:] == [Joined(0, False), Joined(WHOLE, not existed)]
        assert len(shares_in(store)) == 12
        assert owned_in(store) == sum(shares_in(store).values()) == WHOLE


def test_join_that_another_precedes_begins_without_a_share(store: Store) -> None:
    meddler, through = meddled(store)
    meddler.before = [lambda: member(store, "first")]
    assert new_roster(through, "second").join("", 0) == Joined(0, starts_full=False)


@pytest.mark.parametrize("applied", [True, False])
def test_join_whose_reply_is_lost_is_called_again(store: Store, applied: bool) -> None:
    meddler, through = meddled(store)
    meddler.lose = [applied]
    roster = new_roster(through, "a")
    with pytest.raises(Exception, match="the reply was lost"):
        roster.join("", 10)
    assert roster.join("", 20).share == WHOLE
    assert roster.membership is not None
    assert roster.membership.use_until == (10 if applied else 20) + LASTS
    assert roster.renew(30) is not None
    for late in meddler.late:
        late()
    assert shares_in(store) == {"a": WHOLE}


def test_join_that_is_applied_late_counts_from_the_first_attempt(store: Store) -> None:
    meddler, through = meddled(store)
    meddler.lose = [False]
    roster = new_roster(through, "a")
    with pytest.raises(Exception, match="the reply was lost"):
        roster.join("", 10)
    meddler.before = [lambda: meddler.late.pop()()]
    assert roster.join("", 20) == Joined(WHOLE, starts_full=False)
    assert roster.membership is not None
    assert roster.membership.use_until == 10 + LASTS


def test_join_whose_id_another_process_took_meanwhile_is_refused(store: Store) -> None:
    meddler, through = meddled(store)
    meddler.lose = [False]
    roster = new_roster(through, "a")
    with pytest.raises(Exception, match="the reply was lost"):
        roster.join("", 10)
    member(store, "a")
    with pytest.raises(Conflict, match="another process has the member id a"):
        roster.join("", 20)


# -- renew -----------------------------------------------------------------------------------------


def test_renewal_prolongs_the_membership_and_keeps_the_share(store: Store) -> None:
    roster = member(store, "a")
    before = read_roster(store).entries["a"]
    own = roster.renew(7 * SECOND)
    assert own == read_roster(store).entries["a"]
    assert own.record.renewed > before.record.renewed
    assert own.share == WHOLE
    assert roster.membership is not None
    assert roster.membership.use_until == 7 * SECOND + LASTS


def test_renewal_shows_a_share_that_another_gave(store: Store) -> None:
    a, b = members(store, a=WHOLE, b=0)
    a.give("b", 5)
    own = b.renew(1)
    assert own is not None
    assert own.share == 5


def test_renewal_that_others_precede_uses_the_time_before_the_first_attempt(store: Store) -> None:
    meddler, through = meddled(store)
    a, b = member(store, "a"), member(through, "b")
    meddler.before = [lambda: a.give("b", 5)] * 3
    own = b.renew(42)
    assert own is not None
    assert own.share == 15
    assert b.membership is not None
    assert b.membership.use_until == 42 + LASTS


def test_renewal_of_a_removed_entry_ends_the_membership(store: Store) -> None:
    a, b = members(store, a=10, b=WHOLE - 10)
    assert b.remove("a", read_roster(store).entries["a"].revision)
    assert a.renew(5) is None
    assert a.membership is not None
    assert a.membership.use_until == 5
    assert a.renew(6) is None
    assert shares_in(store) == {"b": WHOLE}


def test_renewal_of_an_entry_that_another_process_writes_ends_the_membership(store: Store) -> None:
    roster = member(store, "a")
    record = MemberRecord(share=WHOLE, renewed=7)
    store.put(member_key("a"), record.encode())
    assert roster.renew(5) is None
    assert read_roster(store).entries["a"].record == record


@pytest.mark.parametrize("applied", [True, False])
def test_renewal_whose_reply_is_lost_does_not_count(store: Store, applied: bool) -> None:
    meddler, through = meddled(store)
    roster = member(through, "a")
    meddler.lose = [applied, applied]
    for _ in range(2):
        with pytest.raises(Exception, match="the reply was lost"):
            roster.renew(10)
    assert roster.membership is not None
    assert roster.membership.use_until == LASTS
    for late in meddler.late[:1]:
        late()
    assert roster.renew(20) is not None
    assert roster.membership.use_until == 20 + LASTS


def test_renewal_gives_up_when_others_are_always_first(store: Store) -> None:
    meddler, through = meddled(store)
    a, b = member(store, "a"), member(through, "b")
    meddler.before = [lambda: a.give("b", 1)] * 100
    with pytest.raises(Conflict, match="try again"):
        b.renew(1)
    assert owned_in(store) == WHOLE


def test_members_write_three_times_in_the_life_of_an_entry_and_no_more(store: Store) -> None:
    """N members that renew every M/3 for an hour: 3N/M writes a second."""
    count, hour = 10, 3_600 * SECOND
    meddler, through = meddled(store)
    rosters = [member(through, f"m{number}") for number in range(count)]
    meddler.writes, before = 0, store.list("").revision
    for now in range(0, hour, LASTS // 3):
        for roster in rosters:
            assert roster.renew(now)
            assert not roster.read(now).overdue
            assert roster.adopt() is None
    assert meddler.writes == 3 * count * hour // LASTS == 120
    assert store.list("").revision == before + 120


# -- read ------------------------------------------------------------------------------------------


def test_roster_as_it_is(store: Store) -> None:
    a, _ = members(store, a=WHOLE - 5, b=5)
    assert a.share_of("b") == 0, "it was not read yet"
    state = a.read(0)
    assert {name: entry.share for name, entry in state.entries.items()} == shares_in(store)
    assert state.revision == store.list("").revision
    assert (state.damaged, state.overdue, state.problems, state.unowned) == ({}, (), (), 0)
    assert (a.share_of("a"), a.share_of("b"), a.share_of("c")) == (WHOLE - 5, 5, 0)


def test_entry_that_is_not_renewed_is_overdue(store: Store) -> None:
    a, b, c = members(store, a=WHOLE, b=0, c=0)
    a.read(0)
    assert not a.read(0).overdue
    assert not a.read(OLD - 1).overdue
    b.renew(OLD - 1)
    a.renew(OLD - 1)
    state = a.read(OLD)
    assert [each.member for each in state.overdue] == ["c"]
    assert state.shares() == {"a": WHOLE, "b": 0}
    c.renew(OLD)
    assert not a.read(OLD + 1).overdue


def test_a_gift_does_not_renew_an_entry(store: Store) -> None:
    a, _ = members(store, a=WHOLE, b=0)
    a.read(0)
    a.read(0)
    a.give("b", 100)
    (overdue,) = a.read(OLD).overdue
    assert a.remove(*overdue)
    assert shares_in(store) == {"a": WHOLE}


def test_a_member_does_not_find_itself_overdue(store: Store) -> None:
    roster = member(store, "a")
    roster.read(0)
    assert not roster.read(10 * OLD).overdue
