"""SQLite store whose files are replaced while open, and whose processes die or fork."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from conformance.store_helpers import Follower, compact, finish, python
from ratectl.errors import StoreMisconfigured, StoreUnavailable
from ratectl.stores.base import Interrupted, Progress
from ratectl.stores.sqlite import SqliteStore
from ratectl.stores.sqlite.file import Database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratectl.stores.base import Watch


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    with SqliteStore(path) as opened:
        opened.put("p/a", b"1")
        yield opened


@pytest.fixture
def watch(store: SqliteStore) -> Iterator[Watch]:
    with store.watch("p/", 2) as watch:
        yield watch


def remove(path: Path) -> None:
    for end in ("", "-wal", "-shm"):
        Path(f"{path}{end}").unlink(missing_ok=True)


def write(path: Path, value: bytes, times: int = 1) -> int:
    """Write with other connections, as another process would; return the last revision."""
    with SqliteStore(path) as other:
        return [other.put("p/a", value) for _ in range(times)][-1]


def interruptions(follower: Follower) -> list[Interrupted]:
    return [event for event in follower.seen if isinstance(event, Interrupted)]


# -- a watch and its file --------------------------------------------------------------------------


def test_progress_shows_that_the_watch_is_current(watch: Watch) -> None:
    follower = Follower(watch)
    follower.until(lambda: isinstance(follower.seen[-1:][0:1] and follower.seen[-1], Progress))
    assert follower.seen[-1] == Progress(2)
    assert follower.events[0].revision == 2


def test_replaced_file_is_a_resync(store: SqliteStore, watch: Watch, path: Path) -> None:
    follower = Follower(watch)
    follower.until_key("p/a", b"1")
    spare = path.with_name("spare.db")
    write(spare, b"new", times=10)
    remove(path)
    spare.rename(path)
    follower.until(lambda: follower.resyncs)
    assert "replaced" in follower.resyncs[0].reason
    assert follower.state["p/a"].value == b"new"
    assert store.put("p/a", b"newer") == write(path, b"newest") - 1, "all see the new file"
    follower.until_key("p/a", b"newest")
    assert len(follower.resyncs) == 1


def test_deleted_file_is_an_outage_until_a_new_file_exists(
    store: SqliteStore, watch: Watch, path: Path
) -> None:
    follower = Follower(watch)
    follower.until_key("p/a", b"1")
    remove(path)
    follower.until(lambda: interruptions(follower))
    assert "gone" in str(interruptions(follower)[0].error)
    for call in (lambda: store.get("p/a"), lambda: store.put("p/a", b"")):
        with pytest.raises(StoreUnavailable, match="gone"):
            call()
    assert not path.exists(), "a store does not re-create a file that it had opened"
    write(path, b"recreated")
    follower.until(lambda: follower.resyncs)
    assert follower.state["p/a"].value == b"recreated"
    item = store.get("p/a")
    assert item is not None
    assert item.value == b"recreated"
    assert len(interruptions(follower)) == 1, "one outage, one event"


def test_emptied_file_is_an_outage_and_does_not_become_a_new_store(
    store: SqliteStore, path: Path
) -> None:
    os.truncate(path, 0)
    for call in (lambda: store.get("p/a"), lambda: store.put("p/a", b"")):
        with pytest.raises((StoreUnavailable, StoreMisconfigured)) as raised:
            call()
        assert any(text in str(raised.value) for text in ("was emptied", "any more", "damaged"))
    store.close()
    with SqliteStore(path) as other:
        other._database._opened_once = True  # as in a process that had opened the file
        os.truncate(path, 0)
        with pytest.raises(StoreUnavailable, match="the file was emptied; restore it, or remove"):
            other.get("p/a")
        assert path.stat().st_size == 0, "the store does not write a new schema"


@pytest.mark.parametrize("ends", [("-wal",), ("-wal", "-shm")])
def test_write_after_removal_of_the_write_ahead_log_is_seen_by_others(
    store: SqliteStore, path: Path, ends: tuple[str, ...]
) -> None:
    """Other processes would not see a write to the removed log."""
    for end in ends:
        Path(f"{path}{end}").unlink()
    store.put("p/a", b"after")
    script = (
        "import sys; from ratectl.stores import open_store\n"
        "print(open_store(sys.argv[1]).get('p/a').value)"
    )
    reader = subprocess.run(
        [sys.executable, "-c", script, f"sqlite:///{path}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert reader.stdout == "b'after'\n"


def test_backup_restored_in_place_is_a_resync(store: SqliteStore, watch: Watch, path: Path) -> None:
    backup = sqlite3.connect(path.with_name("backup.db"))
    source = sqlite3.connect(path)
    source.backup(backup)
    follower = Follower(watch)
    for n in range(5):
        store.put("p/a", b"after %d" % n)
    follower.until_key("p/a", b"after 4")
    backup.backup(source)
    backup.close()
    source.close()
    follower.until(lambda: follower.resyncs)
    assert "went back" in follower.resyncs[0].reason
    assert follower.state["p/a"].value == b"1"
    assert store.put("p/a", b"2") == 3
    follower.until_key("p/a", b"2")


def test_garbage_in_place_of_the_file_is_an_outage(
    store: SqliteStore, watch: Watch, path: Path
) -> None:
    follower = Follower(watch)
    follower.until_key("p/a", b"1")
    spare = path.with_name("spare.db")
    spare.write_bytes(b"no database" * 1000)
    remove(path)
    spare.rename(path)
    follower.until(lambda: interruptions(follower))
    assert "not a SQLite database" in str(interruptions(follower)[0].error)
    write(spare, b"repaired")
    spare.rename(path)
    follower.until(lambda: follower.resyncs)
    assert follower.state["p/a"].value == b"repaired"


def test_compaction_past_the_watch_is_a_resync(store: SqliteStore, path: Path) -> None:
    with store.watch("p/", 2) as watch:
        follower = Follower(watch)
        follower.until_key("p/a", b"1")
        hidden = path.with_name("hidden.db")
        with SqliteStore(path) as other, watch._channel._lock:  # type: ignore[attr-defined]
            for n in range(10):
                last = other.put("p/a", b"%d" % n)
            compact(other, last)
        assert not hidden.exists()
        follower.until_key("p/a", b"9")
    assert "compacted" in follower.resyncs[0].reason


# -- processes that die ----------------------------------------------------------------------------


def check_integrity(path: Path) -> None:
    db = sqlite3.connect(path)
    try:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    finally:
        db.close()


KILLED_WRITER = """
import os
import ratectl.stores.sqlite.store as module
module.CHECKPOINT_BYTES = 300_000
n = 0
while True:
    n += 1
    value = b"%d" % n + os.urandom(3000)
    result = store.txn((), [Put("a", value), Put("b", value), Put("n", b"%d" % n)])
    print(n, flush=True)
