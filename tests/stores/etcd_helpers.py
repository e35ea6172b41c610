"""Recorder of a watch that runs in the background, with the time of each event."""

from __future__ import annotations

import threading
import time
import uuid
from typing import TYPE_CHECKING, Self, TypeVar

from etcd_server import wait_for
from ratectl.stores.base import Events, Interrupted, Progress, Resync

if TYPE_CHECKING:
    from ratectl.stores.base import Watch, WatchEvent


T = TypeVar("T")


def environment() -> str:
    """Return the name of an unused environment."""
    return f"test-{uuid.uuid4().hex[:12]}"


class Recorder:
    """Recorder that iterates over a watch in a thread; a context manager that closes the watch."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.seen: list[tuple[float, WatchEvent]] = []
        self.state: dict[str, bytes] = {}
        self.revisions: list[int] = []
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            for event in self.watch:
                self._take(event)
        except BaseException as error:  # noqa: BLE001 - shown by the test
            self.failure = error

    def _take(self, event: WatchEvent) -> None:
        if isinstance(event, Resync):
            self.state = {item.key: item.value for item in event.snapshot.items}
        if isinstance(event, Events):
            self.revisions.append(event.revision)
            for change in event.changes:
                if change.item is None:
                    self.state.pop(change.key, None)
                else:
                    self.state[change.key] = change.item.value
        self.seen.append((time.monotonic(), event))

    def of(self, kind: type[T]) -> list[T]:
        """Return all events of one kind."""
        return [event for _, event in list(self.seen) if isinstance(event, kind)]

    def interruptions(self) -> list[str]:
        """Return the error messages of all interruptions."""
        return [str(event.error) for event in self.of(Interrupted)]

    def resyncs(self) -> list[str]:
        """Return the reasons of all resyncs."""
        return [event.reason for event in self.of(Resync)]

    def until_key(self, key: str, value: bytes | None, seconds: float = 10.0) -> None:
        """Wait until the key has this value (None: is absent)."""
        wait_for(lambda: self.state.get(key) == value, f"{key} = {value!r}", seconds)

    def until_interrupted(self, seconds: float = 10.0) -> float:
        """Wait for an interruption; return the time of the newest one (monotonic seconds)."""
        wait_for(lambda: self.of(Interrupted), "interruption", seconds)
        return next(at for at, event in reversed(self.seen) if isinstance(event, Interrupted))

    def until_live(self, seconds: float = 10.0) -> None:
        """Wait for progress or changes that arrive after this call."""
        start = len(self.seen)
        wait_for(
            lambda: any(isinstance(e, Progress | Events) for _, e in self.seen[start:]),
            "sign of life",
            seconds,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        started = time.monotonic()
        self.watch.close()
        self._thread.join(10)
        assert not self._thread.is_alive(), "the iteration did not end"
        assert time.monotonic() - started < 1.0, "closing took too long"
        if self.failure is not None:
            raise self.failure
