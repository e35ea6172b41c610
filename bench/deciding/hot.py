"""One hot key: all candidates in one process, in turn, round by round.

A slice of each candidate's loop runs in every round, and each round begins with another candidate,
so that other work on the machine disturbs all of them alike. Ratios are computed within rounds.
"""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from itertools import repeat
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.deciding.candidate import KEY, Setting, calls_for, in_threads, spent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from bench.deciding.candidate import Builder, Candidate
    from bench.deciding.results import Rounds

__all__ = ["MOST", "THREADS", "Missed", "alone", "built", "missed", "threaded"]

THREADS = 4
_SLICE_MS = 30.0
_THREADED_MS = 25.0
MOST, _NEW_KEYS = 200, 400


class Missed(NamedTuple):
    """Error of a limit under threads."""

    by: int
    """Above 0: admitted above the limit; below 0: refused below it."""
    raised: int
    """Number of decisions, and of the limiter's own threads, that raised."""


def built(builders: Mapping[str, Builder], setting: Setting) -> dict[str, Candidate]:
    """Return the candidates that can be built here; print the others."""
    candidates: dict[str, Candidate] = {}
    for name, build in builders.items():
        try:
            candidates[name] = build(setting)
        except ImportError as missing:
            print(f"  (without {name}: {missing})")
    return candidates


def alone(candidates: Mapping[str, Candidate], rounds: int) -> Rounds:
    """Measure one thread."""
    loops = {name: each.hot() for name, each in candidates.items()}
    return _in_turn(candidates, loops, rounds, _SLICE_MS, spent)


def threaded(candidates: Mapping[str, Candidate], rounds: int) -> Rounds:
    """Measure four threads on one key: wall time from the first start to the last end."""
    shared = {name: each for name, each in candidates.items() if not each.asynchronous}
    loops = {name: each.hot() for name, each in shared.items()}

    def run(loop: Callable[[Iterable[str]], object], keys: repeat[str]) -> int:
        calls = keys.__length_hint__() // THREADS
        return in_threads(loop, [repeat(KEY, calls) for _ in range(THREADS)])

    return _in_turn(shared, loops, rounds, THREADS * _THREADED_MS, run)


def _in_turn(
    candidates: Mapping[str, Candidate],
    loops: Mapping[str, Callable[[Iterable[str]], object]],
    rounds: int,
    milliseconds: float,
    run: Callable[[Callable[[Iterable[str]], object], repeat[str]], int],
) -> Rounds:
    calls = {name: calls_for(loop, milliseconds) for name, loop in loops.items()}
    taken: Rounds = {name: [] for name in loops}
    names = list(loops)
    for turn in range(rounds):
        first = turn * len(names) // rounds
        for name in names[first:] + names[:first]:
            each = candidates[name]
            each.rest()
            took = run(loops[name], repeat(KEY, calls[name]))
            taken[name].append(took / (calls[name] * each.decisions))
    for each in candidates.values():
        each.rest()
    return taken


def missed(build: Builder) -> Missed:
    """Measure the error of a limit under threads switched every microsecond; the worst key.

    Each key is new, and gets twice as many requests as its limit.
    """
    each = build(Setting(MOST, per_day=100))
    count = each.counting()
    by: list[int] = []
    with _hurried() as raised:
        for number in range(_NEW_KEYS):
            admitted: list[int] = []
            parts = [repeat(f"{KEY}-{number}", 2 * MOST // THREADS) for _ in range(THREADS)]
            in_threads(lambda keys, to=admitted: to.append(count(keys)), parts, raised)
            by.append(sum(admitted) - MOST)
        each.rest()
    return Missed(max(by, key=lambda one: (one > 0, abs(one))), len(raised))


@contextmanager
def _hurried() -> Iterator[list[BaseException]]:
    """Switch threads as often as possible; yield a list of errors in background threads."""
    raised: list[BaseException] = []

    def note(error: Any) -> None:
        raised.append(error.exc_value)

    before = sys.getswitchinterval(), threading.excepthook, sys.unraisablehook
    threading.excepthook = sys.unraisablehook = note
    sys.setswitchinterval(1e-6)
    try:
        yield raised
    finally:
        sys.setswitchinterval(before[0])
        threading.excepthook, sys.unraisablehook = before[1:]
