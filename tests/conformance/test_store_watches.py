"""Watches deliver whole revisions in order, from any kept revision, or else a resync."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from conformance.store_helpers import Follower, compact, finish, python
from ratectl.errors import UsageError
from ratectl.stores import open_store
from ratectl.stores.base import Change, Delete, Events, Item, Put

if TYPE_CHECKING:
    from ratectl.stores.base import Store, Watch


def test_watch_starts_with_the_given_past_revision(store: Store) -> None:
    store.put("p/a", b"0")
    first = store.put("p/a", b"1")
    second = store.put("p/b", b"2")
    with store.watch("p/", first) as watch:
        follower = Follower(watch)
        follower.until_revision(second)
    assert follower.events == [
        Events(first, (Change("p/a", Item("p/a", b"1", first)),)),
        Events(second, (Change("p/b", Item("p/b", b"2", second)),)),
    ]
    assert follower.resyncs == []


def test_watch_delivers_new_changes_in_order(store: Store) -> None:
    snapshot = store.list("p/")
    with store.watch("p/", snapshot.revision + 1) as watch:
        follower = Follower(watch)
        for n in range(5):
            revision = store.put("p/a", b"%d" % n)
            follower.until_revision(revision)
        follower.until_revision(store.delete("p/a"))
    values = [event.changes[0].item and event.changes[0].item.value for event in follower.events]
    assert values == [b"0", b"1", b"2", b"3", b"4", None]


def test_transaction_is_one_event(store: Store) -> None:
    store.put("p/old", b"")
    revision = store.txn(
        (), [Put("p/b", b"2"), Put("q/x", b""), Put("p/a", b"1"), Delete("p/old")]
    ).revision
    with store.watch("p/", revision) as watch:
        follower = Follower(watch)
        follower.until_revision(revision)
    (event,) = follower.events
    assert event.revision == revision
    assert sorted(event.changes, key=lambda change: change.key) == [
        Change("p/a", Item("p/a", b"1", revision)),
        Change("p/b", Item("p/b", b"2", revision)),
        Change("p/old", None),
    ]


def test_watch_delivers_no_keys_of_other_prefixes(store: Store) -> None:
    start = store.put("p/a", b"")
    for key in ("p", "p0", "P/a", "q/a", "o/a"):
        store.put(key, b"")
    last = store.put("p/z", b"")
    with store.watch("p/", start) as watch:
        follower = Follower(watch)
        follower.until_revision(last)
    assert [e.changes[0].key for e in follower.events] == ["p/a", "p/z"]


def test_watch_of_the_empty_prefix_delivers_every_key(store: Store) -> None:
    revisions = [store.put(key, b"") for key in ("b", "ÿ", "\U0010ffff", "a/1")]
    with store.watch("", revisions[0]) as watch:
        follower = Follower(watch)
        follower.until_revision(revisions[-1])
    assert [e.revision for e in follower.events] == revisions


def test_values_may_be_empty_and_large(store: Store) -> None:
    start = store.put("a", b"")
    last = start
    for n in range(12):
        last = store.put(f"big{n}", bytes([n]) * 900_000)
    with store.watch("", start) as watch:
        follower = Follower(watch)
        follower.until_revision(last)
    assert follower.state["a"].value == b""
    assert all(follower.state[f"big{n}"].value == bytes([n]) * 900_000 for n in range(12))
    assert follower.resyncs == []


def test_resume_after_close_loses_and_repeats_nothing(store: Store) -> None:
    revisions = [store.put("p/a", b"%d" % n) for n in range(20)]

    def read_some(first: int) -> list[int]:
        with store.watch("p/", first) as watch:
            follower = Follower(watch)
            follower.until(
                lambda: (
                    len(follower.events) >= 3
                    or (follower.events and follower.events[-1].revision == revisions[-1])
                )
            )
        return [event.revision for event in follower.events][:3]

    got = read_some(revisions[0])
    while got[-1] < revisions[-1]:
        got += read_some(got[-1] + 1)
    assert got == revisions


def test_two_watches_deliver_the_same_events(store: Store) -> None:
    start = store.list("").revision + 1
    with store.watch("p/", start) as one, store.watch("p/", start) as two:
        followers = [Follower(one), Follower(two)]
        last = [store.put("p/a", b"%d" % n) for n in range(10)][-1]
        for follower in followers:
            follower.until_revision(last)
    assert followers[0].events == followers[1].events
    assert len(followers[0].events) == 10


def test_compacted_history_is_a_resync(store: Store) -> None:
    first = store.put("p/a", b"1")
    store.put("p/b", b"1")
    store.delete("p/b")
    store.put("q/a", b"other")
    last = store.put("p/a", b"2")
    compact(store, last)
    with store.watch("p/", first) as watch:
        follower = Follower(watch)
        follower.until(lambda: follower.resyncs)
        (resync,) = follower.resyncs
        assert resync.snapshot.items == (Item("p/a", b"2", last),)
        assert resync.snapshot.revision >= last
        assert resync.reason
        assert follower.events == []
        next_ = store.put("p/c", b"3")
        follower.until_revision(next_)
    assert [e.revision for e in follower.events] == [next_]


def test_watch_from_the_compacted_revision_misses_nothing(store: Store) -> None:
    store.put("p/a", b"1")
    at = store.put("p/b", b"2")
    last = store.put("p/b", b"3")
    compact(store, at)
    with store.watch("p/", at) as watch:
        follower = Follower(watch)
        follower.until_key("p/b", b"3")
    if follower.resyncs:  # allowed, but nothing may be missing
        assert follower.state.keys() == {"p/a", "p/b"}
    else:
        assert [e.revision for e in follower.events] == [at, last]


def test_future_revision_is_a_resync(store: Store) -> None:
    """If a watcher knows a later revision than the store has, the store was restored."""
    revision = store.put("p/a", b"1")
    with store.watch("p/", revision + 1000) as watch:
        follower = Follower(watch)
        follower.until(lambda: follower.resyncs)
        assert follower.resyncs[0].snapshot.items == (Item("p/a", b"1", revision),)
        follower.until_revision(store.put("p/a", b"2"))


def test_next_revision_is_no_resync(store: Store) -> None:
    revision = store.put("p/a", b"1")
    with store.watch("p/", revision + 1) as watch:
        follower = Follower(watch)
        follower.until_revision(store.put("p/a", b"2"))
    assert follower.resyncs == []


def test_invalid_revision_or_prefix_is_refused(store: Store) -> None:
    for revision in (0, -1):
        with pytest.raises(UsageError):
            store.watch("", revision)
    with pytest.raises(UsageError):
        store.watch("lone\ud800surrogate", 1)


def test_watch_delivers_changes_of_another_process(store: Store, store_url: str) -> None:
    start = store.list("").revision + 1
    with store.watch("p/", start) as watch:
        follower = Follower(watch)
        writer = python("for n in range(50): store.put('p/a', b'%d' % n)", store_url)
        follower.until_key("p/a", b"49")
        finish(writer)
    assert [e.changes[0].item.value for e in follower.events if e.changes[0].item] == [
        b"%d" % n for n in range(50)
    ]


def test_watch_consumer_ends_with_the_state_of_the_store(store: Store, store_url: str) -> None:
    """Writers in two processes, with deletes and transactions; no event is lost."""
    code = """
