"""Exceptions that are raised at any moment, as by signal time limits."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from callers.house import BURST
from soak import scaled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from callers.house import House

RAISED = scaled(60, 1_800)
OTHER = {"tenant": "other"}


class Late(BaseException):
    """Raised by a time limit."""


def _check(house: House, number: int) -> None:
    house.engine.check("/a", OTHER).release()


def _meet_new_keys(house: House, number: int) -> None:
    house.engine.check("/a", {"tenant": f"new{number % 15_000}"}).release()


def _settle(house: House, number: int) -> None:
    decision = house.engine.check("/a", OTHER)
    decision.settle(number % 3)
    decision.release()


def _refuse(house: House, number: int) -> None:
    house.engine.check("/a", OTHER, BURST + 1)


def _read_usage(house: House, number: int) -> None:
    house.engine.usage()


def _reload(house: House, number: int) -> None:
    house.reload(**{f"extra{number % 2}": {"rate": "1000/s", "per": "tenant"}})


WORKS: list[Callable[[House, int], None]] = [
    _check, _meet_new_keys, _settle, _refuse, _read_usage, _reload,
]  # fmt: skip
each_work = pytest.mark.parametrize("work", WORKS, ids=lambda work: work.__name__.strip("_"))


def check_limits_hold(house: House) -> None:
    """Other tenants get exactly the burst; an interrupted caller may keep a slot."""
    house.reload()  # without other limits: if they came and went too often, they are empty
    admitted = sum(house.ask({"tenant": "last"}).reason == "ok" for _ in range(2 * BURST))
    assert admitted == BURST
    house.reload()
    house.check_all_is_well(failures=None)


@each_work
def test_signal_time_limits_leave_the_engine_intact(
    house: House, work: Callable[[House, int], None]
) -> None:
    came = False

    def handle(*_: object) -> None:
        nonlocal came
        came = True
        raise Late

    def work_until_it_came() -> None:
        # A function: Python 3.13 leaves the jump of a loop out of the `with` around it.
        nonlocal number
        begun = time.monotonic()
        while not came and time.monotonic() < begun + 2:
            number += 1
            work(house, number)

    before = signal.signal(signal.SIGALRM, handle)
    number = 0
    try:
        for delay in range(RAISED):
            came = False
            with contextlib.suppress(Late):
                signal.setitimer(signal.ITIMER_REAL, 1e-6 * (20 + delay % 211))
                work_until_it_came()
    finally:
        signal.signal(signal.SIGALRM, before)
    check_limits_hold(house)


@pytest.fixture(autouse=True)
def no_foreign_gc_callbacks() -> Iterator[None]:
    """Hypothesis measures collections in a callback: an exception there is not the engine's."""
    callbacks = gc.callbacks[:]
    gc.callbacks.clear()
    yield
    gc.callbacks[:] = callbacks


@each_work
def test_asynchronous_thread_exceptions_leave_the_engine_intact(
    house: House, work: Callable[[House, int], None]
) -> None:
    """As libraries that limit the time of a function in a thread raise them."""
    rounds = RAISED
    begun = caught = number = 0

    def work_until_it_came() -> None:
        nonlocal number
        while caught < begun:
            number += 1
            work(house, number)

    def run() -> None:
        nonlocal begun, caught
        for begun in range(1, rounds + 1):
            try:
                work_until_it_came()
            except Late:
                caught = begun

    thread = threading.Thread(target=run)
    thread.start()
    tell: Any = ctypes.pythonapi.PyThreadState_SetAsyncExc
    for delay in range(1, rounds + 1):
        while begun < delay:
            time.sleep(1e-5)
        time.sleep(1e-5 * (delay % 17))
        tell(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(Late))
        told = time.monotonic()
        while caught < delay and time.monotonic() < told + 1:
            time.sleep(1e-5)
        caught = delay  # the exception is lost if it interrupts a callback of the collector
    thread.join(30)
    assert not thread.is_alive()
    check_limits_hold(house)
