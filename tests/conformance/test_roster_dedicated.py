"""Dedicated owners in the roster, in every store: they never have a share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from conformance.roster_rig import (
    OLD,
    WHOLE,
    dedicated,
    meddled,
    member,
    members,
    new_roster,
    owned_in,
    run_together,
    shares_in,
)
from ratectl.cluster.donation import donation
from ratectl.cluster.entries import read_roster
from ratectl.cluster.forgetting import forget
from ratectl.cluster.joining import Joined
from ratectl.errors import BundleError
from ratectl.records import MemberRecord
from ratectl.stores import open_store

if TYPE_CHECKING:
    from ratectl.stores.base import Store


def test_the_first_member_beside_dedicated_owners_owns_all_and_starts_full(store: Store) -> None:
    for name in "de":
        dedicated(store, name)
    assert read_roster(store).record_revision == 0
    assert new_roster(store, "a").join("", 0) == Joined(WHOLE, starts_full=True)
    assert new_roster(store, "b").join("", 0) == Joined(0, starts_full=False)
    assert shares_in(store) == {"a": WHOLE, "b": 0, "d": 0, "e": 0}
    assert read_roster(store).sharing == 2


def test_of_members_that_join_at_once_beside_a_dedicated_owner_one_owns_all(
    store_url: str,
) -> None:
    joined: list[Joined] = []
    with open_store(store_url, timeout=30) as store:
        dedicated(store, "d")
        run_together(8, lambda n: joined.append(new_roster(store, f"m{n}").join("", 0)))
        assert sorted(joined)[-2:] == [Joined(0, False), Joined(WHOLE, True)]
        assert owned_in(store) == WHOLE


def test_nobody_gives_a_dedicated_owner_anything(store: Store) -> None:
    a, _ = members(store, a=WHOLE, b=0)
    d = dedicated(store, "d")
    shares = a.read(0).shares()
    assert shares == {"a": WHOLE, "b": 0}
    gift = donation(shares, "a")
    assert gift is not None
    assert (gift.to, gift.part) == ("b", WHOLE // 2)
    assert donation(d.read(0).shares(), "d") is None


def test_a_share_that_is_left_to_dedicated_owners_alone_is_unowned(store: Store) -> None:
    a = member(store, "a")
    dedicated(store, "d")
    a.leave(0)
    assert (shares_in(store), read_roster(store).unowned) == ({"d": 0}, WHOLE)
    assert new_roster(store, "b").join("", 0) == Joined(WHOLE, starts_full=False)
    assert owned_in(store) == WHOLE


def test_a_member_that_leaves_gives_its_share_to_another_than_the_dedicated_owner(
    store: Store,
) -> None:
    a, _ = members(store, a=WHOLE - 5, b=5)
    dedicated(store, "d")
    a.leave(0)
    assert shares_in(store) == {"b": WHOLE, "d": 0}


def test_the_share_of_an_old_entry_that_a_dedicated_owner_removes_is_adopted(store: Store) -> None:
    _, b = members(store, a=WHOLE - 5, b=5)
    d = dedicated(store, "d")
    d.read(0)
    d.read(1)
    b.renew(OLD - 1)
    (old,) = d.read(OLD + 1).overdue
    assert old.member == "a"
    assert d.remove("a", old.revision)
    assert (shares_in(store), read_roster(store).unowned) == ({"b": 5, "d": 0}, WHOLE - 5)
    assert not d.remove("a", old.revision)
    assert b.adopt() is not None
    assert shares_in(store) == {"b": WHOLE, "d": 0}


@pytest.mark.parametrize("applied", [True, False])
def test_a_removal_whose_reply_is_lost_makes_no_share(store: Store, applied: bool) -> None:
    _, b = members(store, a=WHOLE - 5, b=5)
    d = dedicated(store, "d")
    meddler, through = meddled(store)
    d._store = through
    d.read(0)
    d.read(1)
    b.renew(OLD - 1)
    (old,) = d.read(OLD + 1).overdue
    meddler.lose = [applied]
    with pytest.raises(Exception, match="the reply was lost"):
        d.remove("a", old.revision)
    assert d.remove("a", old.revision) is not applied
    for late in meddler.late:
        late()
    assert owned_in(store) == WHOLE


def test_an_old_entry_of_a_dedicated_owner_is_removed(store: Store) -> None:
    dedicated(store, "d")
    a = member(store, "a")
    a.read(0)
    a.read(1)
    (old,) = a.read(OLD + 1).overdue
    assert a.remove("d", old.revision)
    assert shares_in(store) == {"a": WHOLE}


def test_a_dedicated_owner_leaves_and_writes_nothing_else(store: Store) -> None:
    a, d = member(store, "a"), dedicated(store, "d")
    before = read_roster(store)
    d.leave(0)
    after = read_roster(store)
    assert (after.entries, after.record_revision) == (
        {"a": before.entries["a"]},
        before.record_revision,
    )
    assert a.renew(1) is not None


def test_a_dedicated_owner_is_forgotten(store: Store) -> None:
    member(store, "a")
    d = dedicated(store, "d")
    assert forget(store, "d") == 0
    assert shares_in(store) == {"a": WHOLE}
    assert d.renew(1) is None


def test_an_entry_of_a_dedicated_owner_with_a_share_is_damaged() -> None:
    record = MemberRecord(share=1, renewed=1, dedicated=True)
    with pytest.raises(BundleError, match="a dedicated owner has no share, not 1 millionths"):
        MemberRecord.decode(record.encode())
