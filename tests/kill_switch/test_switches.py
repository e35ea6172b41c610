"""The kill switch's record: its content, concurrent writers, and invalid records."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flaky import Flaky
from ratectl.errors import BundleError, Conflict, OutcomeUnknown, StoreUnavailable
from ratectl.kill_switch.switches import (
    MAX_SWITCHES,
    PANIC,
    Switch,
    Switches,
    change_switches,
    read_switches,
)
from ratectl.stores import open_store

if TYPE_CHECKING:
    from typing import NoReturn

    from ratectl.stores.base import Item, Store, TxnResult

TIME = "2026-11-23T11:58:00.000Z"
SCOPES = ("/", "/a", "/a/b", "/c")


def switch(scope: str = "/", **said: Any) -> Switch:
    return Switch(
        **{"scope": scope, "mode": "open", "reason": "INC-1", "author": "me", "time": TIME, **said}
    )


def turn_on(store: Store, scope: str = "/") -> Switches:
    return change_switches(store, lambda on: on.turned_on(switch(scope))).after


texts = st.text(max_size=30)
switches = st.builds(
    Switch,
    scope=st.sampled_from(SCOPES),
    mode=st.sampled_from(("open", "shadow")),
    reason=texts,
    author=texts,
    time=texts,
)


@given(st.lists(st.one_of(switches, st.sampled_from(SCOPES), st.none()), max_size=8))
def test_record_holds_the_last_turn_and_its_sequence_grows(turns: list[Any]) -> None:
    record, on = Switches(), dict[str, Switch]()
    for turn in turns:
        before = record.sequence
        if isinstance(turn, Switch):
            record = record.turned_on(turn)
            on[turn.scope] = turn
        else:
            record = record.turned_off(turn)
            on = {} if turn is None else {at: of for at, of in on.items() if at != turn}
        assert record.sequence > before
        assert record.on == tuple(on[scope] for scope in sorted(on))
        assert Switches.decode(record.encode()) == record


def test_sequence_does_not_fall_when_the_clock_is_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time_ns", lambda: 5_000_000_000)
    first = Switches().turned_on(switch())
    monkeypatch.setattr("time.time_ns", lambda: 1_000_000_000)
    assert (first.sequence, first.turned_off().sequence) == (5_000, 5_001)


GOOD = json.loads(Switches(3, (switch(),)).encode())


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("format", 2, "format is 2"),
        ("format", None, "format is None"),
        ("sequence", 0, "sequence is 0"),
        ("sequence", True, "sequence is True"),
        ("sequence", 1.5, "sequence is 1.5"),
        ("sequence", 10**30, "no whole number"),
        ("switches", {}, "not a list"),
        ("switches", [GOOD["switches"][0]] * 2, "two switches at /"),
        ("switches", ["/"], "'/' is not a switch"),
        ("switches", [{}] * (MAX_SWITCHES + 1), "at most"),
        ("scope", "payments", "starts with '/'"),
        ("scope", "/a/", "does not end with"),
        ("scope", "/" + "a" * 2_000, "at most"),
        ("scope", 7, "the scope of a switch is 7"),
        ("mode", "off", "neither open nor shadow"),
        ("mode", ["open"], "not a string"),
        ("reason", None, "the reason of a switch"),
        ("reason", "x" * 501, "more than 500 characters"),
        ("author", 0, "the author of a switch"),
        ("time", {}, "the time of a switch"),
    ],
)
def test_invalid_record_is_refused_with_the_reason(path: str, value: Any, said: str) -> None:
    record = json.loads(json.dumps(GOOD))
    if path in record:
        record[path] = value
    else:
        record["switches"][0][path] = value
    with pytest.raises(BundleError, match="kill switch's record cannot be read") as error:
        Switches.decode(json.dumps(record).encode())
    assert said in str(error.value)


def test_unknown_fields_are_ignored() -> None:
    record = json.loads(json.dumps(GOOD))
    record["note"] = record["switches"][0]["ticket"] = "later"
    assert Switches.decode(json.dumps(record).encode()) == Switches(3, (switch(),))


@given(st.binary(max_size=200))
def test_bytes_are_a_record_or_are_refused(data: bytes) -> None:
    try:
        Switches.decode(data)
    except BundleError:
        return
    raise AssertionError("a record by chance")


def test_concurrent_turns_lose_no_switch(store_url: str, store: Store) -> None:
    scopes = [f"/{name}" for name in "abcdef"]

    def turn(scope: str) -> None:
        with open_store(store_url) as own:
            turn_on(own, scope)

    hands = [threading.Thread(target=turn, args=[scope]) for scope in scopes]
    for hand in hands:
        hand.start()
    for hand in hands:
        hand.join()
    assert [each.scope for each in read_switches(store).on] == scopes


def test_unreadable_record_is_replaced_and_reported(store: Store) -> None:
    store.put(PANIC, b"junk")
    with pytest.raises(BundleError):
        read_switches(store)
    changed = change_switches(store, lambda on: on.turned_on(switch("/a")))
    assert "cannot be read" in str(changed.discarded)
    assert read_switches(store) == changed.after
    assert changed.after.on == (switch("/a"),)


def test_off_writes_a_record_even_if_nothing_is_on(store: Store) -> None:
    """Agents may obey a record that the store has lost."""
    one = change_switches(store, lambda on: on.turned_off()).after
    two = change_switches(store, lambda on: on.turned_off()).after
    assert 0 < one.sequence < two.sequence == read_switches(store).sequence


@pytest.mark.parametrize("applied", [True, False])
def test_a_lost_reply_is_settled_by_reading(store: Store, applied: bool) -> None:
    turn_on(store, "/a")
    flaky: Any = Flaky(store, applied=applied, key=PANIC)
    then: list[Item | None] = []
    flaky.between.append(lambda: then.append(store.get(PANIC)))
    changed = change_switches(flaky, lambda on: on.turned_on(switch("/b")))
    assert flaky.lost == 1
    assert [each.scope for each in changed.before.on] == ["/a"]
    assert [each.scope for each in changed.after.on] == ["/a", "/b"]
    assert read_switches(store) == changed.after
    assert (store.get(PANIC) == then[0]) is applied, "the record is not written twice"


def test_lost_reply_with_a_concurrent_change(store: Store) -> None:
    flaky: Any = Flaky(store, applied=True, key=PANIC)
    flaky.between.append(lambda: turn_on(store, "/b"))
    changed = change_switches(flaky, lambda on: on.turned_on(switch("/a")))
    assert [each.scope for each in changed.after.on] == ["/a", "/b"]
    assert read_switches(store) == changed.after


class Gone:
    """A store that executes a write without a reply, and is unreachable from then on."""

    def __init__(self) -> None:
        self._written = False

    def get(self, key: str) -> Item | None:
        if self._written:
            raise StoreUnavailable("here", "gone")
        return None

    def txn(self, *args: object) -> NoReturn:
        self._written = True
        raise OutcomeUnknown("the reply was lost")


def test_unsettled_outcome_is_reported_as_unknown() -> None:
    gone: Any = Gone()
    with pytest.raises(OutcomeUnknown, match="the reply was lost"):
        turn_on(gone)


class Overtaken(Flaky):
    """A store in which another writer is always faster."""

    def txn(self, *args: Any) -> TxnResult:
        turn_on(self._store, "/other")
        return self._store.txn(*args)


def test_endless_race_ends_with_a_conflict(store: Store) -> None:
    overtaken: Any = Overtaken(store, applied=True)
    with pytest.raises(Conflict, match="others change the kill switch"):
        turn_on(overtaken)
    assert [each.scope for each in read_switches(store).on] == ["/other"]
