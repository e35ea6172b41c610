"""An agent reads the record of resets: it obeys none twice, whatever the store delivers."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.reset_support import a_reset
from ratectl.agent.resets import StoreResets
from ratectl.agent.state import AgentState
from ratectl.engine.buckets.resets import ResetCounts
from ratectl.errors import StoreUnavailable, Untrusted
from ratectl.resets.orders import RESETS, Reset, Resets
from ratectl.stores.base import Item

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

STORE: Any = None


class Engine:
    """Engine that notes which keys it resets."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.fails = False
        self.generation = 0

    def reset(self, scope: str, limit: str, key: dict[str, str], *, budget: bool) -> ResetCounts:
        self.keys.append(key["tenant"])
        if self.fails:
            raise ZeroDivisionError("boom")
        return ResetCounts(1, 2, 0)


class Rig:
    def __init__(self, refuse: Iterable[int] = ()) -> None:
        self.engine: Any = Engine()
        self.state = AgentState()
        self.refused = set(refuse)
        self.store_is_down = False
        self.resets = StoreResets(self.engine, self.state, self.verify)

    def verify(self, store: object, reset: Any) -> None:
        if self.store_is_down:
            raise StoreUnavailable("etcd://x", "down")
        if reset.sequence in self.refused:
            raise Untrusted("it is not signed")

    def see(self, *resets: Reset) -> None:
        self.resets.see(STORE, Item(RESETS, Resets(resets).encode(), 1))

    def forked(self) -> Rig:
        child = Rig(self.refused)
        child.resets = StoreResets(child.engine, child.state, child.verify, self.resets)
        return child


def numbered(sequence: int, **changes: Any) -> Reset:
    return a_reset(sequence, key={"tenant": str(sequence)}, **changes)


def test_each_is_obeyed_once_in_order() -> None:
    rig = Rig()
    rig.see()
    rig.see(numbered(7), numbered(5))
    rig.see(numbered(5), numbered(7), numbered(9))
    assert rig.engine.keys == ["5", "7", "9"]
    assert (rig.state.now.reset_sequence, rig.state.now.reset_shared) == (9, 2)


def test_first_read_is_only_noted() -> None:
    rig = Rig()
    rig.see(numbered(5), numbered(7))
    rig.see(numbered(6), numbered(8))
    assert rig.engine.keys == ["8"]


def test_first_read_without_a_record() -> None:
    rig = Rig()
    rig.resets.see(STORE, None)
    rig.see(numbered(1))
    assert rig.engine.keys == ["1"]


def test_unreadable_first_record_is_no_first_read() -> None:
    """A record that comes later may be older than the agent."""
    rig = Rig()
    rig.resets.see(STORE, Item(RESETS, b"junk", 1))
    assert "cannot be read" in (rig.state.now.error or "")
    rig.see(numbered(1))
    assert rig.engine.keys == []
    assert "reset" not in rig.state.now.problems


def test_forged_number_neither_hides_later_resets_nor_is_obeyed() -> None:
    for first in ((), (numbered(90),)):
        rig = Rig(refuse=[90])
        rig.see(*first)
        rig.see(numbered(5), numbered(90))
        rig.see(numbered(6), numbered(90))
        assert rig.engine.keys == ["5", "6"]
        assert "reset 90 of spike at / is not obeyed: it is not signed" in (
            rig.state.now.error or ""
        )
        rig.see(numbered(7))
        assert "reset" not in rig.state.now.problems


def test_expired_ones_are_passed_over_for_ever() -> None:
    rig = Rig()
    rig.see()
    rig.see(numbered(5, seconds=-0.001), numbered(6))
    rig.see(numbered(5), numbered(6))
    assert (rig.engine.keys, rig.state.now.reset_sequence) == (["6"], 6)
    rig.see(numbered(7, seconds=-1))
    assert rig.state.now.reset_sequence == 6, "it did not obey the last one"


