"""Processes that ask their agents for one limit, at random instants."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from bench.cluster.processes import Answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.cluster.requests import Requests
    from ratectl import Agent

__all__ = ["ask_by_server", "ask_by_wallet"]

_THREADS: Final = 48
"""Threads that wait for a server. An agent has 64 connections."""


def ask_by_wallet(requests: Requests, agent: Agent, number: int, start: int) -> list[Answer]:
    """Ask for a limit with ``across: cluster``, or without ``across``."""
    answers: list[Answer] = []

    def ask(at: int) -> None:
        # The decision uses this very reading of the clock, which all processes share.
        allowed = agent._engine.check("/", {}, 1, at).allowed
        answers.append(Answer(at, number, allowed, time.monotonic_ns() - at))

    _ask_all(ask, requests, number, start)
    return answers


def ask_by_server(requests: Requests, agent: Agent, number: int, start: int) -> list[Answer]:
    """Ask for a limit with ``across: redis``, in threads, so that requests do not wait in turn."""
    answers: list[Answer] = []

    def ask() -> None:
        at = time.monotonic_ns()
        allowed = agent.check_blocking("/", {}).allowed
        answers.append(Answer(at, number, allowed, time.monotonic_ns() - at))

    with ThreadPoolExecutor(_THREADS) as threads:
        _ask_all(lambda _: threads.submit(ask), requests, number, start)
    return answers


def _ask_all(ask: Callable[[int], object], requests: Requests, number: int, start: int) -> None:
    for after in requests.instants(number):
        wait = start + after - time.monotonic_ns()
        if wait > 0:
            time.sleep(wait / 1e9)
        ask(time.monotonic_ns())
