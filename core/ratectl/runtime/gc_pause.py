"""Building large trees of objects without the cycle collector walking them over and over."""

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
"""From 3.14 on freezing walks all objects, and passes of the collector are short by themselves."""

_host_freezes = False


@contextmanager
def paused_collector() -> Iterator[None]:
    """Pause the cycle collector: what is built here has no cycles, and it triples the time."""
    yield from pausing(long=True)


def pause() -> Pause | None:
    """Pause the collector until ``resume`` or ``end``; None where it does not run anyway."""
    if not gc.isenabled():
        return None
    pauses.count += 1  # first: a child that is forked in between must know
    gc.disable()
    return Pause()


def resume(paused: Pause | None) -> None:
    """End a long pause; what was built in it is not looked at until the next full pass."""
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

    Whatever interrupts it, the collector goes on. What was built in a ``long`` pause is not looked
    at until the next full pass.
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
        finally:  # no call but that of `gc.enable`, where `end` could be interrupted
            if paused:
                pauses.count -= 1
                if pauses.count < 1:
                    pauses.count = 0
                    gc.enable()


def _set_aside() -> None:
    """Make all young objects old, without looking at any of them.

    The first pass after a pause would walk all that was built in it, in whichever thread comes by:
    a request's. To freeze it for good is not for a library to do: what others have just made would
    be frozen with it, and stay when it becomes garbage. Frozen and unfrozen, both wait for a full
    pass, and are no reason for one. Where the process keeps frozen objects of its own, that would
    not leave them frozen: nothing is done.
    """
    global _host_freezes  # noqa: PLW0603  counting frozen objects is slow: one look is enough
    if not _host_freezes and _CAN_SET_ASIDE:
        # One call of C code, which no thread and no exception comes into; it ends at a count.
        _host_freezes = any(map(call, (gc.get_freeze_count, gc.freeze, gc.unfreeze)))


def _after_fork_in_child() -> None:
    if pauses.count:
        pauses.count = 0
        gc.enable()


os.register_at_fork(after_in_child=_after_fork_in_child)
