"""Damaged records of the roster, and entries that are removed by hand."""

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
    shares_in,
)
from ratectl.cluster.entries import read_roster
from ratectl.cluster.forgetting import forget
from ratectl.cluster.joining import Joined
from ratectl.errors import Conflict, NotFound, Refused
from ratectl.records import ROSTER, MemberRecord, OwnerHint, member_key
from support import hint_of

if TYPE_CHECKING:
    from ratectl.stores.base import Store

DAMAGE = [
    b"",
    b"\xff",
    b"[]",
    b'{"format":2,"share":1,"renewed":1}',
    b'{"format":1,"share":1000001,"renewed":1}',
    b'{"format":1,"share":-1,"renewed":1}',
    b'{"format":1,"share":true,"renewed":1}',
    b'{"format":1,"share":1,"renewed":1,"host":"' + b"x" * 5_000 + b'"}',
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_entry_is_reported_and_counts_nothing(store: Store, damage: bytes) -> None:
    a, b = members(store, a=WHOLE - 5, b=5)
    revision = store.put(member_key("b"), damage)
    state = a.read(0)
    assert list(state.entries) == ["a"]
    assert (state.damaged, a.share_of("b")) == ({"b": revision}, 0)
    (problem,) = state.problems
    assert problem.startswith("members/b is left out: not a readable") or "upgrade" in problem
    assert b.renew(1) is None, "its owner does not obey it either"
    with pytest.raises(NotFound, match="damaged"):
        a.give("b", 1)
    with pytest.raises(Conflict):
        new_roster(store, "b").join("", 0)
    assert store.get(member_key("b")) is not None


def test_removal_of_a_damaged_entry_gains_its_share(store: Store) -> None:
    a, _, _ = members(store, a=WHOLE - 700, b=500, c=200)
    store.put(member_key("b"), b"")
    a.read(0)
    assert not a.read(0).overdue
    (b, c) = sorted(a.read(OLD).overdue)
    assert a.remove(*b)
    assert shares_in(store) == {"a": WHOLE - 200, "c": 200}
    assert a.remove(*c)
    assert shares_in(store) == {"a": WHOLE}


def test_the_last_of_several_damaged_entries_leaves_the_shares_of_all(store: Store) -> None:
    a, _, _ = members(store, a=WHOLE - 700, b=500, c=200)
    store.put(member_key("b"), b"")
    store.put(member_key("c"), b"")
    a.read(0)
    a.read(0)
    first, second = a.read(OLD).overdue
    assert a.remove(*first)
    assert shares_in(store) == {"a": WHOLE - 700}, "the other may still use its share"
    assert a.remove(*second)
    assert shares_in(store) == {"a": WHOLE}


def test_a_gift_between_others_does_not_change_what_a_damaged_entry_leaves(store: Store) -> None:
    meddler, through = meddled(store)
    a, b, _ = member(store, "a"), member(through, "b"), member(store, "c")
    a.give("c", 300)
    revision = store.put(member_key("c"), b"")
    meddler.before = [lambda: a.give("b", 100), lambda: member(store, "d")]
    assert b.remove("c", revision)
    assert shares_in(store) == {"a": WHOLE - 400, "b": 400, "d": 0}


def test_a_key_that_names_no_member_is_reported(store: Store) -> None:
    roster = member(store, "a")
    store.put("members/x y", MemberRecord(share=0, renewed=1).encode())
    store.put("membership", b"of something else")
    state = roster.read(0)
    assert (list(state.entries), list(state.damaged)) == (["a"], ["x y"])
    assert len(state.problems) == 1


def test_shares_of_more_than_the_whole_are_reported(store: Store) -> None:
    roster = member(store, "a")
    store.put(member_key("b"), MemberRecord(share=1, renewed=1).encode())
    (problem,) = roster.read(0).problems
    assert "1000001 millionths: more than the whole" in problem
    assert roster.remove("b", read_roster(store).entries["b"].revision)
    assert shares_in(store) == {"a": WHOLE}, "a share is never more than the whole"


@pytest.mark.parametrize("damage", [b"", b'{"format":1,"unowned":1000001}', b"{}", None])
def test_a_roster_whose_record_is_damaged_goes_on(store: Store, damage: bytes | None) -> None:
    a = member(store, "a")
    if damage is None:
        store.delete(ROSTER)
    else:
        store.put(ROSTER, damage)
    b = new_roster(store, "b")
    assert b.join("", 0) == Joined(0, starts_full=False)
    assert len(a.read(0).problems) == (damage is not None)
    assert store.get(ROSTER) is not None
    assert a.adopt() is None
    a.leave(0)
    b.leave(0)
    assert read_roster(store).unowned == WHOLE
    assert member(store, "c").read(0).shares() == {"c": WHOLE}


def test_an_empty_roster_whose_record_is_damaged_starts_empty(store: Store) -> None:
    store.put(ROSTER, b"")
    assert new_roster(store, "a").join("", 0) == Joined(WHOLE, starts_full=False)
    assert read_roster(store).unowned == 0


def test_a_roster_of_a_damaged_entry_alone_gives_no_share(store: Store) -> None:
    member(store, "a")
    store.put(member_key("a"), b"")
    b = new_roster(store, "b")
    assert b.join("", 0) == Joined(0, starts_full=False)
    b.read(0)
    b.read(0)
    assert b.remove(*b.read(OLD).overdue[0])
    assert shares_in(store) == {"b": WHOLE}


def test_a_damaged_hint_is_reported_and_replaced(store: Store) -> None:
    roster = member(store, "a")
    revision = store.put("owners/s1", b'{"format":1,"member":"a","owner":7,"address":""}')
    hint = hint_of(store, "s1")
    assert (hint.owner, hint.revision) == (None, revision)
    state = roster.read(0)
    assert state.hints["s1"] == hint
    assert state.problems[0].startswith("owners/s1 is left out")
    assert roster.name_owner("s1", OwnerHint(member="a", owner="own", address=""), revision)
    assert not roster.read(0).problems


# -- forget ----------------------------------------------------------------------------------------


def test_a_forgotten_share_is_adopted(store: Store) -> None:
    a, b = members(store, a=WHOLE - 5, b=5)
    assert forget(store, "b") == 5
    assert (shares_in(store), read_roster(store).unowned) == ({"a": WHOLE - 5}, 5)
    assert b.renew(1) is None
    own = a.adopt()
    assert own is not None
    assert own.share == WHOLE


def test_the_last_member_is_forgotten(store: Store) -> None:
    member(store, "a")
    assert forget(store, "a") == WHOLE
    assert new_roster(store, "b").join("", 0) == Joined(WHOLE, starts_full=False)


def test_a_member_that_renews_while_it_is_watched_is_not_forgotten(store: Store) -> None:
    _, b = members(store, a=WHOLE - 5, b=5)
    with pytest.raises(Refused, match="member b has renewed its entry just now"):
        forget(store, "b", wait=lambda: b.renew(1))
    assert shares_in(store) == {"a": WHOLE - 5, "b": 5}


def test_a_member_that_renews_at_the_last_moment_is_not_forgotten(store: Store) -> None:
    meddler, through = meddled(store)
    _, b = members(store, a=WHOLE - 5, b=5)
    meddler.before = [lambda: b.renew(1)]
    with pytest.raises(Refused):
        forget(through, "b")
    assert shares_in(store) == {"a": WHOLE - 5, "b": 5}


def test_a_member_that_renews_is_forgotten_by_force(store: Store) -> None:
    meddler, through = meddled(store)
    a, b = members(store, a=WHOLE - 5, b=5)
    meddler.before = [lambda: b.renew(1), lambda: a.give("b", 10)]
    assert forget(through, "b", wait=lambda: pytest.fail("waits"), force=True) == 15
    assert read_roster(store).unowned == 15


def test_a_gift_is_no_sign_of_life(store: Store) -> None:
    a, _ = members(store, a=WHOLE - 5, b=5)
    assert forget(store, "b", wait=lambda: a.give("b", 10)) == 15


def test_two_members_are_forgotten_at_once(store: Store) -> None:
    meddler, through = meddled(store)
    members(store, a=WHOLE - 9, b=5, c=4)
    meddler.before = [lambda: forget(store, "c")]
    assert forget(through, "b") == 5
    assert read_roster(store).unowned == 9


def test_a_damaged_entry_is_forgotten(store: Store) -> None:
    members(store, a=WHOLE - 5, b=5)
    store.put(member_key("b"), b"")
    assert forget(store, "b") == 5
    assert read_roster(store).unowned == 5


def test_a_member_that_is_not_there_cannot_be_forgotten(store: Store) -> None:
    member(store, "a")
    with pytest.raises(NotFound, match="the roster has no member b"):
        forget(store, "b")
    with pytest.raises(NotFound):
        forget(store, "a", wait=lambda: store.delete(member_key("a")))
