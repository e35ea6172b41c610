"""The roster in every store: removals, leaving, gifts, and claims of owners."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from conformance.roster_rig import (
    OLD,
    WHOLE,
    meddled,
    member,
    members,
    new_roster,
    owned_in,
    run_together,
    shares_in,
)
from ratectl.cluster.donation import donation
from ratectl.cluster.entries import Hint, read_roster
from ratectl.errors import NotFound, UsageError
from ratectl.records import OwnerHint, member_key
from ratectl.stores import open_store
from support import hint_of

if TYPE_CHECKING:
    from ratectl.stores.base import Store


# -- remove ----------------------------------------------------------------------------------------


def test_removal_adds_the_share_to_the_own_entry(store: Store) -> None:
    a, _ = members(store, a=700_000, b=300_000)
    assert a.remove("b", read_roster(store).entries["b"].revision)
    assert shares_in(store) == {"a": WHOLE}


def test_removal_of_the_own_entry_is_an_error(store: Store) -> None:
    roster = member(store, "a")
    with pytest.raises(UsageError, match="it leaves"):
        roster.remove("a", 2)


@pytest.mark.parametrize("when", ["before", "at once"])
def test_renewal_wins_over_a_removal(store: Store, when: str) -> None:
    meddler, through = meddled(store)
    a, b = member(through, "a"), member(store, "b")
    revision = read_roster(store).entries["b"].revision
    if when == "before":
        b.renew(1)
    else:
        meddler.before = [lambda: b.renew(1)]
    assert not a.remove("b", revision)
    assert b.renew(2) is not None
    assert shares_in(store) == {"a": WHOLE, "b": 0}


def test_of_two_removers_one_gets_the_share(store: Store) -> None:
    meddler, through = meddled(store)
    a, b, _ = member(through, "a"), member(store, "b"), member(store, "c")
    a.give("c", 400_000)
    revision = read_roster(store).entries["c"].revision
    removed: list[bool] = []
    meddler.before = [lambda: removed.append(b.remove("c", revision))]
    assert not a.remove("c", revision)
    assert removed == [True]
    assert shares_in(store) == {"a": 600_000, "b": 400_000}


def test_removal_goes_on_when_the_own_entry_has_changed(store: Store) -> None:
    meddler, through = meddled(store)
    a, b, _ = member(store, "a"), member(through, "b"), member(store, "c")
    a.give("c", 100)
    meddler.before = [lambda: a.give("b", 50)]
    assert b.remove("c", read_roster(store).entries["c"].revision)
    assert shares_in(store) == {"a": WHOLE - 150, "b": 150}


def test_a_member_without_an_entry_removes_nothing(store: Store) -> None:
    a, b = members(store, a=WHOLE, b=0)
    revision = read_roster(store).entries["a"].revision
    store.delete(member_key("b"))
    assert b.renew(1) is None
    with pytest.raises(NotFound, match="join under a new id"):
        b.remove("a", revision)
    assert a.renew(1) is not None


@pytest.mark.parametrize("applied", [True, False])
def test_removal_whose_reply_is_lost_is_called_again(store: Store, applied: bool) -> None:
    meddler, through = meddled(store)
    a = member(through, "a")
    member(store, "b")
    a.give("b", 5)
    revision = read_roster(store).entries["b"].revision
    meddler.lose = [applied]
    with pytest.raises(Exception, match="the reply was lost"):
        a.remove("b", revision)
    assert a.remove("b", revision) is not applied
    assert shares_in(store) == {"a": WHOLE}


# -- leave -----------------------------------------------------------------------------------------


def test_the_share_of_a_leaving_member_goes_to_the_smallest(store: Store) -> None:
    a, _, _ = members(store, a=WHOLE - 300, b=200, c=100)
    a.leave(5)
    assert shares_in(store) == {"b": 200, "c": WHOLE - 200}
    assert a.membership is not None
    assert a.membership.use_until == 5
    a.leave(6)


def test_the_share_of_a_leaving_member_goes_to_a_live_one(store: Store) -> None:
    a, b, _ = members(store, a=WHOLE - 300, b=200, c=100)
    a.read(0)
    a.read(0)
    b.renew(OLD)
    a.leave(OLD)
    assert shares_in(store) == {"b": WHOLE - 100, "c": 100}


def test_leave_that_races_the_removal_of_the_heir(store: Store) -> None:
    meddler, through = meddled(store)
    a, b, _ = member(through, "a"), member(store, "b"), member(store, "c")
    a.give("b", 10)
    revision = read_roster(store).entries["c"].revision
    meddler.before = [lambda: b.remove("c", revision)]
    a.leave(1)
    assert shares_in(store) == {"b": WHOLE}


def test_leave_that_races_the_removal_of_the_leaving_member(store: Store) -> None:
    meddler, through = meddled(store)
    a, b = member(through, "a"), member(store, "b")
    revision = read_roster(store).entries["a"].revision
    meddler.before = [lambda: b.remove("a", revision)]
    a.leave(1)
    assert shares_in(store) == {"b": WHOLE}


@pytest.mark.parametrize("applied", [True, False])
def test_leave_whose_reply_is_lost_is_called_again(store: Store, applied: bool) -> None:
    meddler, through = meddled(store)
    a = member(through, "a")
    member(store, "b")
    meddler.lose = [applied]
    with pytest.raises(Exception, match="the reply was lost"):
        a.leave(1)
    a.leave(1)
    assert shares_in(store) == {"b": WHOLE}


def test_a_member_that_joined_while_the_last_one_left_adopts_the_share(store: Store) -> None:
    meddler, through = meddled(store)
    a, b = member(through, "a"), new_roster(store, "b")
    meddler.before = [lambda: b.join("", 0)]
    a.leave(0)
    assert (shares_in(store), read_roster(store).unowned) == ({"b": 0}, WHOLE)
    own = b.adopt()
    assert own is not None
    assert own.share == WHOLE
    assert (shares_in(store), owned_in(store)) == ({"b": WHOLE}, WHOLE)


def test_what_nobody_owns_is_adopted_once(store: Store) -> None:
    a, b, c = (member(store, name) for name in "abc")
    meddler, through = meddled(store)
    d = member(through, "d")
    b.leave(0)
    c.leave(0)
    # The last two leave when d's entry is overdue: nobody of them can take the share.
    a.read(0)
    a.read(0)
    a.leave(OLD)
    assert read_roster(store).unowned == WHOLE
    late = member(store, "late")
    assert shares_in(store)["late"] == WHOLE
    meddler.before = [lambda: late.renew(1)]
    assert d.adopt() is None
    assert owned_in(store) == WHOLE


def test_members_that_leave_together_lose_no_share(store_url: str) -> None:
    with open_store(store_url, timeout=30) as store:
        rosters = [member(store, f"m{number}") for number in range(16)]
        for roster in rosters[1:-1]:
            rosters[0].give(roster.member, 1_000)
        run_together(15, lambda number: rosters[number].leave(0))
        assert shares_in(store) == {"m15": WHOLE}


# -- give ------------------------------------------------------------------------------------------


def test_a_part_moves_to_another_member(store: Store) -> None:
    a, b = members(store, a=WHOLE, b=0)
    assert a.give("b", 300).share == WHOLE - 300
    assert shares_in(store) == {"a": WHOLE - 300, "b": 300}
    own = b.renew(1)
    assert own is not None
    assert b.give("a", 300).share == 0


@pytest.mark.parametrize(("other", "part"), [("a", 1), ("b", 0), ("b", -1), ("b", WHOLE + 1)])
def test_a_gift_that_cannot_be_is_refused(store: Store, other: str, part: int) -> None:
    a, _ = members(store, a=WHOLE, b=0)
    with pytest.raises(UsageError, match="cannot give"):
        a.give(other, part)
    assert shares_in(store) == {"a": WHOLE, "b": 0}


def test_a_gift_to_a_member_that_is_gone_stays(store: Store) -> None:
    meddler, through = meddled(store)
    a, b = member(through, "a"), member(store, "b")
    meddler.before = [lambda: b.leave(0)]
    with pytest.raises(NotFound, match="no member b"):
        a.give("b", 5)
    assert shares_in(store) == {"a": WHOLE}


def test_gifts_that_cross_lose_nothing(store: Store) -> None:
    meddler, through = meddled(store)
    a, b = member(through, "a"), member(store, "b")
    a.give("b", 500_000)
    meddler.before = [lambda: b.give("a", 200_000), lambda: b.renew(1)]
    a.give("b", 100_000)
    assert shares_in(store) == {"a": 600_000, "b": 400_000}


@pytest.mark.parametrize("between", ["nothing", "renewal", "gift of the other"])
@pytest.mark.parametrize("applied", [True, False])
def test_a_gift_whose_reply_is_lost_moves_once(store: Store, applied: bool, between: str) -> None:
    meddler, through = meddled(store)
    a, b = member(through, "a"), member(store, "b")
    a.give("b", 1_000)
    meddler.lose = [applied]
    with pytest.raises(Exception, match="the reply was lost"):
        a.give("b", 300)
    if between == "renewal":
        assert a.renew(1)
    elif between == "gift of the other":
        b.renew(1)
        b.give("a", 1)
    a.give("b", 300)
    for late in meddler.late:
        late()
    back = 1 if between == "gift of the other" else 0
    assert shares_in(store) == {"a": WHOLE - 1_300 + back, "b": 1_300 - back}
    a.give("b", 300)
    assert shares_in(store)["b"] == 1_600 - back, "the next gift is another one"


def test_a_gift_is_repeated_after_a_renewal_whose_reply_is_lost(store: Store) -> None:
    meddler, through = meddled(store)
    a, _ = member(through, "a"), member(store, "b")
    a.give("b", 300)
    meddler.lose = [False]
    with pytest.raises(Exception, match="the reply was lost"):
        a.renew(1)
    a.give("b", 300)
    assert shares_in(store) == {"a": WHOLE - 600, "b": 600}


def test_a_gift_with_an_unknown_outcome_is_followed_by_another(store: Store) -> None:
    meddler, through = meddled(store)
    a, _ = member(through, "a"), member(store, "b")
    meddler.lose = [True]
    with pytest.raises(Exception, match="the reply was lost"):
        a.give("b", 300)
    a.give("b", 50)
    a.give("b", 300)
    assert shares_in(store) == {"a": WHOLE - 650, "b": 650}


def test_shares_become_equal_by_donations(store: Store) -> None:
    rosters = [member(store, f"m{number}") for number in range(7)]
    for _ in range(20):
        gifts = [(r, donation(r.read(0).shares(), r.member)) for r in rosters]
        for roster, gift in gifts:
            if gift is not None:
                roster.give(*gift)
    equal = WHOLE // 7
    assert all(share * 4 <= 5 * (equal + 1) for share in shares_in(store).values())
    assert owned_in(store) == WHOLE


# -- hints -----------------------------------------------------------------------------------------


def test_of_two_hints_one_is_written(store: Store) -> None:
    a, b = members(store, a=WHOLE, b=0)
    own_a = OwnerHint(member="a", owner="own-a", address="a:7000")
    own_b = OwnerHint(member="b", owner="own-b", address="b:7000")
    seen = hint_of(store, "s1")
    assert seen == Hint("s1", None, 0)
    assert a.name_owner("s1", own_a, seen.revision)
    assert not b.name_owner("s1", own_b, seen.revision)
    hint = hint_of(store, "s1")
    assert hint.owner == own_a
    assert b.name_owner("s1", own_b, hint.revision)
    state = a.read(0)
    assert list(state.hints) == ["s1"]
    assert state.hints["s1"] == hint_of(store, "s1")
    assert state.hints["s1"].owner == own_b


@pytest.mark.parametrize(
    ("shard", "owner", "address"), [("", "o", ""), ("s", "o o", ""), ("s", "o", "x" * 256)]
)
def test_a_hint_that_nobody_could_read_is_refused(
    store: Store, shard: str, owner: str, address: str
) -> None:
    roster = member(store, "a")
    with pytest.raises(UsageError):
        roster.name_owner(shard, OwnerHint(member="a", owner=owner, address=address), 0)
    assert store.list("owners/").items == ()
