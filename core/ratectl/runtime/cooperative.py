"""Building large things beside threads that must not wait: work in slices, rests between them.

CPython runs one thread at a time. One that computes without end lets another in only when that has
waited for five milliseconds (``sys.getswitchinterval``, which is the host's to change, not ours),
and never within one call into C. So whoever builds, compares or frees what has thousands of parts
does it ``paced``, part by part: inside ``cooperative()``, as the threads of an agent are, a slice
of work is followed by a rest in which the others go on. Anywhere else ``paced`` changes nothing and
costs nothing: in a command nobody is waiting.

A rest really sleeps: to give up the lock and take it back at once would often be sooner than the
thread that waits for it wakes up. The price: beside threads that never rest themselves, each slice
has to wait for the five milliseconds, and the work takes its time.

Never rest holding a lock that the others want: ``paced`` is for what builds, not for what a
decision may run into.
"""

from __future__ import annotations

import time
from collections import deque
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ratectl.runtime.gc_pause import pause, resume

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

__all__ = ["Kept", "Pacer", "breathe", "cooperative", "paced", "release"]

SLICE_SECONDS: Final = 250e-6
"""Of work at a time, and the rest of a millisecond for what takes longer than it should."""

REST_SECONDS: Final = 50e-6
"""Long enough for a waiting thread to wake up and take over; the system makes more of it."""

T = TypeVar("T")

_left: deque[Mapping[Any, object]] = deque()
"""Of those that nobody keeps alive any more."""


class Pacer:
    """Rests whenever a slice of work is done. The cycle collector is paused in between.

    What is built has no cycles, and passes over it take longer than building it. The others have
    their collector while they run: it never sees what was built, save in a full pass.
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
        """End a slice: the collector goes on as it did."""
        paused, self._paused = self._paused, None
        resume(paused)

    def breathe(self) -> None:
        """Rest if the slice is done."""
        if self._clock() >= self._due:
            self.end()
            self._sleep(REST_SECONDS)
            self.begin()

    def over(self, items: Iterable[T]) -> Iterator[T]:
        """The same items; rests after each that completes a slice."""
        for item in items:
            yield item
            self.breathe()


_pacer: ContextVar[Pacer | None] = ContextVar("ratectl_pacer", default=None)
"""A context of its own for each thread: a pacer is never another thread's."""


@contextmanager
def cooperative(pacer: Pacer | None = None) -> Iterator[None]:
    """Let what is ``paced`` in this block rest. Inside another such block it changes nothing."""
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
    """The same items, with rests between them where the thread is cooperative."""
    pacer = _pacer.get()
    return items if pacer is None else pacer.over(items)


def breathe() -> None:
    """Rest now, if it is time and the thread is cooperative: between steps that are no loop."""
    pacer = _pacer.get()
    if pacer is not None:
        pacer.breathe()


class Kept:
    """What large containers hold, for whoever keeps them alive to hold as well.

    Once the last of these is gone, it is let go bit by bit, by the next ``release`` in whichever
    thread: not at once by the one that came by, which may be a request's.
    """

    __slots__ = ("_containers",)

    def __init__(self, *containers: Mapping[Any, object]) -> None:
        self._containers = containers

    def __del__(self, left: deque[Mapping[Any, object]] = _left) -> None:
        left.extend(self._containers)


def release(*held: list[Any] | dict[Any, Any]) -> None:
    """Empty these, one item at a time: to free all that is in them at once takes long.

    Of containers that belong to others, collect what is in them; drop those, then call this.
    What was ``Kept`` goes as well, if nobody has it any more.
    """
    breathe()
    for each in held:
        _empty(each)
    while _left:
        with suppress(IndexError):  # another thread was sooner
            _empty(list(paced(_left.popleft().values())))


def _empty(held: list[Any] | dict[Any, Any]) -> None:
    let_go = held.popitem if isinstance(held, dict) else held.pop
    for _ in paced(range(len(held))):
        let_go()
