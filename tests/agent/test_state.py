"""Status of an agent: its texts, its changes, and threads that wait for them."""

from __future__ import annotations

import contextlib
import signal
import threading
import time

from ratectl.agent.state import AgentState


def test_unchanged_status_wakes_and_logs_nothing():
    state = AgentState()
    state.update(generation=3, panic=())
    seen = state.now
    state.update(generation=3, panic=())
    assert not state.problem("generation", None, rejected=None)
    assert state.wait_for_change(seen, 0) is seen


def test_wake_wakes_waiters_without_a_change():
    state = AgentState()
    seen = state.now
    state.wake()
    assert state.wait_for_change(seen, 0) is not seen
    assert state.now == seen


def test_status_with_a_problem_still_says_that_on_error_answers():
    state = AgentState()
    state.problem("store", "it is away")
    assert "it is away; waiting for the store's first answer: on_error" in str(state.now.error)
    assert state.now.known_problems == "it is away"
    state.problem("store", None, generation=1)
    assert state.now.error is None


def test_status_says_that_last_good_is_enforced_until_the_store_answers():
    """The store may have had newer generations for hours."""
    state = AgentState()
    state.update(generation=3, source="last-good")
    said = "waiting for the store's first answer: generation 3 is enforced from disk until then"
    assert state.now.error == said
    assert state.now.known_problems is None
    state.problem("store", "it is away")
    assert state.now.error == "it is away"
    state.problem("store", None, connected=True)
    assert state.now.error is None


def test_waiter_is_woken_by_its_condition():
    state = AgentState()
    reached: list[bool] = []
    waiter = threading.Thread(
        target=lambda: reached.append(state.wait_for_generation(2, None)), daemon=True
    )
    waiter.start()
    state.update(generation=1)
    state.update(generation=2)
    waiter.join(10)
    assert reached == [True]


class Late(BaseException):
    """Raised by a time limit."""


def test_time_limit_exception_in_a_waiter_leaves_no_lock_held():
    """With a held lock the agent could no longer change its state, and would follow nothing."""

    def handle(*_: object) -> None:
        raise Late

    def wait_for_ever() -> None:
        # A function: Python 3.13 leaves the jump of a loop out of the `with` around it.
        while True:
            state.wait_for_generation(9, 30e-6)

    state = AgentState()
    before = signal.signal(signal.SIGALRM, handle)
    try:
        for number in range(4_000):
            with contextlib.suppress(Late):
                signal.setitimer(signal.ITIMER_REAL, 1e-6 * (15 + number % 97))
                wait_for_ever()
    finally:
        signal.signal(signal.SIGALRM, before)
    other = threading.Thread(target=lambda: state.update(generation=9), daemon=True)
    other.start()
    other.join(10)
    assert state.wait_for_generation(9, 0)


def test_signal_at_the_timeout_does_not_make_the_wait_endless():
    """CPython 3.11 gives ``SimpleQueue`` a negative remaining time, which means "for ever"."""
    over = time.monotonic() + 15

    def handle(*_: object) -> None:
        if time.monotonic() > over:
            raise Late

    state = AgentState()
    before = signal.signal(signal.SIGALRM, handle)
    try:
        signal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)
        for _ in range(2_000):
            assert not state.wait_for_generation(9, 3e-4)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
