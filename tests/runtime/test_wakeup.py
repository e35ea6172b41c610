"""A wake-up or the time limit ends a wait, also while signals arrive."""

from __future__ import annotations

import signal
import threading
import time

from ratectl.runtime.wakeup import Wakeup


def test_time_limit_holds_though_a_signal_handler_returns_after_it() -> None:
    wakeup = Wakeup()
    rescue = threading.Timer(10, wakeup.set)
    rescue.start()
    # Here and not in a fixture: the time limit of tests is another handler of this signal.
    before = signal.signal(signal.SIGALRM, lambda *_: time.sleep(0.2))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        started = time.monotonic()
        assert not wakeup.wait(0.2)
        assert time.monotonic() - started < 5
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        rescue.cancel()


def test_wake_up_before_the_wait_ends_one_wait() -> None:
    wakeup = Wakeup()
    wakeup.set()
    wakeup.set()
    assert wakeup.wait(10)
    assert not wakeup.wait(0)


def test_wake_up_during_the_wait_ends_it() -> None:
    wakeup = Wakeup()
    threading.Timer(0.05, wakeup.set).start()
    assert wakeup.wait(10)


def test_negative_time_limit_does_not_wait() -> None:
    assert not Wakeup().wait(-1)


def test_many_threads_may_wake_one_waiter() -> None:
    wakeup = Wakeup()
    threads = [
        threading.Thread(target=lambda: [wakeup.set() for _ in range(2_000)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        wakeup.wait(0.001)
    for thread in threads:
        thread.join()
