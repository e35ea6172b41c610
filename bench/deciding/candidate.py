"""Candidates: ways to decide, as the body of a loop, and measurements of the loop.

Every candidate runs in the same loop, compiled for it: ``for key in keys: <call>``, with the names
that the call uses bound as locals. Figures are nanoseconds per decision *including* that loop;
nothing is subtracted, and the collector stays on. One thread is measured in CPU time, which other
work on the machine disturbs less; several threads in wall time.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from dataclasses import dataclass, field
from itertools import repeat
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

__all__ = ["KEY", "Builder", "Candidate", "Setting", "Side", "calls_for", "in_threads", "spent"]

KEY = "client-0000007"
"""The one hot key."""

Side = Literal["floor", "c", "pure", "peer"]


@dataclass(frozen=True, slots=True)
class Setting:
    """Parameters of a candidate; the default admits one hot key during a whole run.

    Token buckets hold ``most`` and refill ``per_day``; windows admit ``most`` a day.
    """

    most: int = 10**9
    per_day: int = 10**6
    keys: int = 10_000
    """Number of keys, for stores that need a size."""

    @classmethod
    def many(cls, keys: int) -> Setting:
        """Return a setting with slow refill: no key of a run is full again and forgotten."""
        return cls(60_000, 100, keys)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to decide: an expression of ``key``."""

    side: Side
    call: str
    """Expression that decides for the hot key."""
    names: Mapping[str, Any]
    keyed: str = ""
    """Expression that decides for ``key``, if it differs from ``call``."""
    admitted: str = "{}"
    """Expression that is true if ``call`` admitted."""
    decisions: int = 1
    """Decisions that one ``call`` makes."""
    locked: bool = True
    """True if its documentation allows threads to share it, and it locks for that."""
    asynchronous: bool = False
    rest: Callable[[], object] = field(default=lambda: None)
    """Function that waits, untimed, for the candidate's background work."""

    def hot(self) -> Callable[[Iterable[str]], Any]:
        """Return the loop over one key."""
        return self._compiled(self.call)

    def over_keys(self) -> Callable[[Iterable[str]], Any]:
        """Return the loop over many keys."""
        return self._compiled(self.keyed or self.call)

    def counting(self) -> Callable[[Iterable[str]], int]:
        """Return the loop that also counts admitted requests."""
        test = self.admitted.format(self.keyed or self.call)
        return self._compiled(f"n += 1 if {test} else 0", "n = 0", "return n")

    def _compiled(
        self, body: str, before: str = "pass", after: str = "pass"
    ) -> Callable[[Iterable[str]], Any]:
        bound = ", ".join(["keys", *(f"{name}={name}" for name in self.names)])
        source = f"def loop({bound}):\n {before}\n for key in keys:\n  {body}\n {after}\n"
        scope: dict[str, Any] = dict(self.names)
        if not self.asynchronous:
            exec(source, scope)
            return scope["loop"]  # type: ignore[no-any-return]
        exec(f"async {source}", scope)
        run = asyncio.new_event_loop().run_until_complete
        return lambda keys: run(scope["loop"](keys))


Builder: TypeAlias = "Callable[[Setting], Candidate]"
"""Function that makes a candidate; raises ImportError if a package is not installed."""


def spent(loop: Callable[[Iterable[str]], Any], keys: Iterable[str]) -> int:
    """Return the CPU nanoseconds of a loop over ``keys``, with its background threads."""
    started = time.process_time_ns()
    loop(keys)
    return time.process_time_ns() - started


def in_threads(
    loop: Callable[[Iterable[str]], Any],
    parts: Sequence[Iterable[str]],
    raised: list[BaseException] | None = None,
) -> int:
    """Return the wall nanoseconds from the start of the first thread to the end of the last.

    A thread in which the loop raises goes on with its next key.
    """
    errors = [] if raised is None else raised
    gate = threading.Barrier(len(parts))
    stamps: list[int] = []

    def work(keys: Iterator[str]) -> None:
        gate.wait()
        stamps.append(time.perf_counter_ns())
        while not _ends(loop, keys, errors):
            pass
        stamps.append(time.perf_counter_ns())

    threads = [threading.Thread(target=work, args=(iter(part),)) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if raised is None and errors:
        print(f"  ({len(errors)} decisions raised, first {errors[0]!r})", file=sys.stderr)
    return max(stamps) - min(stamps)


def _ends(
    loop: Callable[[Iterable[str]], Any], keys: Iterator[str], errors: list[BaseException]
) -> bool:
    try:
        loop(keys)
    except Exception as error:  # noqa: BLE001  whatever another library raises
        errors.append(error)
        return False
    return True


def calls_for(loop: Callable[[Iterable[str]], Any], milliseconds: float) -> int:
    """Return the number of calls that take about that long; also warms the loop up."""
    calls = 64
    while (taken := spent(loop, repeat(KEY, calls))) < 2_000_000:
        calls *= 2
    return max(64, int(calls * milliseconds * 1e6 / taken))
