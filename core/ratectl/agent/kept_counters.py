"""Counters that outlive the process: an agent saves its buckets, and its next process goes on.

The next process first puts in force what this one had, as of the time of the save, and puts the
buckets back. Then exceptions, and a newer generation, follow as in a process that has been running
all the time. Nothing is decided before.
"""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from ratectl.agent.counter_file import CounterFile, Snapshot
from ratectl.agent.log import log
from ratectl.engine.keeping import Interrupted
from ratectl.runtime.cooperative import Pacer, cooperative

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ratectl.agent.counter_file import OpenSnapshot
    from ratectl.agent.enforcement import Enforcement
    from ratectl.agent.goal import Goal
    from ratectl.agent.last_good import LastGood
    from ratectl.agent.resets import StoreResets
    from ratectl.agent.state import AgentState
    from ratectl.agent.wall_clock import WallClock
    from ratectl.engine.api import Engine
    from ratectl.engine.keeping import KeptBuckets
    from ratectl.policy.language.model import PolicyTree

__all__ = ["KeptCounters"]

_SECONDS: Final = 10.0
"""Least time between two saves."""

_SHARE: Final = 20
"""Saves take one part in so many of a core: with very many buckets, they are rarer."""

_PATIENCE: Final = 6
"""Saves in a row that publications may interrupt before that is a problem."""


class KeptCounters:
    """Saves the buckets of an engine in a folder, and restores those of the process before."""

    def __init__(
        self,
        engine: Engine,
        enforcement: Enforcement,
        state: AgentState,
        wall: WallClock,
        folder: Path,
        secret: bytes,
    ) -> None:
        """``secret``: that of the engine's keys."""
        self._engine = engine
        self._enforcement = enforcement
        self._state = state
        self._wall = wall
        self._file = CounterFile(folder / "counters", secret)
        self._saving = threading.Lock()
        self._stopped = threading.Event()
        self._interrupted = 0
        self._started = False
        self._goal: Callable[[], Goal | None]
        self._resets: StoreResets

    def follow(self, goal: Callable[[], Goal | None], resets: StoreResets) -> None:
        """``goal`` returns what is in force."""
        self._goal = goal
        self._resets = resets

    # At the start -------------------------------------------------------------------------------

    def enforce(
        self, good: LastGood, tree: PolicyTree, find: Callable[[str], tuple[LastGood, PolicyTree]]
    ) -> None:
        """Put a generation from disk in force, with the buckets of the process before.

        ``find`` returns the generation on disk that has a bundle, or raises ``BundleError``.

        :raises BundleError: the generation must not be enforced.
        """
        restored = None
        try:
            with self._file.open() as kept:
                self._check(kept.snapshot, good)
                bundle = kept.snapshot.bundle
                restored, policies = (good, tree) if bundle == good.bundle else find(bundle)
                self._restore(kept, restored, policies)
        except FileNotFoundError:
            log.info("no counters of an earlier process")
        except Exception as error:  # noqa: BLE001  whatever is in the file, the agent starts
            log.debug("restoring counters", exc_info=error)
            restored = None
            self._tell(f"counters start at zero: {self._file.path} cannot be used: {error}")
        if restored is not good:
            self._enforcement.enforce(tree, good.generation, good.environment)
        self._started = True

    def start(self) -> None:
        """Begin without the counters of an earlier process if they are not restored by now."""
        if not self._started and self._file.path.exists():
            self._tell("counters start at zero: no generation on disk goes with them")
        self._started = True

    def _check(self, snapshot: Snapshot, good: LastGood) -> None:
        """:raises ValueError: the buckets are not of this agent, or from the future."""
        if snapshot.engine != self._engine.name:
            raise ValueError(
                f"its keys are those of the {snapshot.engine} engine, and this is the "
                f"{self._engine.name} engine"
            )
        if snapshot.environment != good.environment:
            raise ValueError(
                f"it is of the environment {snapshot.environment}, and not of {good.environment}"
            )
        ahead = snapshot.latest - self._wall.time_ns()
        if ahead > 0:
            raise ValueError(
                f"it is from the future, by {timedelta(microseconds=ahead // 1_000)}: the clock "
                "was set back"
            )

    def _restore(self, kept: OpenSnapshot, good: LastGood, tree: PolicyTree) -> None:
        snapshot = kept.snapshot
        self._enforcement.enforce(tree, good.generation, good.environment, snapshot.time)
        by, restored, strange = snapshot.offset - self._wall.ns, 0, 0
        for part in kept.parts():
            count = self._engine.restore(part, by)
            restored += count or 0
            strange += len(part.buckets) if count is None else 0
        self._enforcement.catch_up()
        self._resets.resume(snapshot.handled, snapshot.started)
        age = (self._wall.time_ns() - snapshot.time) / 1e9
        log.info("%d counters go on, which were saved %.1f s ago", restored, age)
        if strange:
            log.warning(
                "%d counters start at zero: their limits have other parameters now", strange
            )

    # Saves --------------------------------------------------------------------------------------

    def run(self) -> None:
        """Save from time to time until ``stop``. Never raises."""
        pause = _SECONDS
        while not self._stopped.wait(pause):
            began = time.thread_time()
            with cooperative(Pacer(sleep=self._stopped.wait)):
                self.save(last=False)
            pause = max(_SECONDS, _SHARE * (time.thread_time() - began))

    def stop(self) -> None:
        """Ask the thread to end."""
        self._stopped.set()

    def save(self, *, last: bool = True) -> None:
        """Save all buckets; tell of a problem, and end it later. Never raises.

        ``last``: the save at the end. Another one ends early if the agent is stopped.
        """
        with self._saving:
            try:
                self._save(last)
            except Interrupted:
                self._interrupted += 1
                if self._interrupted >= _PATIENCE:
                    self._tell("counters are not saved: the limits change all the time")
            except Exception as error:  # noqa: BLE001  the thread must survive any error
                log.debug("saving counters", exc_info=error)
                self._tell(f"counters are not saved in {self._file.path}: {error}")
            else:
                self._interrupted = 0

    def _save(self, last: bool) -> None:
        if not self._started:
            return  # the file is still that of the process before
        now = self._enforcement.keep_time()
        goal = self._goal()
        if goal is None:
            return
        handled, started = self._resets.reached
        snapshot = Snapshot(
            engine=self._engine.name,
            environment=goal.environment,
            generation=goal.generation,
            bundle=goal.bundle,
            time=now,
            latest=max(now, self._wall.floor),
            offset=self._wall.time_ns() - self._wall.monotonic_ns(),
            started=started,
            handled=handled,
        )
        self._file.write(self._parts(goal, last), snapshot)
        self._tell(None)

    def _parts(self, goal: Goal, last: bool) -> Iterator[KeptBuckets]:
        for part in self._engine.kept():
            if self._stopped.is_set() and not last:
                raise Interrupted
            yield part
        after = self._goal()
        adopted = after is None or after.content != goal.content
        if adopted or self._engine.generation != goal.generation:  # it may be on its way
            raise Interrupted

    def _tell(self, problem: str | None) -> None:
        self._state.problem("counters", problem)
