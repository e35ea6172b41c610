"""Stores with many writers, and beside a naive model: no write is lost, watches see all."""

from __future__ import annotations

import threading
import uuid
from contextlib import ExitStack
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from conformance.store_helpers import Follower, compact, finish, python
from ratectl.stores import open_store
from ratectl.stores.base import Compare, Delete, Item, Put

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from ratectl.stores.base import Store

INCREMENT = """
for _ in range(int(args[0])):
    while True:
        item = store.get("counter")
        value, revision = (int(item.value), item.mod_revision) if item else (0, 0)
        if store.txn([Compare("counter", revision)], [Put("counter", b"%d" % (value + 1))]).ok:
            break
"""


def test_threads_lose_no_increment(store: Store) -> None:
    failures: list[BaseException] = []

    def run() -> None:
        try:
            exec(INCREMENT, {"store": store, "args": ["25"], "Compare": Compare, "Put": Put})
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    item = store.get("counter")
    assert item is not None
    assert item.value == b"200"


def test_processes_lose_no_increment(store: Store, store_url: str) -> None:
    start = store.list("").revision + 1
    with store.watch("counter", start) as watch:
        follower = Follower(watch)
        processes = [python(INCREMENT, store_url, "50") for _ in range(4)]
        for process in processes:
            finish(process)
        follower.until_key("counter", b"200")
    values = [
        int(event.changes[0].item.value) for event in follower.events if event.changes[0].item
    ]
    assert values == list(range(1, 201)), "the watch saw every value once, in order"


KEYS = st.sampled_from(["a", "a/1", "a/2", "b", "ÿ", "\U0010ffff", "a\0"])
VALUES = st.binary(max_size=4)
PREFIXES = st.sampled_from(["", "a", "a/", "b", "ÿ", "none"])
OPS = st.lists(st.tuples(KEYS, st.none() | VALUES), max_size=5, unique_by=lambda pair: pair[0])


class StoreMachine(RuleBasedStateMachine):
    """Store that is compared with a dictionary of every revision."""

    make_url: Callable[[], str]

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()

    @initialize()
    def open(self) -> None:
        url = type(self).make_url()
        self.store = self.stack.enter_context(open_store(url))
        self.other = self.stack.enter_context(open_store(url))
        self.first = self.newest = self.store.list("").revision
        self.oldest = self.first
        self.history: dict[int, dict[str, Item]] = {self.first: {}}

    def teardown(self) -> None:
        self.stack.close()

    @property
    def now(self) -> dict[str, Item]:
        return self.history[self.newest]

    @rule(
        compares=st.lists(st.tuples(KEYS, st.booleans()), max_size=3),
        pairs=OPS,
        through_other=st.booleans(),
    )
    def txn(
        self,
        compares: list[tuple[str, bool]],
        pairs: list[tuple[str, bytes | None]],
        through_other: bool,
    ) -> None:
        conditions, expected = [], True
        for key, right in compares:
            item = self.now.get(key)
            revision = item.mod_revision if item else 0
            conditions.append(Compare(key, revision if right else revision + 1))
            expected = expected and right

        ops = [Delete(key) if value is None else Put(key, value) for key, value in pairs]
        store = self.other if through_other else self.store
        result = store.txn(conditions, ops)
        assert result.ok is expected
        after = dict(self.now)
        effect = False
        for key, value in pairs if expected else ():
            if value is not None:
                after[key] = Item(key, value, result.revision)
                effect = True
            elif after.pop(key, None) is not None:
                effect = True
        assert (result.revision > self.newest) is effect
        self.newest = result.revision
        self.history[self.newest] = after

    @rule(prefix=PREFIXES, data=st.data())
    def watch_from(self, prefix: str, data: st.DataObject) -> None:
        kept = [r for r in sorted(self.history) if r > self.oldest]
        after = [r for r in kept if self.touched(prefix, r)]
        if not after:
            return
        start = data.draw(st.sampled_from(after))
        with self.other.watch(prefix, start) as watch:
            follower = Follower(watch)
            follower.until_revision(after[-1])
        assert [e.revision for e in follower.events] == [r for r in after if r >= start]
        assert not follower.resyncs
        for event in follower.events:
            for change in event.changes:
                assert change.item == self.history[event.revision].get(change.key)

    @precondition(lambda self: self.newest > self.oldest)
    @rule(data=st.data())
    def compact(self, data: st.DataObject) -> None:
        revision = data.draw(st.sampled_from([r for r in sorted(self.history) if r > self.oldest]))
        compact(self.store, revision)
        self.oldest = revision

    @invariant()
    def reads_are_current(self) -> None:
        if not hasattr(self, "store"):
            return
        assert self.store.list("").items == self.below("", self.newest)
        for key in ("a", "b", "a\0"):
            assert self.other.get(key) == self.now.get(key)

    def below(self, prefix: str, revision: int) -> tuple[Item, ...]:
        items = self.history[revision]
        return tuple(items[key] for key in sorted(items) if key.startswith(prefix))

    def touched(self, prefix: str, revision: int) -> bool:
        earlier = [r for r in self.history if r < revision]
        return bool(earlier) and self.below(prefix, max(earlier)) != self.below(prefix, revision)


def test_store_matches_a_naive_model(store_url: str, request: pytest.FixtureRequest) -> None:
    class Machine(StoreMachine):
        @staticmethod
        def make_url() -> str:  # type: ignore[override]
            head, _, tail = store_url.rpartition("/")
            return f"{head}/{uuid.uuid4().hex[:8]}-{tail}"

    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Machine,
        settings=settings(
            max_examples=40,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
