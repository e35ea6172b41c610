"""What only the SQLite store does: files, permissions, damage, disk space, locks, leases."""

from __future__ import annotations

import os
import sqlite3
import stat
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conformance.store_helpers import Follower, finish, python
from ratectl.errors import StoreError, StoreMisconfigured, StoreUnavailable, UsageError
from ratectl.stores import open_store
from ratectl.stores.base import Put
from ratectl.stores.sqlite import SqliteStore, doctor, log

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    with SqliteStore(path) as opened:
        yield opened


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder that everybody may enter; the test runs as a user whom permissions bind."""
    # Not tmp_path: pytest keeps other users out of that.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        if os.geteuid() != 0:
            yield folder
            return
        os.seteuid(65534)
        try:
            yield folder
        finally:
            os.seteuid(0)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# -- URLs and files --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite://host/path.db",
        "sqlite://path.db",
        "sqlite:///folder/",
        "sqlite:///a.db?mode=ro",
        "sqlite:///~/a.db",
        "sqlite:///root:x@host/a.db",
    ],
)
def test_urls_that_name_no_file_say_what_to_write(url: str) -> None:
    with pytest.raises(UsageError, match=r"write sqlite:///relative/path\.db or sqlite:////abs"):
        open_store(url)


@pytest.mark.parametrize("url", ["sqlite:///a\0b", " sqlite:///a.db", "sqlite:///a.db\n"])
def test_a_url_with_blanks_around_it_or_control_characters_is_refused(url: str) -> None:
    """They come from a file or a shell, and would become a part of the file's name."""
    with pytest.raises(UsageError, match="take them out"):
        open_store(url)


def test_relative_and_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with open_store("sqlite:///sub/a b%20#.db") as relative:
        monkeypatch.chdir("/")
        relative.put("a", b"1")
    assert (tmp_path / "sub" / "a b%20#.db").is_file()
    with open_store(f"sqlite:///{tmp_path}/sub/a b%20#.db") as absolute:
        assert absolute.get("a") is not None
        assert absolute.url == relative.url == f"sqlite:///{tmp_path}/sub/a b%20#.db"


def test_opening_does_not_connect(path: Path) -> None:
    with SqliteStore(path):
        pass
    assert not path.exists()