"""


@pytest.mark.parametrize("lines", [1, 50, 333])
def test_killed_writer_loses_no_acknowledged_write(path: Path, lines: int) -> None:
    writer = python(KILLED_WRITER, f"sqlite:///{path}")
    assert writer.stdout is not None
    for _ in range(lines):
        acknowledged = int(writer.stdout.readline())
    writer.kill()
    # Not communicate(): it ignores lines that readline() has already buffered.
    with writer:
        acknowledged = max([acknowledged, *map(int, writer.stdout.read().split())])
    with SqliteStore(path) as store:
        a, b, n = store.list("").items
        assert int(n.value) in (acknowledged, acknowledged + 1), "the last may lack its print"
        assert a.value == b.value
        assert a.mod_revision == b.mod_revision == n.mod_revision
        store.put("a", b"goes on")
    check_integrity(path)


def test_four_processes_write_compact_and_checkpoint(path: Path) -> None:
    code = """
import os
import ratectl.stores.sqlite.store as module
from ratectl.stores.sqlite import log
module.CHECKPOINT_BYTES, log.KEEP_REVISIONS, log.COMPACT_EVERY = 150_000, 100, 16
for n in range(200):
    store.txn((), [Put(args[0] + "/%d" % (n % 9), os.urandom(2000)), Put(args[0], b"%d" % n)])
    assert store.get(args[0]).value == b"%d" % n
