"""Choice of the owner: dedicated ones first, and no owner that is silent."""

from __future__ import annotations

from dataclasses import replace

from ratectl.cluster.entries import Entry, Hint, Overdue, RosterState
from ratectl.cluster.protocol.timing import SECOND
from ratectl.cluster.succession import Succession, heir
from ratectl.records import MemberRecord, OwnerHint

LASTS = 30 * SECOND


def roster(*, overdue: str = "", unreachable: str = "", **shares: int | None) -> RosterState:
    """Return a roster. A member whose share is None is a dedicated owner."""
    entries = {
        name: Entry(
            name,
            MemberRecord(
                share=share or 0, renewed=1, address="" if name == unreachable else f"unix:/{name}",
                dedicated=share is None,
            ),
            revision=1,
        )
        for name, share in shares.items()
    }  # fmt: skip
    old = (Overdue(overdue, 1),) if overdue else ()
    return RosterState(entries, {}, 0, 1, 1, overdue=old)


def hint(member: str | None, revision: int) -> Hint:
    owner = None if member is None else OwnerHint(member=member, owner=member, address="unix:/x")
    return Hint("0", owner, revision)


class One:
    """One member and what it knows of owners."""

    def __init__(self, name: str, *, dedicated: bool = False) -> None:
        self._succession = Succession(name, LASTS, dedicated=dedicated)
        self.reached_at = 0

    def names(self, state: RosterState, owner: Hint, seconds: float) -> str | None:
        """Return the member that it names as the owner, at a time."""
        now = round(seconds * SECOND)
        entry = self._succession.next_owner(owner, state, self.reached_at, now)
        return None if entry is None else entry.member


def test_without_a_hint_a_member_names_itself_or_a_dedicated_owner() -> None:
    assert One("a").names(roster(a=1, b=1), hint(None, 0), 0) == "a"
    assert One("a").names(roster(a=1, d=None, c=None), hint(None, 0), 0) == "c"
    assert One("d", dedicated=True).names(roster(a=1, d=None), hint(None, 0), 0) == "d"


def test_a_dedicated_owner_takes_over_from_an_application_and_from_one_that_has_gone() -> None:
    assert One("d", dedicated=True).names(roster(a=1, d=None), hint("a", 5), 0) == "d"
    assert One("d", dedicated=True).names(roster(d=None), hint("a", 5), 0) == "d"


def test_a_dedicated_owner_stands_by_another_until_that_is_silent() -> None:
    one, state = One("d", dedicated=True), roster(a=1, c=None, d=None)
    assert [one.names(state, hint("c", 5), at) for at in (0, 1, 1.1)] == [None, None, "d"]
    one.reached_at = 2 * SECOND
    assert [one.names(state, hint("c", 5), at) for at in (2.5, 3, 3.1)] == [None, None, "d"]


def test_an_application_leaves_an_owner_that_answers() -> None:
    """Applications never take anything over from an owner that they reach."""
    for owner in "ad":
        assert One("b").names(roster(a=1, b=1, d=None), hint(owner, 5), 1) is None


def test_an_application_prefers_a_dedicated_owner_to_itself() -> None:
    state = roster(a=1, b=1, c=None, d=None)
    one = One("b")
    one.names(state, hint("a", 5), 0)
    assert one.names(state, hint("a", 5), 1.1) == "c"


def test_silent_dedicated_owners_are_named_once_until_their_entries_are_old() -> None:
    one, state = One("b"), roster(a=1, b=1, c=None, d=None)
    one.names(state, hint("c", 5), 0)
    assert one.names(state, hint("c", 5), 1.1) == "d"
    one.names(state, hint("d", 6), 1.2)
    assert one.names(state, hint("d", 6), 2.3) == "b"
    one.names(state, hint("a", 7), 50)
    assert one.names(state, hint("a", 7), 51.1) == "b", "both had been silent"
    one.names(state, hint("a", 8), 70)
    assert one.names(state, hint("a", 8), 71.1) == "c", "its entry is renewed: it answers others"


def test_a_new_owner_has_a_second_to_answer() -> None:
    """Members that had been without an owner for long replaced each new one at once."""
    one, state = One("b"), roster(a=1, b=1, c=1)
    one.names(state, hint("a", 5), 0)
    assert one.names(state, hint("c", 6), 1.5) is None
    assert one.names(state, hint("c", 6), 2.5) is None
    assert one.names(state, hint("c", 6), 2.6) == "b"


