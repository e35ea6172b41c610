"""Cooperative background work: large loops in short slices, with rests for request threads.

CPython runs one thread at a time. A thread that computes without pause gives way to another only
after that has waited for five milliseconds (``sys.getswitchinterval``, a setting of the host
application), and never within one call into C. So code that builds, compares or frees thousands of
parts iterates with ``paced``. Inside ``cooperative()``, where the threads of an agent run, each
slice of work is followed by a rest in which other threads run. Elsewhere ``paced`` changes nothing
and costs nothing: in a command no other thread waits.

A rest really sleeps. To release the interpreter's lock and take it back at once is often faster
than the waiting thread wakes up. The price: beside threads that never rest, each slice waits for
five milliseconds, and the work takes longer.

Never rest while holding a lock that a request may wait for.
"""

from __future__ import annotations

import time
import weakref
from collections import deque
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ratectl.runtime.gc_pause import pause, resume

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

__all__ = ["Kept", "Pacer", "breathe", "cooperative", "paced", "release"]

SLICE_SECONDS: Final = 250e-6
"""Length of a slice. It leaves most of a millisecond for a step that takes longer."""

REST_SECONDS: Final = 50e-6
"""Length of a rest: enough for a waiting thread to take over. The system sleeps for longer."""

T = TypeVar("T")


class _Contents(weakref.ref["Kept"]):
    """Containers of one ``Kept`` object."""

    __slots__ = ("containers",)

    containers: tuple[Mapping[Any, object], ...]


_contents: dict[int, _Contents] = {}
_discarded: deque[_Contents] = deque()
"""Contents of objects that were freed: the next ``release`` empties them."""


class Pacer:
    """A clock of slices and rests for one thread. The cycle collector is paused during slices.

    The objects built have no cycles, and collecting them takes longer than building them. The
    collector runs in the rests, for other threads. It looks at the built objects in a full pass
    only.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._paused: object = None
        self._due = 0.0

    def begin(self) -> None:
        """Start a slice."""
        self._paused = pause()
        self._due = self._clock() + SLICE_SECONDS

    def end(self) -> None:
        """End a slice: the collector is as it was before."""
        paused, self._paused = self._paused, None
        resume(paused)

    def breathe(self) -> None:
        """Rest if the slice has taken its time."""
        if self._clock() >= self._due:
            self.end()
            self._sleep(REST_SECONDS)
            self.begin()

    def over(self, items: Iterable[T]) -> Iterator[T]:
        """Yield the items, and rest after each item that completes a slice."""
        for item in items:
            yield item
            self.breathe()


_pacer: ContextVar[Pacer | None] = ContextVar("ratectl_pacer", default=None)
"""The pacer of this thread: each thread has a context of its own."""


@contextmanager
def cooperative(pacer: Pacer | None = None) -> Iterator[None]:
    """Let ``paced`` loops in this block rest. Inside another such block it changes nothing."""
    if _pacer.get() is not None:
        yield
        return
    pacer = pacer or Pacer()
    token = _pacer.set(pacer)
    pacer.begin()
    try:
        yield
    finally:
        pacer.end()
        _pacer.reset(token)


def paced(items: Iterable[T]) -> Iterable[T]:
    """Return the items, with rests between them if the thread is cooperative."""
    pacer = _pacer.get()
    return items if pacer is None else pacer.over(items)


def breathe() -> None:
    """Rest if the slice is over and the thread is cooperative. For steps outside of loops."""
    pacer = _pacer.get()
    if pacer is not None:
        pacer.breathe()


class Kept:
    """References to large containers. An object that uses the containers holds this one as well.

    When this object is freed, perhaps by a request, the contents are not freed at once: the next
    ``release``, in any thread, frees them step by step.
    """

    __slots__ = ("__weakref__",)

    def __init__(self, *containers: Mapping[Any, object]) -> None:
        # No Python code runs at the end: an exception of a signal's handler would be lost in it.
        contents = _Contents(self, _discarded.append)
        contents.containers = containers
        _contents[id(contents)] = contents


def release(*containers: list[Any] | dict[Any, Any]) -> None:
    """Empty containers one item at a time, with rests: to free all at once takes long.

    To free containers of another owner, collect their items in a list, drop the containers, and
    release the list. Containers of ``Kept`` objects that were freed are emptied as well.
    """
    breathe()
    for container in containers:
        _empty(container)
    while _discarded:
        with suppress(IndexError):  # another thread took it
            contents = _discarded.popleft()
            _contents.pop(id(contents), None)
            kept = list(contents.containers)
            del contents.containers
            while kept:
                _empty(list(paced(kept.pop().values())))


def _empty(container: list[Any] | dict[Any, Any]) -> None:
    drop_one = container.popitem if isinstance(container, dict) else container.pop
    for _ in paced(range(len(container))):
        drop_one()
