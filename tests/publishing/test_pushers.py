"""Many publishers at once, with lost replies: each push is published exactly once."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING

from ratectl.errors import Conflict, OutcomeUnknown
from ratectl.history.generations import read_history, read_live
from ratectl.policy.bundle import digest, encode_policies
from ratectl.publishing._publish import publish
from ratectl.records import HEAD, history_key
from ratectl.stores import open_store
from soak import scaled
from support import ME, policies

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratectl.policy.language.model import PolicyTree
    from ratectl.stores.base import Compare, Op, Store, TxnResult

PUSHERS = {"etcd": scaled(12, 50), "sqlite": scaled(8, 20)}
"""Publishers by kind of store: a file on one machine has fewer writers."""
PUSHES = scaled(8, 20)
SEED = 20_261_125
LOST = 0.1
"""Share of head swaps whose request is lost, and of applied swaps whose reply is lost."""


class Lossy:
    """Store that randomly loses requests and replies of head swaps."""

    def __init__(self, store: Store, seed: int) -> None:
        self._store = store
        self._chance = random.Random(seed)
        self.applied = self.dropped = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def txn(self, compare: Sequence[Compare], ops: Sequence[Op]) -> TxnResult:
        if not any(op.key == HEAD for op in ops):
            return self._store.txn(compare, ops)
        if self._chance.random() < LOST:
            self.dropped += 1
            raise OutcomeUnknown("the request was lost")
        result = self._store.txn(compare, ops)
        if result.ok and self._chance.random() < LOST:
            self.applied += 1
            raise OutcomeUnknown("the reply was lost")
        return result


class Pusher(threading.Thread):
    """Thread that publishes some trees; it repeats each push until its outcome is known."""

    def __init__(self, url: str, number: int) -> None:
        super().__init__()
        self.url, self.number = url, number
        self.done: list[tuple[int, str]] = []
        """Reported generation and name of each published tree."""
        self.conflicts = self.unknown = self.found = self.applied = self.dropped = 0
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            with open_store(self.url, timeout=60) as store:
                lossy = Lossy(store, SEED + self.number)
                for push in range(PUSHES):
                    self.push(lossy, f"{self.number}-{push}")
                self.applied, self.dropped = lossy.applied, lossy.dropped
        except BaseException as error:  # noqa: BLE001  reported by the test
            self.error = error

    def push(self, lossy: Lossy, name: str) -> None:
        while True:
            try:
                entry = publish(lossy, tree(name), ME)  # type: ignore[arg-type]
            except Conflict:
                self.conflicts += 1
            except OutcomeUnknown:
                self.unknown += 1
            else:
                # None: an earlier attempt with an unknown outcome is live.
                self.found += entry is None
                self.done += [(entry.generation, name)] if entry is not None else []
                return


def tree(name: str) -> PolicyTree:
    return policies(**{"/": {"description": name, "limits": {"a": {"rate": "1/s"}}}})


def test_many_pushers_with_lost_replies_publish_each_tree_once(
    store: Store, store_url: str
) -> None:
    kind = store_url.partition(":")[0]
    pushers = [Pusher(store_url, number) for number in range(PUSHERS[kind])]
    pushes = len(pushers) * PUSHES
    for pusher in pushers:
        pusher.start()
    for pusher in pushers:
        pusher.join()
    assert [pusher.error for pusher in pushers if pusher.error] == []

    def total(counter: str) -> int:
        return sum(getattr(pusher, counter) for pusher in pushers)

    figures = {
        name: total(name) for name in ("applied", "dropped", "conflicts", "unknown", "found")
    }
    print(f"\n{len(pushers)} pushers of {PUSHES} pushes on {kind}: {figures}")
    history = {entry.generation: entry for entry in read_history(store)}
    assert sorted(history) == list(range(1, pushes + 1)), "no generation is missing or doubled"
    assert read_live(store).generation == pushes
    bundles = [entry.bundle for entry in history.values()]
    assert len(set(bundles)) == len(bundles), "each content is published once"
    reported = dict(push for pusher in pushers for push in pusher.done)
    assert len(reported) + total("found") == pushes
    assert all(
        history[generation].bundle == digest(encode_policies(tree(name)))
        for generation, name in reported.items()
    )
    assert figures["applied"] > pushes / 50
    assert figures["dropped"] > pushes / 50
    assert store.get(history_key(1)) is not None
