"""Keys, values, revisions and transactions: behaviour of every store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from conformance.store_helpers import compact
from ratectl.errors import RatectlError, UsageError
from ratectl.stores import open_store
from ratectl.stores.base import (
    MAX_OPS,
    MAX_VALUE_BYTES,
    Compare,
    Delete,
    Item,
    Put,
    Snapshot,
    TxnResult,
)

if TYPE_CHECKING:
    from ratectl.stores.base import Store

ODD_KEYS = [
    "a",
    "a/",
    "a/b",
    "a//b",
    "a0",
    "A",
    " ",
    "%",
    "_",
    "*?[",
    "x'y\"z;--",
    "nul\0inside",
    "line\nbreak",
    "ÿ",
    "ÿÿ",
    "żółć",
    "日本",
    "😀",
    "\ufffd",
    "\U0010ffff",
    "\U0010ffff\U0010ffff",
    "e\u0301",
    "é",
    "k" * 1000,
]


def keys(snapshot: Snapshot) -> list[str]:
    return [item.key for item in snapshot.items]


# -- get and put -----------------------------------------------------------------------------------


def test_empty_store_has_a_revision_and_no_keys(store: Store) -> None:
    assert store.get("head") is None
    assert store.list("").items == ()
    assert store.list("").revision >= 1


def test_put_and_delete_return_growing_revisions(store: Store) -> None:
    first = store.put("head", b"1")
    assert store.get("head") == Item("head", b"1", first)
    second = store.put("head", b"2")
    assert second > first
    assert store.get("head") == Item("head", b"2", second)
    third = store.delete("head")
    assert third > second
    assert store.get("head") is None


def test_writing_the_same_value_is_a_new_revision(store: Store) -> None:
    first = store.put("a", b"1")
    assert store.put("a", b"1") > first


@pytest.mark.parametrize(
    "value",
    [b"", b"\0", b"\xff\xfe\x00", bytes(range(256)), b"x" * MAX_VALUE_BYTES],
    ids=["empty", "nul", "not-utf8", "all-bytes", "largest"],
)
def test_values_may_be_any_bytes(store: Store, value: bytes) -> None:
    revision = store.put("v", value)
    assert store.get("v") == Item("v", value, revision)
    assert store.list("v").items == (Item("v", value, revision),)


def test_write_of_one_connection_is_read_by_another(store: Store, store_url: str) -> None:
    revision = store.put("a", b"1")
    with open_store(store_url) as other:
        assert other.get("a") == Item("a", b"1", revision)


def test_unusable_keys_are_refused(store: Store) -> None:
    for key in ("", "lone\ud800surrogate"):
        with pytest.raises(UsageError):
            store.put(key, b"")
        with pytest.raises(UsageError):
            store.get(key)


# -- list ------------------------------------------------------------------------------------------


def test_unusual_keys_are_distinct_and_sorted(store: Store) -> None:
    store.txn((), [Put(key, key.encode()) for key in ODD_KEYS])
    snapshot = store.list("")
    assert keys(snapshot) == sorted(ODD_KEYS)
    assert all(item.value == item.key.encode() for item in snapshot.items)
    for key in ODD_KEYS:
        item = store.get(key)
        assert item is not None
        assert item.value == key.encode()


@pytest.mark.parametrize("prefix", [*ODD_KEYS[:20], "", "nul\0", "zzz", "a/b/c"])
def test_list_returns_keys_that_start_with_the_prefix(store: Store, prefix: str) -> None:
    store.txn((), [Put(key, b"") for key in ODD_KEYS])
    assert keys(store.list(prefix)) == sorted(k for k in ODD_KEYS if k.startswith(prefix))


def test_large_list_is_of_one_revision(store: Store) -> None:
    names = [f"n/{n:05}" for n in range(3000)]
    for start in range(0, len(names), 100):
        store.txn((), [Put(name, name.encode() * 20) for name in names[start : start + 100]])
    old = store.list("n/")
    store.delete("n/00000")
    assert keys(old) == names
    assert keys(store.list("n/")) == names[1:]


# -- compaction ------------------------------------------------------------------------------------


def test_compaction_keeps_current_keys(store: Store) -> None:
    store.put("a", b"1")
    store.put("b", b"1")
    third = store.put("a", b"2")
    store.delete("b")
    last = store.put("c", b"3")
    compact(store, third)
    assert keys(store.list("")) == ["a", "c"]
    assert store.get("a") == Item("a", b"2", third)
    assert store.status().compacted == third
    compact(store, last)
    assert keys(store.list("")) == ["a", "c"]
    assert store.status().compacted == last


def test_key_can_be_written_again_after_delete_and_compaction(store: Store) -> None:
    store.put("a", b"1")
    deleted = store.delete("a")
    compact(store, deleted)
    revision = store.put("a", b"2")
    later = store.put("b", b"")
    compact(store, later)
    assert store.get("a") == Item("a", b"2", revision)


# -- transactions ----------------------------------------------------------------------------------


def test_all_keys_of_a_transaction_share_one_revision(store: Store) -> None:
    store.put("c", b"old")
    result = store.txn((), [Put("a", b"1"), Put("b", b"2"), Delete("c")])
    assert result.ok
    assert store.list("").items == (
        Item("a", b"1", result.revision),
        Item("b", b"2", result.revision),
    )


def test_compare_holds_only_for_the_last_revision_of_the_key(store: Store) -> None:
    first = store.txn([Compare("head", 0)], [Put("head", b"1")])
    assert first.ok
    absent = store.txn([Compare("head", 0)], [Put("head", b"x")])
    assert absent == TxnResult(False, first.revision) or (
        not absent.ok and absent.revision >= first.revision
    )
    second = store.txn([Compare("head", first.revision)], [Put("head", b"2")])
    assert second.ok
    assert not store.txn([Compare("head", first.revision)], [Put("head", b"x")]).ok
    item = store.get("head")
    assert item == Item("head", b"2", second.revision)
    gone = store.delete("head")
    assert not store.txn([Compare("head", gone)], [Put("head", b"x")]).ok
    assert store.txn([Compare("head", 0)], [Put("head", b"3")]).ok


def test_every_compare_must_hold(store: Store) -> None:
    a = store.put("a", b"")
    b = store.put("b", b"")
    assert not store.txn([Compare("a", a), Compare("b", a)], [Put("r", b"x")]).ok
    assert not store.txn([Compare("a", a), Compare("b", b), Compare("c", 1)], [Put("r", b"x")]).ok
    assert store.get("r") is None
    assert store.txn([Compare("a", a), Compare("b", b), Compare("c", 0)], [Put("r", b"1")]).ok
    assert store.get("r") is not None


def test_transaction_without_effect_makes_no_revision(store: Store) -> None:
    revision = store.put("a", b"")
    assert store.txn((), ()) == TxnResult(True, revision)
    assert store.txn([Compare("a", 0)], [Put("x", b"")]) == TxnResult(False, revision)
    assert store.txn([Compare("a", revision)], ()) == TxnResult(True, revision)
    assert store.delete("absent") == revision
    assert store.txn((), [Delete("absent"), Delete("absent2")]) == TxnResult(True, revision)
    assert store.list("").revision == revision


def test_delete_of_an_absent_key_does_not_stop_a_write(store: Store) -> None:
    result = store.txn((), [Delete("absent"), Put("a", b"1")])
    assert result.ok
    assert store.list("").items == (Item("a", b"1", result.revision),)


def test_transaction_with_the_largest_number_of_operations(store: Store) -> None:
    result = store.txn(
        [Compare(f"c{n}", 0) for n in range(MAX_OPS)],
        [Put(f"k{n}", b"") for n in range(MAX_OPS)],
    )
    assert result.ok
    assert {item.mod_revision for item in store.list("k").items} == {result.revision}


def test_transaction_beyond_a_limit_is_refused(store: Store) -> None:
    refused: list[list[Put | Delete]] = [
        [Put(f"k{n}", b"") for n in range(MAX_OPS + 1)],
        [Put("k", b"x" * (MAX_VALUE_BYTES + 1))],
        [Put(f"k{n}", b"x" * (MAX_VALUE_BYTES // 2)) for n in range(3)],
        [Put("k", b"1"), Put("k", b"2")],
        [Put("k", b"1"), Delete("k")],
    ]
    before = store.list("").revision
    for ops in refused:
        with pytest.raises(UsageError):
            store.txn((), ops)
    with pytest.raises(UsageError):
        store.txn([Compare(f"k{n}", 0) for n in range(MAX_OPS + 1)], [])
    assert store.list("").revision == before


# -- status and close ------------------------------------------------------------------------------


def test_status_names_backend_version_and_size(store: Store, store_url: str) -> None:
    revision = store.put("a", b"1")
    status = store.status()
    assert status.backend == store_url.partition(":")[0]
    assert status.version
    assert status.revision >= revision
    assert status.size_bytes > 0
    assert status.problems == () or all(p.endswith(".") for p in status.problems)


def test_calls_of_a_closed_store_fail(store: Store) -> None:
    store.put("a", b"1")
    store.close()
    store.close()
    for call in (
        lambda: store.get("a"),
        lambda: store.list(""),
        lambda: store.put("a", b""),
        lambda: store.lease(5),
        lambda: store.watch("", 1),
        store.status,
    ):
        with pytest.raises(RatectlError, match="closed"):
            call()
