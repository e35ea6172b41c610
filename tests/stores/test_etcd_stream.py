"""Inbox of a watch stream: order, time limits, and signals."""

from __future__ import annotations

import signal
import threading
import time

from ratectl.stores.etcd import messages as m
from ratectl.stores.etcd.stream import StreamEnded, _Inbox


def test_replies_arrive_in_order_and_a_wait_without_reply_returns_none() -> None:
    inbox = _Inbox()
    replies = [m.WatchResponse(), m.WatchResponse(), StreamEnded()]
    for reply in replies:
        inbox.put(reply)
    assert [inbox.get(10) for _ in replies] == replies
    started = time.monotonic()
    assert inbox.get(0.05) is None
    assert time.monotonic() - started >= 0.05


def test_cleared_inbox_is_empty() -> None:
    inbox = _Inbox()
    inbox.put(StreamEnded())
    inbox.clear()
    assert inbox.get(0.01) is None


def test_time_limit_holds_though_a_signal_handler_returns_after_it() -> None:
    """Otherwise a watch would never notice that its server is silent."""
    inbox = _Inbox()
    rescue = threading.Timer(10, inbox.put, [StreamEnded()])
    rescue.start()
    before = signal.signal(signal.SIGALRM, lambda *_: time.sleep(0.2))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        assert inbox.get(0.2) is None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        rescue.cancel()
