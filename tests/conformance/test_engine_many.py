"""`check_many` of very many requests: other threads run meanwhile, and nothing leaks."""

from __future__ import annotations

import gc
import signal
import threading
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import pytest

from engine.model import Limit
from engine.plans import by_scope, plan_set, rate
from engine.rules import SECOND, Slots

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conformance.engine_rig import Rig

T: Final = ("tenant",)
ACME: Final = {"tenant": "acme"}
MANY: Final = 100_000
MOST: Final = 10**9


@contextmanager
def beside(act: Callable[[], bool]) -> Iterator[None]:
    """Call ``act`` in another thread until it returns False or the block ends."""
    over = threading.Event()

    def work() -> None:
        while act() and not over.is_set():
            pass

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.usefixtures("eager_threads")
def test_other_threads_decide_meanwhile(rig: Rig) -> None:
    rig.publish(Limit("/", "l", rate(1, burst=MOST), T))
    with beside(lambda: rig.engine.check("/", ACME).allowed):
        decisions = rig.engine.check_many([("/", ACME)] * MANY, now=0)
    left = [decision.remaining or 0 for decision in decisions]
    assert sum(before - after > 1 for before, after in pairwise(left)) > 0


@pytest.mark.usefixtures("eager_threads")
def test_all_are_decided_as_of_one_reading_of_the_clock(rig: Rig) -> None:
    readings = iter(range(0, MANY * SECOND, SECOND))
    engine = rig.make(lambda: next(readings))
    engine.swap(plan_set(1, by_scope(Limit("/", "l", rate(1, burst=1), T))))
    decisions = engine.check_many([("/", ACME)] * 1_000)
    assert sum(decision.allowed for decision in decisions) == 1
    assert {decision.retry_after_ns for decision in decisions[1:]} == {SECOND}


@pytest.mark.usefixtures("eager_threads")
def test_an_interruption_keeps_no_slot(rig: Rig) -> None:
    rig.publish(Limit("/", "l", Slots(MOST, SECOND), T))

    def interrupt() -> bool:
        began = rig.left(tenant="acme") != MOST
        if began:
            signal.raise_signal(signal.SIGINT)
        return not began

    gc.disable()  # other code's callbacks of the collector would swallow the interruption
    try:
        with pytest.raises(KeyboardInterrupt), beside(interrupt):
            rig.engine.check_many([("/", ACME)] * MANY)
    finally:
        gc.enable()
    assert rig.left(tenant="acme") == MOST


@pytest.mark.usefixtures("eager_threads")
def test_nobody_meets_unfinished_lists(rig: Rig) -> None:
    rig.publish(Limit("/", "l", rate(1), T))
    requests = [("/", ACME)] * MANY

    def look() -> bool:
        for found in gc.get_objects(0):
            if type(found) is list and len(found) == MANY and found is not requests:
                repr(found[-1])
        return True

    with beside(look):
        assert len(rig.engine.check_many(requests)) == MANY
