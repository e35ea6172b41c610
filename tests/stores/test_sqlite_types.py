"""Values of wrong types, which SQLite allows in any column, can be read and replaced."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from conformance.store_helpers import Follower
from ratectl.errors import StoreError
from ratectl.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OTHERS = [5, 3.5, "text", "", 2**62]
HALF_PAIR = "CAST(x'74eda0bf' AS TEXT)"
"""Text that is not valid UTF-8: Python's sqlite3 module fails to read it."""


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    with SqliteStore(path) as opened:
        opened.put("p/a", b"1")
        opened.put("p/b", b"2")
        yield opened


def change(path: Path, sql: str, *values: Any) -> None:
    """Change the file with SQL, as another program could."""
    with closing(sqlite3.connect(path)) as db, db:
        assert db.execute(sql, values).rowcount, "something is changed"


def forge(path: Path, key: str, value: str, *values: Any) -> None:
    where = "id = (SELECT id FROM current WHERE key = ?)"
    change(path, f"UPDATE log SET value = {value} WHERE {where}", *values, key.encode())


@pytest.mark.parametrize("value", [*OTHERS, None])
def test_value_of_another_type_reads_as_empty_and_can_be_replaced(
    store: SqliteStore, path: Path, value: Any
) -> None:
    forge(path, "p/a", "?", value)
    found = store.get("p/a")
    assert found is not None
    assert found.value == b""
    assert [each.value for each in store.list("p/").items] == [b"", b"2"]
    store.put("p/a", b"3")
    assert [each.value for each in store.list("p/").items] == [b"3", b"2"]


def test_text_that_is_not_utf8_reads_as_empty_and_can_be_deleted(
    store: SqliteStore, path: Path
) -> None:
    forge(path, "p/a", HALF_PAIR)
    assert [each.value for each in store.list("p/").items] == [b"", b"2"]
    store.delete("p/a")
    assert [each.value for each in store.list("p/").items] == [b"2"]


@pytest.mark.parametrize("value", OTHERS)
def test_watch_continues_past_a_value_of_another_type(
    store: SqliteStore, path: Path, value: Any
) -> None:
    forge(path, "p/a", "?", value)
    with store.watch("p/", 2) as watch:
        follower = Follower(watch)
        follower.until_key("p/b", b"2")
        assert follower.state["p/a"].value == b""
        store.put("p/a", b"3")
        follower.until_key("p/a", b"3")


@pytest.mark.parametrize("key", ["5", "'p/c'", "x'702fff'", HALF_PAIR])
def test_key_of_another_type_hides_no_other_key(store: SqliteStore, path: Path, key: str) -> None:
    """Such a key is not listed; invalid bytes of a key are shown as replacement characters."""
    for table in ("log", "current"):
        change(path, f"UPDATE {table} SET key = {key} WHERE key = ?", b"p/a")
    found = store.list("p/").items
    assert (found[-1].key, found[-1].value) in (("p/b", b"2"), ("p/\ufffd", b"1"))
    store.put("p/a", b"3")
    assert store.list("p/").items[0].value == b"3"


@pytest.mark.parametrize("column", ["size", "id"])
@pytest.mark.parametrize("value", [*OTHERS, -5])
def test_key_with_a_damaged_row_can_be_written_again(
    store: SqliteStore, path: Path, column: str, value: Any
) -> None:
    change(path, f"UPDATE current SET {column} = ? WHERE key = ?", value, b"p/a")
    store.put("p/a", b"3")
    found = store.get("p/a")
    assert found is not None
    assert found.value == b"3"


def test_lease_with_a_damaged_time_blocks_no_write_or_watch(store: SqliteStore, path: Path) -> None:
    change(path, "INSERT INTO leases VALUES (7, 'x', 'later')")
    change(path, f"INSERT INTO leases VALUES (8, 1.0, {HALF_PAIR})")
    change(path, "INSERT INTO leases VALUES (9, 1.0, 1.0)")
    change(path, f"INSERT INTO current VALUES ({HALF_PAIR}, 1, 1, 9)")
    store.put("p/a", b"3")
    with store.watch("p/", 2) as watch:
        Follower(watch).until_key("p/a", b"3")


@pytest.mark.parametrize("column", ["identity", "revision", "compacted", "replaced_bytes"])
@pytest.mark.parametrize("value", ["x'00'", "3.5", "-1", "9223372036854775807"])
def test_damaged_meta_table_is_an_error_that_names_the_file(
    store: SqliteStore, path: Path, column: str, value: str
) -> None:
    change(path, f"UPDATE meta SET {column} = {value}")
    if column == "identity" and value != "x'00'":
        store.put("p/a", b"3")  # any text identifies a store
        return
    for use in (lambda: store.put("p/a", b"3"), lambda: store.list("p/")):
        with pytest.raises(StoreError, match=r"store\.db is damaged \(table meta"):
            use()