"""
    url = f"sqlite:///{path}"
    writers = [python(code, url, name) for name in "wxyz"]
    for writer in writers:
        finish(writer)
    with SqliteStore(path) as store:
        status = store.status()
        assert status.revision == 1 + 4 * 200
        assert [store.get(name) and store.get(name).value for name in "wxyz"] == [b"199"] * 4  # type: ignore[union-attr]
        assert len(store.list("").items) == 40
        assert status.revision - status.compacted < 100 + 2 * 16
    check_integrity(path)


# -- fork ------------------------------------------------------------------------------------------

FORK = """
import os, sys, threading
from ratectl.stores.base import Compare, Events, Put
from ratectl.stores.sqlite import SqliteStore

def increment(store, times):
    for _ in range(times):
        while True:
            item = store.get("n")
            value, revision = (int(item.value), item.mod_revision) if item else (0, 0)
            if store.txn([Compare("n", revision)], [Put("n", b"%d" % (value + 1))]).ok:
                break

with SqliteStore(sys.argv[1]) as store:
    lease = store.lease(60)
    store.put("leased", b"", lease)
    seen = []
    watch = store.watch("n", 1)
    threads = [threading.Thread(target=lambda: seen.extend(watch)),
               threading.Thread(target=increment, args=(store, 200))]
    for thread in threads:
        thread.start()
    children = []
    for _ in range(5):
        pid = os.fork()
        if pid == 0:
            increment(store, 20)
            assert lease.renew()
            with SqliteStore(sys.argv[1]) as own:
                increment(own, 20)
            os._exit(0)
        children.append(pid)
        increment(store, 20)
    for pid in children:
        assert os.waitpid(pid, 0)[1] == 0
    threads[1].join()
    assert store.get("n").value == b"500", store.get("n")
    last = store.get("n").mod_revision
    while not any(isinstance(event, Events) and event.revision == last for event in seen):
        pass
    watch.close()
    threads[0].join()
    assert len([event for event in seen if isinstance(event, Events)]) == 500
"""

FORK_WHILE_BUSY = """
import os, sys, threading
from ratectl.errors import StoreMisconfigured
from ratectl.stores.sqlite import SqliteStore

store = SqliteStore(sys.argv[1], timeout=0.2)
store.put("a", b"")
inside, done = threading.Event(), threading.Event()
def hold():
    with store._reads.use():
        inside.set()
        done.wait()
thread = threading.Thread(target=hold)
thread.start()
inside.wait()
pid = os.fork()
if pid == 0:
    try:
        store.get("a")
    except StoreMisconfigured as error:
        assert "forked" in str(error)
        os._exit(7)
    os._exit(1)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
done.set()
thread.join()
assert store.get("a") is not None
store.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.parametrize("code", [FORK, FORK_WHILE_BUSY], ids=["shared", "busy"])
def test_store_works_across_forks(path: Path, code: str) -> None:
    # Python 3.12 warns of a fork in a process with threads, which this test needs.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    check_integrity(path)


@pytest.mark.parametrize("times", [1, 1_000_000])
def test_an_error_of_the_disk_while_opening_is_tried_again_for_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """This happens while another process creates the log again after its removal."""
    file = tmp_path / "rates.db"
    with SqliteStore(file) as store:
        store.put("k", b"1")
    failures = iter(range(times))
    connect = Database._connect_once

    def failing(self: Database, seconds: float) -> Any:
        if next(failures, None) is not None:
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR
            raise error
        return connect(self, seconds)

    monkeypatch.setattr(Database, "_connect_once", failing)
    with SqliteStore(file) as store:
        if times == 1:
            assert store.get("k") is not None
        else:
            with pytest.raises(StoreUnavailable, match="disk I/O error"):
                store.get("k")
