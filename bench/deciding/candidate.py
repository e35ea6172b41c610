"""One way to decide, as the body of a loop, and how long the loop takes.

Every candidate runs in the same loop, compiled for it: ``for key in keys: <call>``, with the names
that the call uses bound as locals. Figures are nanoseconds per decision *including* that loop;
nothing is subtracted, and the collector stays on. One thread is measured in CPU time, so that other
work on the machine costs less of the truth; several threads by the wall.
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
    """What a candidate is built for; the default admits one hot key all through a run.

    Token buckets hold ``most`` and gain ``per_day``; windows admit ``most`` a day.
    """

    most: int = 10**9
    per_day: int = 10**6
    keys: int = 10_000
    """Room for so many, where a store must be told."""

    @classmethod
    def many(cls, keys: int) -> Setting:
        """Refills so slowly that no key of a run is forgotten for being full again."""
        return cls(60_000, 100, keys)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to decide: an expression in which ``key`` is whose turn it is."""

    side: Side
    call: str
    """One decision about the hot key."""
    names: Mapping[str, Any]
    keyed: str = ""
    """One decision about ``key``, where it is another expression than ``call``."""
    admitted: str = "{}"
    """What is true if ``call`` admitted."""
    decisions: int = 1
    """Decisions that one ``call`` makes."""
    locked: bool = True
    """Whether its documentation lets threads share it, and something is locked for that."""
    asynchronous: bool = False
    rest: Callable[[], object] = field(default=lambda: None)
    """Waits, untimed, for what it may still do behind the loop's back."""

    def hot(self) -> Callable[[Iterable[str]], Any]:
        """The loop over one key."""
        return self._compiled(self.call)

    def over_keys(self) -> Callable[[Iterable[str]], Any]:
        """The loop over many keys."""
        return self._compiled(self.keyed or self.call)

    def counting(self) -> Callable[[Iterable[str]], int]:
        """The loop that also counts what was admitted."""
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
"""Makes a candidate; raises ImportError where what it needs is not installed."""


def spent(loop: Callable[[Iterable[str]], Any], keys: Iterable[str]) -> int:
    """Nanoseconds of CPU that a loop over ``keys`` takes, and what it has threads do meanwhile."""
    started = time.process_time_ns()
    loop(keys)
    return time.process_time_ns() - started


def in_threads(
    loop: Callable[[Iterable[str]], Any],
    parts: Sequence[Iterable[str]],
    raised: list[BaseException] | None = None,
) -> int:
    """Nanoseconds, by the wall, from the first thread's start to the last one's end.

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
    """How many calls take about so long; warms the loop up on the way."""
    calls = 64
    while (taken := spent(loop, repeat(KEY, calls))) < 2_000_000:
        calls *= 2
    return max(64, int(calls * milliseconds * 1e6 / taken))
