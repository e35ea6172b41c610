"""In-memory store: one process, its forks, and code that interrupts a change."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import ratectl
import support
from conformance.store_helpers import Follower
from ratectl.errors import UsageError
from ratectl.fleet.usage import read_agents
from ratectl.stores import check_url, open_store
from ratectl.stores.base import Compare, Events, Progress, Put
from ratectl.stores.memory import contents
from ratectl.stores.memory.contents import Draft
from support import publish_policies, simple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratectl.stores.base import Store


@pytest.fixture
def url() -> str:
    return f"memory://test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with open_store(url) as opened:
        yield opened


def test_contents_stay_after_the_store_is_closed(url: str) -> None:
    with open_store(url) as first:
        revision = first.put("a", b"1")
    with open_store(url) as second:
        assert second.list("").revision == revision
        assert [item.value for item in second.list("").items] == [b"1"]


def test_each_name_has_its_own_contents(store: Store, url: str) -> None:
    store.put("a", b"1")
    with open_store(f"{url}-other") as other:
        assert other.get("a") is None


@pytest.mark.parametrize(
    "url",
    ["memory://", "memory://a/b", "memory:///a", "memory://a?b", "memory://a b", "memory://é"],
)
def test_other_forms_of_the_url_are_refused(url: str) -> None:
    with pytest.raises(UsageError, match="memory://NAME"):
        check_url(url)


def test_history_is_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "KEEP_REVISIONS", 10)
    first = store.put("a", b"0")
    for n in range(1, 20):
        last = store.put("a", b"%d" % n)
    assert store.status().compacted == last - 9
    with store.watch("", last - 9) as watch:
        follower = Follower(watch)
        follower.until_revision(last)
    assert [event.revision for event in follower.events] == [*range(last - 9, last + 1)]
    with store.watch("", first) as watch:
        follower = Follower(watch)
        follower.until(lambda: follower.resyncs)
    assert "compacted" in follower.resyncs[0].reason


def test_watch_reports_progress_after_changes(store: Store) -> None:
    revision = store.put("a", b"")
    with store.watch("", revision) as watch:
        events = iter(watch)
        first, second = next(events), next(events)
    assert isinstance(first, Events)
    assert second == Progress(revision)


def test_watch_finds_changes_without_a_wake_up(store: Store, url: str) -> None:
    with store.watch("", store.list("").revision + 1) as watch:
        follower = Follower(watch)
        follower.until(lambda: follower.seen)
        space = contents.contents_of(url)
        waiting, space.waiting = space.waiting, []  # no watch is woken
        revision = store.put("a", b"")
        space.waiting = waiting
        follower.until_revision(revision)


def test_watch_whose_iteration_ended_is_not_woken(store: Store, url: str) -> None:
    watch = store.watch("", 1)
    for _ in watch:
        break
    assert contents.contents_of(url).waiting == []


# -- interruptions ---------------------------------------------------------------------------------


class Interruption(BaseException):
    """Raised in the middle of a change, as a signal handler may do."""


def test_interrupted_transaction_changes_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = store.put("a", b"1")
    original = Draft.put

    def put(self: Draft, key: str, value: bytes, lease: int | None) -> None:
        original(self, key, value, lease)
        if key == "c":
            raise Interruption

    with monkeypatch.context() as patch:
        patch.setattr(Draft, "put", put)
        with pytest.raises(Interruption):
            store.txn((), [Put("a", b"2"), Put("b", b""), Put("c", b"")])
    snapshot = store.list("")
    assert snapshot.revision == before
    assert [(item.key, item.value) for item in snapshot.items] == [("a", b"1")]
    done = threading.Thread(target=store.put, args=("a", b"3"))
    done.start()
    done.join(5)
    assert not done.is_alive(), "no lock is kept"
    item = store.get("a")
    assert item is not None
    assert item.value == b"3"


def test_finalizer_may_write_during_a_transaction(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither write waits for the other or is lost; the outer comparison sees the inner write."""
    original = Draft.put
    nested: list[int] = []

    def put(self: Draft, key: str, value: bytes, lease: int | None) -> None:
        original(self, key, value, lease)
        if key == "outer" and not nested:
            nested.append(0)
            nested[0] = store.put("inner", b"")

    monkeypatch.setattr(Draft, "put", put)
    result = store.txn([Compare("inner", 0)], [Put("outer", b"")])
    assert not result.ok
    assert [item.key for item in store.list("").items] == ["inner"]
    nested.clear()
    assert store.txn((), [Put("outer", b"")]).revision == nested[0] + 1
    assert [item.key for item in store.list("").items] == ["inner", "outer"]


# -- forks -----------------------------------------------------------------------------------------

FORK = """
import os, sys, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)
import ratectl
from ratectl.errors import StoreUnavailable
from ratectl.stores import open_store
from ratectl.stores.memory.contents import contents_of
from support import publish_policies, simple

store = open_store("memory://x")
watch = store.watch("", 1)
lease = store.lease(60)
publish_policies(store, simple("2/min", burst=2))
agent = ratectl.Agent("memory://x", ready_timeout=10)
entered, leave = threading.Event(), threading.Event()

def hold():  # a fork in the middle of another thread's change
    with contents_of("memory://x")._lock:
        entered.set()
        leave.wait()

threading.Thread(target=hold).start()
entered.wait()
pid = os.fork()
if pid == 0:
    code = 1
    try:
        calls = (
            lambda: store.get("head"), lambda: store.put("a", b""), lambda: next(iter(watch)),
            lease.renew, store.status, lambda: open_store("memory://x").list(""),
        )
        for call in calls:
            try:
                call()
            except StoreUnavailable as error:
                assert "forked" in str(error), error
            else:
                raise AssertionError("a child used its parent's memory")
        with open_store("memory://y") as own:
            assert own.put("a", b"") == 2
        assert agent.check("/", {}).generation == 1, "it decides by what it inherited"
        for _ in range(500):
            if "forked" in str(agent.status.error):
                break
            threading.Event().wait(0.02)
        assert "forked" in str(agent.status.error), agent.status
        store.close()
        code = 0
    finally:
        os._exit(code)
leave.set()
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
assert store.get("a") is None
assert store.get("head") is not None
agent.close()
"""


def test_forked_child_cannot_use_the_store_of_its_parent(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORK],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={
            **os.environ,
            "XDG_STATE_HOME": str(tmp_path),
            "PYTHONPATH": str(Path(support.__file__).parent),
        },
    )
    assert done.returncode == 0, done.stderr


# -- agents ----------------------------------------------------------------------------------------


def test_agent_follows_an_in_memory_store_and_keeps_no_policies_on_disk(
    store: Store, url: str, tmp_path: Path
) -> None:
    publish_policies(store, simple("2/min", burst=2))
    state = tmp_path / "state"
    with ratectl.Agent(url, state_dir=state, ready_timeout=10, report_interval=0.05) as agent:
        assert [bool(agent.check("/", {})) for _ in range(3)] == [True, True, False]
        second = publish_policies(store, simple("9/min", burst=9)).generation
        assert agent.wait_for_generation(second, 10)
        deadline = time.monotonic() + 10
        while [record.generation for record in read_agents(store)] != [second]:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert agent.status.error is None
    assert read_agents(store) == [], "a closed agent takes its record out"
    assert not list(state.rglob("last-good"))
    with ratectl.Agent(f"{url}-empty", state_dir=state, ready_timeout=0.2) as agent:
        assert agent.status.generation == 0
