"""Helpers that wait for watch events with a deadline, and run code in other processes."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import urllib.request
from typing import TYPE_CHECKING

import pytest

from ratectl.stores import in_one_process, open_store
from ratectl.stores.base import Compare, Delete, Events, Interrupted, Progress, Put, Resync
from ratectl.stores.memory import MemoryStore
from ratectl.stores.memory.contents import Draft, contents_of
from ratectl.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from ratectl.stores.base import Item, Store, Watch, WatchEvent


class Follower:
    """One iteration over a watch: the received events, and the state of a consumer."""

    def __init__(self, watch: Watch) -> None:
        self.seen: list[WatchEvent] = []
        self.state: dict[str, Item] = {}
        self._watch = watch
        self._events = iter(watch)

    def until(self, condition: Callable[[], object], seconds: float = 10.0) -> None:
        """Take events until the condition holds; fail (and end the watch) after ``seconds``."""
        timer = threading.Timer(seconds, self._watch.close)
        timer.start()
        try:
            while not condition():
                event = next(self._events, None)
                if event is None:
                    pytest.fail(f"not within {seconds} s; got {self.seen}")
                self._take(event)
        finally:
            timer.cancel()
            timer.join()

    def until_key(self, key: str, value: bytes | None) -> None:
        """Take events until the key has this value (None: is absent)."""

        def reached() -> bool:
            item = self.state.get(key)
            return (None if item is None else item.value) == value

        self.until(reached)

    def until_revision(self, revision: int) -> None:
        """Take events until one of that revision or a later one."""
        self.until(lambda: self.events and self.events[-1].revision >= revision)

    @property
    def events(self) -> list[Events]:
        """Received changes, without other kinds of events."""
        return [event for event in self.seen if isinstance(event, Events)]

    @property
    def resyncs(self) -> list[Resync]:
        """Received resyncs."""
        return [event for event in self.seen if isinstance(event, Resync)]

    def _take(self, event: WatchEvent) -> None:
        self.seen.append(event)
        if isinstance(event, Resync):
            self.state = {item.key: item for item in event.snapshot.items}
        elif isinstance(event, Events):
            for change in event.changes:
                if change.item is None:
                    self.state.pop(change.key, None)
                else:
                    self.state[change.key] = change.item
        else:
            assert isinstance(event, Progress | Interrupted)


def compact(store: Store, revision: int) -> None:
    """Compact the history before ``revision``, as the store or its operator does."""
    if isinstance(store, SqliteStore):
        with store._writing() as writer:
            writer.compact(revision)
        return
    if isinstance(store, MemoryStore):
        contents_of(store.url).change(Draft.compact, revision)
        return
    server, _, _ = store.url.partition("://")[2].partition("/")
    body = json.dumps({"revision": str(revision), "physical": True}).encode()
    urllib.request.urlopen(f"http://{server}/v3/kv/compaction", body).close()


class _Thread(threading.Thread):
    """Thread that runs code in place of a process."""

    error: BaseException | None = None

    def __init__(self, code: str, url: str, args: tuple[str, ...]) -> None:
        super().__init__()
        self._code = code
        self._url = url
        self._args = list(args)
        self.start()

    def run(self) -> None:
        try:
            with open_store(self._url) as store:
                names = {"store": store, "args": self._args}
                exec(self._code, {**names, "Compare": Compare, "Delete": Delete, "Put": Put})
        except BaseException as error:
            self.error = error
            raise


def python(code: str, url: str, *args: str) -> subprocess.Popen[str] | _Thread:
    """Start code in another process, where ``store`` is open.

    If no other process can open the store, a thread runs the code.
    """
    if in_one_process(url):
        return _Thread(code, url, args)
    head = (
        "import sys\n"
        "from ratectl.stores import open_store\n"
        "from ratectl.stores.base import Compare, Delete, Put\n"
        "args = sys.argv[2:]\n"
        "with open_store(sys.argv[1]) as store:\n"
    )
    body = "".join(f"    {line}\n" for line in code.strip().splitlines())
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", head + body, url, *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str] | _Thread, seconds: float = 30.0) -> str:
    """Wait for the end of the code and return its output; fail if the code failed."""
    if isinstance(process, _Thread):
        process.join(seconds)
        assert not process.is_alive()
        assert process.error is None
        return ""
    try:
        output, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    assert process.returncode == 0, errors
    return output