def test_permissions_of_what_is_created(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir(mode=0o755)
    path = tmp_path / "there" / "new" / "newer" / "store.db"
    old = os.umask(0)
    try:
        with SqliteStore(path) as store:
            store.put("a", b"1")
            assert [mode(Path(f"{path}{end}")) for end in ("", "-wal", "-shm")] == [0o600] * 3
    finally:
        os.umask(old)
    assert mode(path.parent) == mode(path.parent.parent) == 0o700
    assert mode(tmp_path / "there") == 0o755
    assert list(path.parent.iterdir()) == [path], "closing leaves one file"


def test_durable_settings(store: SqliteStore) -> None:
    store.put("a", b"")
    for channel in (store._writes, store._reads):
        with channel.use() as db:
            assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
            assert db.execute("PRAGMA synchronous").fetchone() == (2,)
            assert db.execute("PRAGMA wal_autocheckpoint").fetchone() == (0,)


def test_an_empty_file_is_taken(path: Path) -> None:
    path.touch()
    with SqliteStore(path) as store:
        store.put("a", b"1")


def refused(path: Path) -> str:
    """Every kind of call refuses; returns the message."""
    with SqliteStore(path, timeout=1.0) as store:
        for call in (lambda: store.put("a", b""), store.status, lambda: store.get("a")):
            with pytest.raises(StoreMisconfigured) as raised:
                call()
    assert str(path) in str(raised.value)
    return str(raised.value)


def test_a_database_of_somebody_else_is_not_touched(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE users (name)")
    db.close()
    before = path.read_bytes()
    assert "another program" in refused(path)
    assert path.read_bytes() == before


def test_a_newer_schema_asks_for_an_upgrade(path: Path) -> None:
    with SqliteStore(path) as store:
        store.put("a", b"1")
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 2")
    db.close()
    assert "upgrade ratectl" in refused(path)


def test_files_that_are_no_database(path: Path) -> None:
    path.write_bytes(b"version: 1\nlimits: []\n" * 100)
    assert "not a SQLite database" in refused(path)
    path.unlink()
    path.mkdir()
    assert "not a file" in refused(path)
    path.rmdir()
    os.mkfifo(path)
    assert "not a file" in refused(path)
    path.unlink()
    (path.parent / "file").touch()
    refused(path.parent / "file" / "store.db")
    path.symlink_to(path)
    refused(path)


def test_damage_is_reported_with_what_to_do(path: Path) -> None:
    with SqliteStore(path) as store:
        store.txn((), [Put(f"k{n}", b"x" * 5000) for n in range(100)])
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    path.write_bytes(content)
    message = refused(path)
    assert "damaged" in message
    assert "restore" in message


def test_read_only_for_this_user(unprivileged: Path) -> None:
    user = os.geteuid()
    os.seteuid(os.getuid())
    path = unprivileged / "store.db"
    with SqliteStore(path) as store:
        store.put("a", b"1")
    path.chmod(0o444)
    unprivileged.chmod(0o555)
    try:
        os.seteuid(user)
        assert "permission" in refused(path)
        with (
            SqliteStore(unprivileged / "new" / "store.db") as store,
            pytest.raises(StoreMisconfigured, match="may write"),
        ):
            store.put("a", b"1")
        os.seteuid(os.getuid())
        path.chmod(0)
        os.seteuid(user)
        assert "permission" in refused(path)
    finally:
        os.seteuid(os.getuid())
        unprivileged.chmod(0o755)


def test_full_disk(store: SqliteStore) -> None:
    store.put("a", b"1")
    with store._writes.use() as db:
        (pages,) = db.execute("PRAGMA page_count").fetchone()
        db.execute(f"PRAGMA max_page_count = {pages + 10}")
    with pytest.raises(StoreUnavailable, match="the disk is full"):
        store.txn((), [Put("a", b"2"), Put("big", b"x" * 500_000)])
    item = store.get("a")
    assert item is not None
    assert item.value == b"1"
    assert store.get("big") is None
    store.put("a", b"2")
    assert store._writes.opened == 2, "the connection that failed is not used again"


# -- locks -----------------------------------------------------------------------------------------


def test_a_stuck_writer(store: SqliteStore, path: Path) -> None:
    store.put("a", b"1")
    lease = store.lease(60)
    store.put("b", b"", lease)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    try:
        with SqliteStore(path, timeout=0.3) as other:
            begin = time.monotonic()
            with pytest.raises(StoreUnavailable, match="locked"):
                other.put("a", b"2")
            assert 0.25 < time.monotonic() - begin < 2
            assert other.get("a") is not None, "readers do not wait"
            with pytest.MonkeyPatch.context() as patch:
                now = time.time()
                patch.setattr(time, "time", lambda: now + 100)
                assert other.get("b") is not None, "reading matters more than expiry"
    finally:
        holder.execute("ROLLBACK")
        holder.close()
    store.put("a", b"3")


def test_a_busy_channel_is_unavailable_in_time(path: Path) -> None:
    with SqliteStore(path, timeout=0.2) as store:
        store.put("a", b"")
        with store._reads.use():
            begin = time.monotonic()
            failures: list[StoreError] = []

            def read() -> None:
                try:
                    store.get("a")
                except StoreError as error:
                    failures.append(error)

            thread = threading.Thread(target=read)
            thread.start()
            thread.join()
            assert time.monotonic() - begin < 1
        assert isinstance(failures[0], StoreUnavailable)


# -- leases ----------------------------------------------------------------------------------------


def test_a_clock_set_forward_ends_leases(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = store.lease(30)
    start = store.txn((), [Put("a", b"", lease), Put("b", b"", lease)]).revision
    with store.watch("", start) as watch:
        follower = Follower(watch)
        follower.until_key("a", b"")
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + 31)
        follower.until(lambda: not follower.state)
    assert store.list("").items == ()
    assert lease.renew() is False
    assert store.status().detail["leases"] == "0"


@pytest.mark.parametrize("call", ["get", "list", "txn", "renew"])
def test_every_call_ends_leases_that_are_due(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    lease, other = store.lease(30), store.lease(300)
    store.put("a", b"", lease)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 31)
    if call == "get":
        assert store.get("a") is None
    elif call == "list":
        assert store.list("").items == ()
    elif call == "txn":
        assert store.put("b", b"") == 4, "the expiry is a revision of its own"
    else:
        assert other.renew()
    assert store.get("a") is None


def test_a_lease_with_very_many_keys(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "_MAX_POSITION", 3)
    lease = store.lease(60)
    last = [store.put(f"k{n}", b"", lease) for n in range(10)][-1]
    lease.revoke()
    with store.watch("", last + 1) as watch:
        follower = Follower(watch)
        follower.until(lambda: sum(len(event.changes) for event in follower.events) == 10)
    assert [len(event.changes) for event in follower.events] == [4, 4, 2]


# -- doctor ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "affected"),
    [
        ((3, 46, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 0), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 53, 0), False),
    ],
)
def test_versions_with_the_wal_reset_bug(version: tuple[int, ...], affected: bool) -> None:
    assert doctor.has_wal_reset_bug(version) is affected


def test_problems(store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put("a", b"1")
    assert store.status().problems == ()
    path.chmod(0o666)
    monkeypatch.setattr(doctor, "WAL_TOO_LARGE", 10)
    monkeypatch.setattr(doctor, "_file_system", lambda device: "nfs4")
    network, wal, writable = store.status().problems
    assert "network" in network
    assert "-wal" in wal
    assert "chmod" in writable


def test_an_old_sqlite_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sqlite3.sqlite_version_info", (3, 8, 0))
    with SqliteStore(path) as store, pytest.raises(StoreMisconfigured, match="too old"):
        store.put("a", b"1")


def test_to_read_what_is_not_there_creates_nothing(tmp_path: Path) -> None:
    path = tmp_path / "no" / "such" / "store.db"
    with SqliteStore(path) as store:
        assert store.get("a") is None
        empty = store.list("")
        assert (empty.items, empty.revision) == ((), 1)
        status = store.status()
        assert (status.absent, status.revision, status.problems) == (True, 1, ())
        assert list(tmp_path.iterdir()) == []
        with SqliteStore(path) as other:
            other.put("a", b"1")
        item = store.get("a")
        assert item is not None
        assert item.value == b"1"
        assert not store.status().absent


def test_many_processes_create_one_file(path: Path) -> None:
    url = f"sqlite:///{path}"
    code = "store.put('a', b''); print(store.status().detail['identity'])"
    processes = [python(code, url) for _ in range(6)]
    assert len({finish(process) for process in processes}) == 1


def test_many_may_create_one_file_at_once(tmp_path: Path) -> None:
    """Seeing half of another's schema is no sign of a foreign database."""
    for attempt in range(10):
        url = f"sqlite:///{tmp_path}/{attempt}.db"
        together = threading.Barrier(12)
        found: list[object] = []

        def create(
            url: str = url, together: threading.Barrier = together, found: list[object] = found
        ) -> None:
            together.wait()
            try:
                with open_store(url) as store:
                    found.append(store.get("a"))
            except StoreError as error:
                found.append(error)

        threads = [threading.Thread(target=create) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [None] * 12