def test_a_dedicated_owner_that_was_replaced_comes_back_after_ten_seconds() -> None:
    """Members that cannot reach it would lose their owner again and again."""
    one, state = One("d", dedicated=True), roster(a=1, d=None)
    one.names(state, hint("d", 5), 0)
    assert [one.names(state, hint("a", 6), at) for at in (1, 10.9, 11)] == [None, None, "d"]
    one.names(state, hint("d", 7), 12)
    assert one.names(state, hint("d", 7), 13) is None


def test_an_entry_that_is_old_or_has_no_address_is_not_preferred() -> None:
    for without in ({"overdue": "d"}, {"unreachable": "d"}):
        state = roster(a=1, d=None, **without)  # type: ignore[arg-type]
        assert One("a").names(state, hint(None, 0), 0) == "a"
        assert heir(state, "a", lambda _: False) is None


def test_the_heir_is_one_that_is_heard_then_a_dedicated_one_then_the_largest() -> None:
    state = roster(a=5, b=9, c=7, d=None, e=None)

    def of(leaving: str, *heard: str) -> str:
        found = heir(state, leaving, lambda member: member in heard)
        assert found is not None
        return found.member

    assert of("a", "c") == "c", "nobody knows if the others run"
    assert of("a", "b", "c") == "b"
    assert of("a", "b", "d") == "d"
    assert of("a") == "e"
    assert of("e", "a", "b", "d", "e") == "d"
    assert heir(roster(a=1), "a", lambda _: True) is None


# Owners of several shards -------------------------------------------------------------------------


def other(one: One, state: RosterState, *heard: str, seconds: float = 0) -> str | None:
    """Return the member to which an owner of several shards gives one."""
    now = round(seconds * SECOND)
    entry = one._succession.other_owner(state, lambda member: member in heard, now)
    return None if entry is None else entry.member


def test_a_shard_is_given_to_one_that_is_heard_and_has_the_largest_share() -> None:
    state = roster(a=9, b=1, c=3, d=5)
    assert other(One("a"), state, "a", "b", "c") == "c"
    assert other(One("a"), state, "a") is None
    assert other(One("a"), state) is None
    assert other(One("a"), roster(overdue="c", a=9, b=1, c=3), "b", "c") == "b"
    assert other(One("a"), roster(unreachable="c", a=9, b=1, c=3), "b", "c") == "b"


def test_nothing_is_given_while_a_member_has_no_share() -> None:
    assert other(One("a"), roster(a=9, b=1, c=0), "b", "c") is None


def test_a_dedicated_owner_gives_only_to_another_and_so_does_an_application() -> None:
    assert other(One("d", dedicated=True), roster(a=1, d=None), "a") is None
    assert other(One("d", dedicated=True), roster(a=1, d=None, e=None), "a", "e") == "e"
    assert other(One("a"), roster(a=1, b=1, e=None), "b", "e") == "e"


def test_a_shard_is_not_given_back_at_once_to_the_one_that_it_came_from() -> None:
    one, state = One("a"), roster(a=1, b=1)
    one.names(state, hint("b", 1), 0)
    one.names(state, hint("a", 2), 1)
    assert other(one, state, "b", seconds=5) is None
    assert other(one, state, "b", seconds=12) == "b"


def test_a_dedicated_owner_that_gave_a_shard_away_takes_it_back_when_that_one_is_silent() -> None:
    one, state = One("d", dedicated=True), roster(d=None, e=None)
    one.names(state, hint("d", 1), 0)
    assert other(one, state, "e") == "e"
    assert one.names(state, hint("e", 2), 1) is None
    one.reached_at = 2 * SECOND
    assert one.names(state, hint("e", 2), 3.5) == "d"


def test_the_heir_and_the_next_owner_do_not_own_another_shard_if_that_can_be() -> None:
    def owning(name: str, state: RosterState) -> RosterState:
        return replace(state, hints={"1": hint(name, 3)})

    heard = lambda member: True  # noqa: E731
    state = roster(a=1, b=9, c=1)
    assert getattr(heir(owning("b", state), "a", heard), "member", None) == "c"
    assert getattr(heir(owning("b", roster(a=1, b=9)), "a", heard), "member", None) == "b"
    two = owning("d", roster(a=1, d=None, e=None))
    assert One("a").names(two, hint(None, 0), 0) == "e"
