"""Pauses of the cycle collector while large trees of objects are built."""

from __future__ import annotations

import gc
import os
import sys
from contextlib import contextmanager
from operator import call
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

__all__ = ["Pause", "end", "pause", "paused_collector", "pauses", "pausing", "resume"]

Pause = object


class _Pauses:
    """Number of pauses under way: the last one to end turns the collector on again.

    A forked child begins with none: threads that would end them are not there.
    """

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


pauses = _Pauses()

_CAN_SET_ASIDE = sys.implementation.name == "cpython" and sys.version_info < (3, 14)
"""From 3.14 on, freezing walks all objects, and passes of the collector are short anyway."""

_host_freezes = False


@contextmanager
def paused_collector() -> Iterator[None]:
    """Pause the cycle collector: it would triple the time, and the objects have no cycles."""
    yield from pausing(long=True)


def pause() -> Pause | None:
    """Pause the collector until ``resume`` or ``end``. Return None if it is off already."""
    if not gc.isenabled():
        return None
    pauses.count += 1  # before disabling: a child that is forked in between must enable it
    gc.disable()
    return Pause()


def resume(paused: Pause | None) -> None:
    """End a long pause. The collector skips the new objects until its next full pass."""
    if paused is not None:
        _set_aside()
        end(paused)


def end(paused: Pause | None) -> None:
    """End a short pause."""
    if paused is not None:
        pauses.count -= 1
        if pauses.count < 1:
            pauses.count = 0
            gc.enable()


def pausing(*, long: bool = False) -> Generator[None]:
    """Return a generator that pauses the collector from its first step until it is closed.

    An exception at any point leaves the collector on. After a ``long`` pause, the collector skips
    the new objects until its next full pass.
    """
    paused = False
    try:
        if gc.isenabled():
            paused = True
            pauses.count += 1
            gc.disable()
        yield
    finally:
        try:
            if paused and long:
                _set_aside()
        finally:  # inlined: a call of `end` could be interrupted before it begins
            if paused:
                pauses.count -= 1
                if pauses.count < 1:
                    pauses.count = 0
                    gc.enable()


def _set_aside() -> None:
    """Move all young objects to the oldest generation, without walking them.

    Otherwise the first pass after a pause walks all new objects, perhaps in the thread of a
    request. A library must not freeze objects for good: new objects of the application would be
    frozen as well, and never be collected. Frozen and unfrozen at once, they wait for a full pass
    and do not cause one. Nothing is done in a process that has frozen objects of its own:
    unfreezing would unfreeze those.
    """
    global _host_freezes  # noqa: PLW0603  counting frozen objects is slow: once is enough
    if not _host_freezes and _CAN_SET_ASIDE:
        # One call into C, so no thread and no exception interrupts it; it stops at a count above 0.
        _host_freezes = any(map(call, (gc.get_freeze_count, gc.freeze, gc.unfreeze)))


def _after_fork_in_child() -> None:
    if pauses.count:
        pauses.count = 0
        gc.enable()


os.register_at_fork(after_in_child=_after_fork_in_child)
