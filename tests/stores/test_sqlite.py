"""Particulars of the SQLite store: files, permissions, damage, disk space, locks."""

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

from conformance.store_helpers import finish, python
from ratectl.errors import StoreError, StoreMisconfigured, StoreUnavailable, UsageError
from ratectl.stores import open_store
from ratectl.stores.base import Put
from ratectl.stores.sqlite import SqliteStore, doctor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    with SqliteStore(path) as opened:
        yield opened


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """Return a folder that every user may enter; the test runs as an ordinary user."""
    # Not tmp_path: pytest does not let other users enter it.
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
def test_url_without_a_file_is_refused_with_the_right_forms(url: str) -> None:
    with pytest.raises(UsageError, match=r"write sqlite:///"):
        open_store(url)


@pytest.mark.parametrize("url", ["sqlite:///a\0b", " sqlite:///a.db", "sqlite:///a.db\n"])
def test_url_with_blanks_around_it_or_control_characters_is_refused(url: str) -> None:
    """Such characters come from a file or a shell, and would be part of the file's name."""
    with pytest.raises(UsageError, match="take them out"):
        open_store(url)


def test_relative_and_absolute_urls_name_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    with open_store("sqlite:///sub/a b%20#.db") as relative:
        monkeypatch.chdir("/")
        relative.put("a", b"1")
    assert (tmp_path / "sub" / "a b%20#.db").is_file()
    with open_store(f"sqlite:///{tmp_path}/sub/a b%20#.db") as absolute:
        assert absolute.get("a") is not None
        assert absolute.url == relative.url == f"sqlite:///{tmp_path}/sub/a b%20#.db"


def test_opening_a_store_creates_no_file(path: Path) -> None:
    with SqliteStore(path):
        pass
    assert not path.exists()


def test_a_missing_folder_is_an_error_and_is_not_created(tmp_path: Path) -> None:
    path = tmp_path / "misspelt" / "store.db"
    calls: list[Callable[[SqliteStore], object]] = [
        lambda store: store.get("a"),
        lambda store: store.list(""),
        SqliteStore.status,
        lambda store: store.put("a", b"1"),
    ]
    for call in calls:
        with (
            SqliteStore(path) as store,
            pytest.raises(StoreUnavailable, match=f"the folder {path.parent} does not exist"),
        ):
            call(store)
    assert list(tmp_path.iterdir()) == []
    with SqliteStore(path) as store:
        path.parent.mkdir()
        store.put("a", b"1")  # a process that waits for the folder goes on


def test_only_the_owner_may_use_new_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir(mode=0o755)
    path = tmp_path / "there" / "new" / "newer" / "store.db"
    old = os.umask(0)
    try:
        with SqliteStore(path, makes_folder=True) as store:
            store.put("a", b"1")
            assert [mode(Path(f"{path}{end}")) for end in ("", "-wal", "-shm")] == [0o600] * 3
    finally:
        os.umask(old)
    assert mode(path.parent) == mode(path.parent.parent) == 0o700
    assert mode(tmp_path / "there") == 0o755
    assert list(path.parent.iterdir()) == [path], "closing leaves one file"


def test_settings_of_the_database_are_durable(store: SqliteStore) -> None:
    store.put("a", b"")
    for channel in (store._writes, store._reads):
        with channel.use() as db:
            assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
            assert db.execute("PRAGMA synchronous").fetchone() == (2,)
            assert db.execute("PRAGMA wal_autocheckpoint").fetchone() == (0,)


def test_empty_file_becomes_a_store(path: Path) -> None:
    path.touch()
    with SqliteStore(path) as store:
        store.put("a", b"1")


def refused(path: Path) -> str:
    """Return the error message of a store whose reads, writes and status all fail."""
    with SqliteStore(path, timeout=1.0) as store:
        for call in (lambda: store.put("a", b""), store.status, lambda: store.get("a")):
            with pytest.raises(StoreMisconfigured) as raised:
                call()
    assert str(path) in str(raised.value)
    return str(raised.value)


def test_database_of_another_program_is_refused_and_not_changed(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE users (name)")
    db.close()
    before = path.read_bytes()
    assert "another program" in refused(path)
    assert path.read_bytes() == before


def test_newer_schema_is_refused_with_advice_to_upgrade(path: Path) -> None:
    with SqliteStore(path) as store:
        store.put("a", b"1")
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 2")
    db.close()
    assert "upgrade ratectl" in refused(path)


def test_file_that_is_no_database_is_refused(path: Path) -> None:
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


def test_damaged_file_is_reported_with_advice_to_restore(path: Path) -> None:
    with SqliteStore(path) as store:
        store.txn((), [Put(f"k{n}", b"x" * 5000) for n in range(100)])
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    path.write_bytes(content)
    message = refused(path)
    assert "damaged" in message
    assert "restore" in message


def test_missing_permissions_are_reported(unprivileged: Path) -> None:
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
            SqliteStore(unprivileged / "new" / "store.db", makes_folder=True) as store,
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


def test_full_disk_is_reported_and_loses_nothing(store: SqliteStore) -> None:
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


def test_lock_of_a_stuck_writer_stops_writes_and_not_reads(store: SqliteStore, path: Path) -> None:
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


def test_busy_connection_is_unavailable_within_the_timeout(path: Path) -> None:
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
def test_versions_with_the_wal_reset_bug_are_known(
    version: tuple[int, ...], affected: bool
) -> None:
    assert doctor.has_wal_reset_bug(version) is affected


def test_status_reports_network_file_systems_large_logs_and_open_permissions(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("a", b"1")
    assert store.status().problems == ()
    path.chmod(0o666)
    monkeypatch.setattr(doctor, "WAL_TOO_LARGE", 10)
    monkeypatch.setattr(doctor, "_file_system", lambda device: "nfs4")
    network, wal, writable = store.status().problems
    assert "network" in network
    assert "-wal" in wal
    assert "chmod" in writable


def test_old_sqlite_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sqlite3.sqlite_version_info", (3, 8, 0))
    with SqliteStore(path) as store, pytest.raises(StoreMisconfigured, match="too old"):
        store.put("a", b"1")


def test_reading_an_absent_file_creates_nothing(tmp_path: Path) -> None:
    path = tmp_path / "no" / "such" / "store.db"
    with SqliteStore(path, makes_folder=True) as store:
        assert store.get("a") is None
        empty = store.list("")
        assert (empty.items, empty.revision) == ((), 1)
        status = store.status()
        assert (status.absent, status.revision, status.problems) == (True, 1, ())
        assert list(tmp_path.iterdir()) == []
        with SqliteStore(path, makes_folder=True) as other:
            other.put("a", b"1")
        item = store.get("a")
        assert item is not None
        assert item.value == b"1"
        assert not store.status().absent


def test_many_processes_create_one_store(path: Path) -> None:
    url = f"sqlite:///{path}"
    code = "store.put('a', b''); print(store.status().detail['identity'])"
    processes = [python(code, url) for _ in range(6)]
    assert len({finish(process) for process in processes}) == 1


def test_many_threads_may_create_one_store_at_once(tmp_path: Path) -> None:
    """A schema that another thread is still creating does not look like a foreign database."""
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
