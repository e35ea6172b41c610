"""A candidate in shadow: evaluated beside what is in force, on the same requests, with buckets of
its own that begin full. It decides nothing; where it would have decided otherwise is counted.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from typing import TYPE_CHECKING, Final

from ratectl.agent.enforcement import Enforcement
from ratectl.agent.log import log
from ratectl.policy.resolution.algorithms.registry import holds_slots
from ratectl.records import BesideReport

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ratectl.agent.wall_clock import WallClock
    from ratectl.engine.api import Engine
    from ratectl.engine.decision import Decision
    from ratectl.policy.language.model import PolicyTree
    from ratectl.records import Candidate

__all__ = ["Beside"]


_OUTSTANDING: Final = 16_384
"""Decisions remembered until they are settled or released."""

_NAMED: Final = 50
"""Limits in a report."""
_COUNTED: Final = 5_000

_By = tuple[str, str]


class Beside:
    """Starts and stops evaluating candidates beside an engine, and says what they would do."""

    def __init__(self, engine: Engine, wall: WallClock, make: Callable[[], Engine]) -> None:
        """``make`` makes engines for candidates, on the clock of ``engine``."""
        self._engine = engine
        self._wall = wall
        self._make = make
        self._trial: _Trial | None = None
        self.failed: tuple[str, str] | None = None
        """The rollout whose candidate could not be evaluated any more, and why."""

    @property
    def rollout(self) -> str | None:
        """The rollout whose candidate is evaluated; None for none."""
        return None if self._trial is None else self._trial.candidate.rollout

    def begin(self, candidate: Candidate, tree: PolicyTree) -> None:
        """Evaluate ``candidate``, which says ``tree``, from now on.

        :raises BundleError: it cannot be; nothing is evaluated then.
        """
        self.end()
        engine = self._make()
        enforcement = Enforcement(engine, self._wall)
        enforcement.enforce(tree, candidate.generation)
        trial = _Trial(candidate, engine, enforcement, slots=holds_slots(tree))
        self._trial = trial
        self._engine.mirror(trial)
        log.info("generation %d is evaluated beside what is in force", candidate.generation)

    def end(self) -> None:
        """Evaluate nothing any more."""
        if self._trial is not None:
            self._engine.mirror(None)
            log.info("generation %d is no longer evaluated", self._trial.candidate.generation)
            self._trial = None

    def report(self) -> BesideReport | None:
        """What there is to say; None where nothing is evaluated."""
        trial = self._trial
        if trial is None:
            return None
        try:
            trial.enforcement.keep_time()
        except Exception as error:  # noqa: BLE001  what is only tried must not keep reports back
            log.exception("generation %d is evaluated no more", trial.candidate.generation)
            self.end()
            self.failed = trial.candidate.rollout, f"an exception of it cannot begin: {error}"
            return None
        return trial.report()


class _Trial:
    """One candidate; the engine's mirror."""

    def __init__(
        self, candidate: Candidate, engine: Engine, enforcement: Enforcement, *, slots: bool
    ) -> None:
        self.candidate = candidate
        self._slots = slots
        self.enforcement = enforcement
        self._engine = engine
        self._counting = threading.RLock()  # a finalizer may decide as well
        self._requests = 0
        self._refused: Counter[_By] = Counter()
        self._allowed: Counter[_By] = Counter()
        self._outstanding: dict[int, Decision] = {}
        """By the identity of the decision that counts. An entry may outlive it; whatever has its
        identity next is decided here first, and takes its place."""
        self._failed = False

    def decided(
        self, scope: str, attributes: Mapping[str, str], cost: int, now: int, decision: Decision
    ) -> bool:
        try:
            mine = self._engine.check(scope, attributes, cost, now)
        except Exception:  # noqa: BLE001  it has been decided; what is only tried must not undo that
            self._fail()
            self._outstanding.pop(id(decision), None)
            return False
        with self._counting:
            self._requests += 1
            if mine.allowed != decision.allowed:
                self._count(mine if decision.allowed else decision)
        key = id(decision)
        if not mine.allowed or not decision.allowed:
            # The service does nothing of what this one alone would have let pass.
            mine.release()
            self._outstanding.pop(key, None)
            return False
        self._outstanding.pop(key, None)
        if len(self._outstanding) >= _OUTSTANDING:
            self._forget_oldest()
        self._outstanding[key] = mine
        return self._slots

    def released(self, decision: Decision) -> None:
        mine = self._outstanding.get(id(decision))
        if mine is not None:
            mine.release()

    def settled(self, decision: Decision, actual: int, now: int) -> None:
        mine = self._outstanding.get(id(decision))
        if mine is not None:
            self._engine.settle(mine, actual, now)

    def report(self) -> BesideReport:
        with self._counting:
            differing = self._refused + self._allowed
            return BesideReport(
                rollout=self.candidate.rollout,
                generation=self.candidate.generation,
                requests=self._requests,
                newly_refused=self._refused.total(),
                newly_allowed=self._allowed.total(),
                limits=[
                    (*by, self._refused[by], self._allowed[by])
                    for by, _ in differing.most_common(_NAMED)
                ],
            )

    def _count(self, refusal: Decision) -> None:
        """Count a difference, by whichever of the two refused."""
        counts = self._allowed if refusal.generation != self.candidate.generation else self._refused
        by = (refusal.scope or "", refusal.limit or "")
        if len(counts) >= _COUNTED and by not in counts:
            by = ("", "")
        counts[by] += 1

    def _forget_oldest(self) -> None:
        with contextlib.suppress(StopIteration, KeyError, RuntimeError):  # another thread was at it
            del self._outstanding[next(iter(self._outstanding))]

    def _fail(self) -> None:
        if not self._failed:
            self._failed = True
            log.exception(
                "evaluating generation %d failed: what is in force decides as ever",
                self.candidate.generation,
            )