import random
rng = random.Random(int(args[0]))
for n in range(150):
    ops = [Put(f"p/{k}", b"%d" % n) if rng.random() < 0.7 else Delete(f"p/{k}")
           for k in rng.sample(range(8), rng.randint(1, 4))]
    store.txn((), ops)
store.put("p/end" + args[0], b"")
"""
    with store.watch("p/", store.list("").revision + 1) as watch:
        follower = Follower(watch)
        writers = [python(code, store_url, str(seed)) for seed in (1, 2)]
        follower.until(lambda: {"p/end1", "p/end2"} <= follower.state.keys(), 20)
        for writer in writers:
            finish(writer)
    assert tuple(follower.state[key] for key in sorted(follower.state)) == store.list("p/").items
    revisions = [event.revision for event in follower.events]
    assert revisions == sorted(set(revisions))


def blocked(watch: Watch) -> threading.Thread:
    """Return a thread that has received its first event and waits for the next one."""
    started = threading.Event()

    def run() -> None:
        for event in watch:
            if isinstance(event, Events):
                started.set()

    thread = threading.Thread(target=run)
    thread.start()
    assert started.wait(10)
    return thread


def test_close_ends_a_blocked_iteration(store: Store) -> None:
    watch = store.watch("", store.put("a", b""))
    thread = blocked(watch)
    begin = time.monotonic()
    watch.close()
    watch.close()
    thread.join(5)
    assert not thread.is_alive()
    assert time.monotonic() - begin < 1.0
    assert list(watch) == []


def test_closing_the_store_ends_its_watches(store_url: str) -> None:
    store = open_store(store_url)
    thread = blocked(store.watch("", store.put("a", b"")))
    begin = time.monotonic()
    store.close()
    thread.join(5)
    assert not thread.is_alive()
    assert time.monotonic() - begin < 1.0


def test_watch_can_be_closed_before_any_iteration(store: Store) -> None:
    store.watch("", 1).close()
    with store.watch("", 1):
        pass
