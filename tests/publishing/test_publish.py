"""Publishing: atomic, exactly once, and an unknown outcome is reported as unknown."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from flaky import Flaky
from ratectl.errors import Conflict, NotFound, OutcomeUnknown
from ratectl.history import blobs as blobs_of
from ratectl.history.blobs import collect_garbage
from ratectl.history.generations import read_entry, read_history, read_live, read_tree
from ratectl.policy.bundle import digest, encode_policies
from ratectl.policy.language.model import PolicyTree, SourceMap
from ratectl.publishing import _publish as publishing
from ratectl.publishing import head
from ratectl.publishing._publish import publish, rollback
from ratectl.records import BUNDLES, HEAD, MANIFESTS, Head, Manifest, history_key
from ratectl.signing.continuation import read_environment
from ratectl.stores.base import Put
from support import ME, publish_policies, simple

if TYPE_CHECKING:
    from ratectl.stores.base import Store


def blobs(store: Store) -> set[str]:
    return {item.key.removeprefix(MANIFESTS) for item in store.list(MANIFESTS).items}


def test_generations_count_from_one_and_are_all_recorded(store: Store):
    for n in range(1, 4):
        entry = publish_policies(store, simple(f"{n}/s"))
        assert entry.generation == n
    live = read_live(store)
    assert (live.generation, live.head and live.head.sequence) == (3, 3)
    assert [entry.generation for entry in read_history(store)] == [3, 2, 1]
    entry = read_entry(store, 2)
    assert (entry.author, entry.message, entry.action) == (ME.author, ME.message, "apply")
    assert encode_policies(read_tree(store, entry)) == encode_policies(simple("2/s"))


def test_an_unchanged_tree_makes_no_generation(store: Store):
    tree = simple()
    publish_policies(store, tree)
    assert publish(store, tree, ME) is None
    moved = PolicyTree(tree.policies, {"/": SourceMap("other.yaml", {"": (9, 9, 9)})})
    assert publish(store, moved, ME) is None, "the place of a value is not part of the policies"
    assert read_live(store).generation == 1


def test_places_of_values_are_stored_with_the_policies(store: Store):
    sources = {"/": SourceMap("global.yaml", {"limits.spike.rate": (4, 20, 23)})}
    publish_policies(store, PolicyTree(simple().policies, sources))
    tree = read_tree(store, read_entry(store, 1))
    assert str(tree.span("/", "limits.spike.rate")) == "global.yaml:4:20"


def test_identity_of_an_environment_never_changes(store: Store):
    assert read_environment(store) is None
    publish_policies(store, simple("1/s"))
    first = read_environment(store)
    publish_policies(store, simple("2/s"))
    assert first is not None
    assert read_environment(store) == first


def test_stale_base_is_a_conflict_that_names_the_newer_generation(store: Store):
    base = read_live(store)
    publish_policies(store, simple("1/s"))
    with pytest.raises(Conflict, match=r"generation 1 \(apply by tester .*an empty store"):
        publish(store, simple("2/s"), ME, base=base)
    assert read_live(store).generation == 1


def test_rollback_is_a_new_generation_of_old_content(store: Store):
    for n in range(1, 4):
        publish_policies(store, simple(f"{n}/s"))
    entry = rollback(store, 1, ME)
    assert entry is not None
    assert (entry.generation, entry.action, entry.rollback_of) == (4, "rollback", 1)
    assert entry.bundle == read_entry(store, 1).bundle
    assert rollback(store, 1, ME) is None, "that content is live"
    assert [e.generation for e in read_history(store)] == [4, 3, 2, 1]


def test_rollback_to_an_absent_generation_is_an_error(store: Store):
    with pytest.raises(NotFound, match="nothing is published"):
        rollback(store, 1, ME)
    publish_policies(store, simple())
    with pytest.raises(NotFound, match="there is no generation 9: the live one is 1"):
        rollback(store, 9, ME)
    with pytest.raises(NotFound, match="no generation 0"):
        rollback(store, 0, ME)


def test_old_history_is_dropped_and_its_bundles_are_collected(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(publishing, "KEPT", 3)
    for n in range(1, 7):
        publish_policies(store, simple(f"{n}/s"))
    assert [entry.generation for entry in read_history(store)] == [6, 5, 4]
    with pytest.raises(NotFound, match="older than the history"):
        read_entry(store, 2)
    assert collect_garbage(store) == 0, "they are younger than an hour"
    assert collect_garbage(store, age=timedelta(0)) == 3
    kept = {entry.bundle for entry in read_history(store)}
    assert blobs(store) == kept
    assert {item.key.split("/")[1] for item in store.list(BUNDLES).items} == kept


def test_unused_bundle_is_collected_and_the_live_one_is_kept(store: Store):
    publish_policies(store, simple("1/s"))
    stray = encode_policies(simple("7/s"))
    old = (datetime.now(UTC) - timedelta(hours=2)).isoformat()
    manifest = Manifest(size=len(stray), chunks=1, wanted=old)
    store.txn(
        (),
        [
            Put(f"{BUNDLES}{digest(stray)}/00000", stray),
            Put(MANIFESTS + digest(stray), manifest.encode()),
        ],
    )
    assert collect_garbage(store) == 1
    assert read_tree(store, read_entry(store, 1)).policies
    assert digest(stray) not in blobs(store)


def test_bundle_that_is_being_published_is_not_collected(store: Store):
    """The collector reads the manifest before the publisher renews it."""
    data = encode_policies(simple("7/s"))
    blobs_of.write_blob(store, data)
    stale = store.get(MANIFESTS + digest(data))
    assert stale is not None
    blobs_of.want_blob(store, digest(data))
    assert not blobs_of.delete_blob(store, stale, digest(data))
    assert store.get(MANIFESTS + digest(data)) is not None


def test_publishing_succeeds_though_another_publisher_renews_the_manifest(store: Store):
    tree = simple("7/s")
    data = encode_policies(tree)
    original = publishing.write_blob

    def renewed_meanwhile(target: Store, blob: bytes) -> object:
        item = original(target, blob)
        blobs_of.want_blob(target, digest(blob))
        return item

    publishing.write_blob = renewed_meanwhile  # type: ignore[assignment]
    try:
        assert publish_policies(store, tree).bundle == digest(data)
    finally:
        publishing.write_blob = original


def test_applied_write_with_a_lost_reply_is_found_by_reading(store: Store):
    flaky = Flaky(store, applied=True)
    entry = publish(flaky, simple(), ME)  # type: ignore[arg-type]
    assert entry is not None
    assert flaky.lost == 1
    assert [e.request for e in read_history(store)] == [entry.request]


def test_lost_write_after_which_another_publisher_wins_is_a_conflict(store: Store):
    flaky = Flaky(store, applied=False)
    flaky.between.append(lambda: publish_policies(store, simple("9/s")))
    with pytest.raises(Conflict, match="generation 1"):
        publish(flaky, simple("1/s"), ME)  # type: ignore[arg-type]
    assert len(read_history(store)) == 1


def test_lost_write_that_reading_cannot_settle_is_reported_as_unknown(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(head, "_READ_BACK_SECONDS", 0.2)
    flaky = Flaky(store, applied=False)
    with pytest.raises(OutcomeUnknown, match="Applying again is safe"):
        publish(flaky, simple("1/s"), ME)  # type: ignore[arg-type]
    assert read_live(store).generation == 0
    assert publish_policies(store, simple("1/s")).generation == 1


def test_write_applied_late_cannot_undo_a_later_one(store: Store):
    """A timed-out transaction may be applied later, but then its comparison fails."""
    live = read_live(store)
    head = Head(sequence=1, generation=1, bundle="0" * 64)
    publish_policies(store, simple("1/s"))
    late = store.txn([publishing.Compare(HEAD, live.mod_revision)], [Put(HEAD, head.encode())])
    assert not late.ok
    assert read_live(store).generation == 1


def test_history_keys_sort_as_numbers():
    keys = [history_key(n) for n in (1, 9, 10, 99, 1_000, 10_000_000)]
    assert keys == sorted(keys)