def test_failure_is_reported_and_not_repeated() -> None:
    rig = Rig()
    rig.see()
    rig.engine.fails = True
    rig.see(numbered(5))
    assert "reset 5 of spike at / has failed: ZeroDivisionError: boom" in (
        rig.state.now.error or ""
    )
    rig.engine.fails = False
    rig.see(numbered(5))
    assert (rig.engine.keys, rig.state.now.reset_sequence) == (["5"], 0)


def test_store_that_fails_while_a_signature_is_checked_delays_it() -> None:
    rig = Rig()
    rig.see()
    rig.store_is_down = True
    with pytest.raises(StoreUnavailable):
        rig.see(numbered(5))
    rig.store_is_down = False
    rig.see(numbered(5))
    rig.see(numbered(5))
    assert rig.engine.keys == ["5"]


def test_child_goes_on_where_its_parent_was() -> None:
    rig = Rig()
    unread = rig.forked()
    unread.see(numbered(5))
    assert unread.engine.keys == [], "its first read"
    rig.see()
    rig.see(numbered(5))
    child = rig.forked()
    child.see(numbered(5), numbered(6))
    rig.see(numbered(5), numbered(6))
    assert (rig.engine.keys, child.engine.keys) == (["5", "6"], ["6"])


def test_threads_that_see_one_record_obey_it_once() -> None:
    rig = Rig()
    rig.see()
    record = [numbered(sequence) for sequence in range(1, 30)]
    start = threading.Barrier(4)

    def look(see: Callable[..., None]) -> None:
        start.wait()
        for upto in range(len(record) + 1):
            see(*record[:upto])

    threads = [threading.Thread(target=look, args=(rig.see,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert rig.engine.keys == [str(sequence) for sequence in range(1, 30)]


sequences = st.integers(1, 12)
records = st.lists(st.tuples(sequences, st.booleans(), st.booleans()), max_size=5)


@given(st.lists(records | st.none() | st.just(b"junk"), max_size=12), st.sets(sequences))
def test_nothing_is_obeyed_twice_or_from_before_the_start(
    versions: list[Any], refused: set[int]
) -> None:
    """Any records in any order: from backups, deleted, damaged, forged, or expired."""
    rig = Rig(refuse=refused)
    known: set[int] | None = None
    for version in versions:
        if version is None or isinstance(version, bytes):
            item = None if version is None else Item(RESETS, version, 1)
            rig.resets.see(STORE, item)
            known = set() if known is None and version is None else known
            continue
        found = {sequence: (over, other) for sequence, over, other in version}
        rig.see(
            *[
                replace(numbered(sequence, seconds=-1 if over else 60), reason=f"{other}")
                for sequence, (over, other) in found.items()
            ]
        )
        if known is None:
            known = {sequence for sequence in found if sequence not in refused}
    keys = [int(key) for key in rig.engine.keys]
    assert keys == sorted(set(keys)), "each once, and in order"
    assert not set(keys) & refused
    assert not keys or min(keys) > max(known or {0})


def test_agent_that_began_without_the_store_obeys_what_came_later() -> None:
    """The agent has decided by the policies on its disk, so its buckets are not full."""
    rig = Rig()
    rig.engine.generation = 3
    now = datetime.now(UTC)
    before = numbered(5, time=(now - timedelta(minutes=5)).isoformat())
    later = numbered(6, time=(now + timedelta(minutes=1)).isoformat())
    rig.see(before, later)
    rig.see(before, later)
    assert rig.engine.keys == ["6"]
    fresh = Rig()
    fresh.see(before, later)
    assert fresh.engine.keys == [], "it starts with full buckets"


def test_refusal_at_the_first_read_stays_reported(caplog: pytest.LogCaptureFixture) -> None:
    """Also if a later reset is obeyed at the same read."""
    rig = Rig(refuse=[8])
    rig.engine.generation = 3
    now = datetime.now(UTC)
    forged = numbered(8, time=(now - timedelta(minutes=5)).isoformat())
    later = numbered(6, time=(now + timedelta(minutes=1)).isoformat())
    rig.see(later, forged)
    assert rig.engine.keys == ["6"]
    assert "reset 8 of spike at / is not obeyed: it is not signed" in (rig.state.now.error or "")
    assert "resolved" not in caplog.text
