"""Publishing when the store is lost half-way, or when clocks of machines disagree."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from ratectl.errors import Conflict, StoreUnavailable
from ratectl.history import blobs
from ratectl.history.blobs import collect_garbage
from ratectl.history.generations import read_history, read_live
from ratectl.policy.bundle import digest, encode_policies
from ratectl.publishing._publish import publish
from ratectl.records import HEAD, MANIFESTS
from ratectl.rollout import Terms, read_rollout
from ratectl.rollout._start import start
from support import ME, publish_policies, simple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ratectl.stores.base import Compare, Op, Store, TxnResult


class Interrupted:
    """Store that calls a function just before each write of the head."""

    def __init__(self, store: Store, before: Callable[[], object]) -> None:
        self._store = store
        self._before = before

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def txn(self, compare: Sequence[Compare], ops: Sequence[Op]) -> TxnResult:
        if any(op.key == HEAD for op in ops):
            self._before()
        return self._store.txn(compare, ops)


def unavailable() -> None:
    raise StoreUnavailable("etcd.example:2379", "connection refused")


def stored(store: Store) -> set[str]:
    return {item.key.removeprefix(MANIFESTS) for item in store.list(MANIFESTS).items}


@pytest.mark.parametrize("step", ["publish", "canary"])
def test_store_lost_between_upload_and_head_swap_publishes_nothing(store: Store, step: str):
    publish_policies(store, simple("1/s"))
    before = read_live(store)
    broken: Store = Interrupted(store, unavailable)  # type: ignore[assignment]
    steps: dict[str, Callable[[], object]] = {
        "publish": lambda: publish(broken, simple("2/s"), ME),
        "canary": lambda: start(broken, simple("2/s"), ME, Terms.of([5.0])),
    }
    with pytest.raises(StoreUnavailable):
        steps[step]()
    assert read_live(store) == before
    assert [entry.generation for entry in read_history(store)] == [1]
    orphan = digest(encode_policies(simple("2/s")))
    assert orphan in stored(store)
    assert collect_garbage(store) == 0, "another publisher may need it soon"
    assert collect_garbage(store, age=timedelta(0)) == 1
    assert orphan not in stored(store)
    assert publish_policies(store, simple("2/s")).generation == 2


def test_bundle_of_a_candidate_is_not_collected(store: Store):
    publish_policies(store, simple("1/s"))
    entry = start(store, simple("2/s"), ME, Terms.of([5.0]))
    assert entry is not None
    assert collect_garbage(store, age=timedelta(0)) == 0
    assert entry.bundle in stored(store)
    assert read_rollout(store).record.state == "running"


def test_bundle_collected_before_the_head_swap_is_not_published(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    """The publisher's clock is years behind, so its bundle looks old at once."""
    publish_policies(store, simple("1/s"))
    monkeypatch.setattr(blobs, "utc_now", lambda: "2020-01-01T00:00:00.000Z")
    collected: list[int] = []
    slow: Store = Interrupted(store, lambda: collected.append(collect_garbage(store)))  # type: ignore[assignment]
    with pytest.raises(Conflict, match="some machine's clock is wrong"):
        publish(slow, simple("2/s"), ME)
    assert collected[0] == 1
    assert read_live(store).generation == 1
    assert publish_policies(store, simple("2/s")).generation == 2, "the bundle is uploaded again"
