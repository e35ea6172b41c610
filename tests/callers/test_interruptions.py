"""Decisions in the middle of decisions: in finalizers, callbacks and signal handlers."""

from __future__ import annotations

import gc
import os
import signal
import threading
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from callers.house import BURST, ROUNDS, House

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Act = Callable[[House], Any]

TENANTS = [{"tenant": str(number)} for number in range(50)]


def decide(house: House) -> None:
    house.ask()


def decide_and_release(house: House) -> None:
    house.engine.check("/a", {"tenant": "other"}).release()


def peek(house: House) -> None:
    decision = house.engine.check("/a", {"tenant": "t"}, 0)
    assert (decision.remaining is None) == (decision.reason == "error")


def settle(house: House) -> None:
    house.engine.check("/a", {"tenant": "other"}).settle(2)


def meet_a_new_key(house: House) -> None:
    house.engine.check("/a", {"tenant": str(id(object()))}).release()


def release_what_others_took(house: House) -> None:
    if house.admitted and not house.holds:
        house.admitted[-1].release()


def reload(house: House) -> None:
    house.reload(extra={"rate": "1000/s", "per": "tenant"})


def fork(house: House) -> None:
    """Decide in a forked child, for a tenant that no other code uses."""
    child = os.fork()
    if not child:
        code = 1
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(20)
            # A signal handler may have run while this thread was changing the engine.
            reason = house.engine.check("/a", {"tenant": "child"}).reason
            code = reason not in ("ok", "error", house.when_full)
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


ACTS: list[Act] = [
    decide, decide_and_release, peek, settle, meet_a_new_key, release_what_others_took,
]  # fmt: skip
each_act = pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)


class Garbage:
    """Part of a reference cycle that calls a function when it is collected."""

    def __init__(self, act: Callable[[], Any]) -> None:
        self.me = self
        self.act = act

    def __del__(self) -> None:
        self.act()


@contextmanager
def collecting_all_the_time() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(3, 2, 2)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _busy(house: House, number: int) -> None:
    """Do the work to interrupt: decisions for old and new keys, and releases."""
    decision = house.ask(TENANTS[number % 50])
    if decision.limit is not None and house.admitted and house.admitted[-1] is decision:
        house.admitted.pop()
    if number % 7 == 0:
        decision.settle(number % 3)
    decision.release()


@each_act
def test_decisions_in_finalizers(house: House, act: Act) -> None:
    ran = 0

    def finalize() -> None:
        nonlocal ran
        ran += 1
        act(house)

    with collecting_all_the_time():
        for number in range(ROUNDS):
            Garbage(finalize)
            _busy(house, number)
            if number % 50 == 0:
                house.reload()
    gc.collect()
    assert ran == ROUNDS
    house.check_all_is_well()


@each_act
def test_decisions_in_weak_reference_callbacks(house: House, act: Act) -> None:
    kept: list[Any] = []
    with collecting_all_the_time():
        for number in range(ROUNDS):
            garbage = Garbage(lambda: None)
            kept.append(weakref.ref(garbage, lambda _: act(house)))
            del garbage
            _busy(house, number)
    gc.collect()
    assert not any(ref() for ref in kept)
    house.check_all_is_well()


@each_act
def test_decisions_in_collector_callbacks(house: House, act: Act) -> None:
    mine = threading.get_ident()

    def callback(phase: str, info: Any) -> None:
        if threading.get_ident() == mine:  # threads of other tests run the collector, too
            act(house)

    gc.callbacks.append(callback)
    try:
        with collecting_all_the_time():
            for number in range(ROUNDS):
                Garbage(lambda: None)
                _busy(house, number)
    finally:
        gc.callbacks.remove(callback)
    house.check_all_is_well()


class Request:
    """A request that releases its slot when it is collected."""

    def __init__(self, house: House, number: int) -> None:
        self.me = self
        self.ticket = house.engine.check("/a", {"tenant": str(number % 10)})

    def __del__(self) -> None:
        self.ticket.release()


def test_requests_that_release_their_slots_when_they_are_collected(house: House) -> None:
    for number in range(10 * ROUNDS):
        Request(house, number)
    gc.collect()
    if house.holds:
        assert [house.left(str(number)) for number in range(10)] == [BURST] * 10
    house.check_all_is_well()


@contextmanager
def interrupted(handler: Callable[[], Any], seconds: float = 2e-4) -> Iterator[list[int]]:
    """Run ``handler`` by a signal in the middle of the body, thousands of times a second."""
    ran, ended = [0], False

    def handle(*_: object) -> None:
        ran[0] += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        try:
            handler()
        finally:
            again()

    def again() -> None:
        # CPython 3.11 may delay a signal that arrives at a bad moment until another one arrives.
        if not ended:  # a late handler must not start it again
            signal.setitimer(signal.ITIMER_REAL, seconds, 0.1)

    before = signal.signal(signal.SIGALRM, handle)
    again()
    try:
        yield ran
    finally:
        ended = True
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@each_act
def test_decisions_in_signal_handlers(house: House, act: Act) -> None:
    with interrupted(lambda: act(house)) as ran:
        number = 0
        while ran[0] < ROUNDS:
            number += 1
            _busy(house, number)
            if number % 500 == 0:
                house.reload()
    # A handler that runs while this thread changes the engine is answered by on_error.
    assert all("this very thread" in str(failure) for failure in house.failures)
    print(f"{ran[0]} handlers, {len(house.failures)} of their decisions left to on_error")
    house.check_all_is_well(failures=None)


@pytest.mark.parametrize("act", [reload, fork], ids=lambda act: act.__name__)
@pytest.mark.parametrize("by", ["finalizer", "signal", "mapping"])
def test_reloads_and_forks_in_the_middle_of_a_decision(house: House, act: Act, by: str) -> None:
    if by == "signal":
        with interrupted(lambda: act(house), 1e-3) as ran:
            number = 0
            while ran[0] < 20:
                number += 1
                _busy(house, number)
    elif by == "finalizer":
        with collecting_all_the_time():
            for number in range(20):
                Garbage(lambda: act(house))
                _busy(house, number)
        gc.collect()
    else:
        for _ in range(20):
            house.engine.check("/a", Acting(lambda: act(house))).release()
    house.check_all_is_well(failures=None)


class Acting:
    """A mapping that calls a function when it is read."""

    def __init__(self, act: Callable[[], Any]) -> None:
        self._act = act

    def get(self, name: str) -> str:
        self._act()
        return "other"


def test_finalizer_may_wait_for_a_deciding_thread(house: House) -> None:
    """The host's lock is held by a deciding thread, and requested by a finalizer."""
    logging, stop = threading.RLock(), threading.Event()

    def log() -> None:
        while not stop.is_set():
            with logging:
                house.engine.check("/a", {"tenant": "other"}).release()

    def finalize() -> None:
        with logging:
            pass

    other = threading.Thread(target=log)
    other.start()
    try:
        with collecting_all_the_time():
            for number in range(ROUNDS):
                Garbage(finalize)
                _busy(house, number)
        gc.collect()
    finally:
        stop.set()
        other.join(20)
    assert not other.is_alive()
    house.check_all_is_well()
