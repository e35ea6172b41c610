"""SQLite keeps values of any type in any column: what is no bytes can be replaced."""

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
"""Text that is no UTF-8: reading it is an error of Python's module."""


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    with SqliteStore(path) as opened:
        opened.put("p/a", b"1")
        opened.put("p/b", b"2")
        yield opened


def change(path: Path, sql: str, *values: Any) -> None:
    """Write the file as another program would."""
    with closing(sqlite3.connect(path)) as db, db:
        assert db.execute(sql, values).rowcount, "something is changed"


def forge(path: Path, key: str, value: str, *values: Any) -> None:
    where = "id = (SELECT id FROM current WHERE key = ?)"
    change(path, f"UPDATE log SET value = {value} WHERE {where}", *values, key.encode())


@pytest.mark.parametrize("value", [*OTHERS, None])
def test_a_value_of_another_type_is_no_bytes_and_can_be_replaced(
    store: SqliteStore, path: Path, value: Any
) -> None:
    forge(path, "p/a", "?", value)
    found = store.get("p/a")
    assert found is not None
    assert found.value == b""
    assert [each.value for each in store.list("p/").items] == [b"", b"2"]
    store.put("p/a", b"3")
    assert [each.value for each in store.list("p/").items] == [b"3", b"2"]


def test_text_that_is_no_utf8_is_no_bytes(store: SqliteStore, path: Path) -> None:
    forge(path, "p/a", HALF_PAIR)
    assert [each.value for each in store.list("p/").items] == [b"", b"2"]
    store.delete("p/a")
    assert [each.value for each in store.list("p/").items] == [b"2"]


@pytest.mark.parametrize("value", OTHERS)
def test_a_watch_goes_on(store: SqliteStore, path: Path, value: Any) -> None:
    forge(path, "p/a", "?", value)
    with store.watch("p/", 2) as watch:
        follower = Follower(watch)
        follower.until_key("p/b", b"2")
        assert follower.state["p/a"].value == b""
        store.put("p/a", b"3")
        follower.until_key("p/a", b"3")


@pytest.mark.parametrize("key", ["5", "'p/c'", "x'702fff'", HALF_PAIR])
def test_a_key_that_is_no_text_hides_no_other(store: SqliteStore, path: Path, key: str) -> None:
    """A key of another type is found by nobody; one of other bytes is shown as it can be."""
    for table in ("log", "current"):
        change(path, f"UPDATE {table} SET key = {key} WHERE key = ?", b"p/a")
    found = store.list("p/").items
    assert (found[-1].key, found[-1].value) in (("p/b", b"2"), ("p/\ufffd", b"1"))
    store.put("p/a", b"3")
    assert store.list("p/").items[0].value == b"3"


@pytest.mark.parametrize("column", ["size", "id"])
@pytest.mark.parametrize("value", [*OTHERS, -5])
def test_a_key_whose_place_is_damaged_can_be_written_again(
    store: SqliteStore, path: Path, column: str, value: Any
) -> None:
    change(path, f"UPDATE current SET {column} = ? WHERE key = ?", value, b"p/a")
    store.put("p/a", b"3")
    found = store.get("p/a")
    assert found is not None
    assert found.value == b"3"


def test_a_lease_without_a_time_stops_nobody(store: SqliteStore, path: Path) -> None:
    change(path, "INSERT INTO leases VALUES (7, 'x', 'later')")
    change(path, f"INSERT INTO leases VALUES (8, 1.0, {HALF_PAIR})")
    change(path, "INSERT INTO leases VALUES (9, 1.0, 1.0)")
    change(path, f"INSERT INTO current VALUES ({HALF_PAIR}, 1, 1, 9)")
    store.put("p/a", b"3")
    with store.watch("p/", 2) as watch:
        Follower(watch).until_key("p/a", b"3")


@pytest.mark.parametrize("column", ["identity", "revision", "compacted", "replaced_bytes"])
@pytest.mark.parametrize("value", ["x'00'", "3.5", "-1", "9223372036854775807"])
def test_a_damaged_state_of_the_store_is_an_error_that_names_the_file(
    store: SqliteStore, path: Path, column: str, value: str
) -> None:
    change(path, f"UPDATE meta SET {column} = {value}")
    if column == "identity" and value != "x'00'":
        store.put("p/a", b"3")  # any text identifies a store
        return
    for use in (lambda: store.put("p/a", b"3"), lambda: store.list("p/")):
        with pytest.raises(StoreError, match=r"store\.db is damaged \(table meta"):
            use()
