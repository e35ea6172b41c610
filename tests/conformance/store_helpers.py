"""Helpers that wait for watch events with a deadline, and run code in other processes."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from ratectl.stores.base import Events, Interrupted, Progress, Resync

if TYPE_CHECKING:
    from collections.abc import Callable

    from ratectl.stores.base import Item, Watch, WatchEvent


class Follower:
    """One iteration over a watch: the delivered events, and the state of a consumer."""

    def __init__(self, watch: Watch) -> None:
        self.seen: list[WatchEvent] = []
        self.state: dict[str, Item] = {}
        self._watch = watch
        self._events = iter(watch)

    def until(self, condition: Callable[[], object], seconds: float = 10.0) -> None:
        """Take events until the condition holds; fails (and ends the watch) after ``seconds``."""
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
        """Return only the changes."""
        return [event for event in self.seen if isinstance(event, Events)]

    @property
    def resyncs(self) -> list[Resync]:
        """Return only the resyncs."""
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


def python(code: str, *args: str) -> subprocess.Popen[str]:
    """Start another process in which ``store`` is open; ``args`` begin with the store's URL."""
    head = (
        "import sys\n"
        "from ratectl.stores import open_store\n"
        "from ratectl.stores.base import Compare, Delete, Put\n"
        "args = sys.argv[2:]\n"
        "with open_store(sys.argv[1]) as store:\n"
    )
    body = "".join(f"    {line}\n" for line in code.strip().splitlines())
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", head + body, *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], seconds: float = 30.0) -> str:
    """Return the output of a process; fail if the process failed."""
    try:
        output, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    assert process.returncode == 0, errors
    return output
