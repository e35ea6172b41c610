"""Shadow evaluation: a candidate sees the same requests as the policies in force, and decides none.

It has its own buckets, which begin full. Requests that it would have decided differently are
counted.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from typing import TYPE_CHECKING, Final

from ratectl.agent.enforcement import Enforcement
from ratectl.agent.log import log
from ratectl.engine.attributes import readable
from ratectl.policy.resolution.algorithms.registry import holds_slots
from ratectl.records import BesideReport

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ratectl.agent.wall_clock import WallClock
    from ratectl.engine.api import Engine, PlanSet
    from ratectl.engine.cost import Cost
    from ratectl.engine.decision import Decision
    from ratectl.policy.language.model import PolicyTree
    from ratectl.records import Candidate

__all__ = ["ShadowEvaluator"]


_OUTSTANDING: Final = 16_384
"""Most decisions remembered until they are settled or released."""

_NAMED: Final = 50
"""Most limits in a report."""
_COUNTED: Final = 5_000
"""Most limits counted apart; further ones are counted together."""

_ScopeAndLimit = tuple[str, str]


class ShadowEvaluator:
    """Starts and stops the evaluation of candidates in shadow, and reports the differences."""

    def __init__(self, engine: Engine, wall: WallClock, make: Callable[[], Engine]) -> None:
        """``make`` returns an engine for a candidate, on the clock of ``engine``."""
        self._engine = engine
        self._wall = wall
        self._make = make
        self._trial: _Trial | None = None
        self.failed: tuple[str, str] | None = None
        """Rollout of a candidate whose evaluation had to be stopped, and why."""

    @property
    def rollout(self) -> str | None:
        """The rollout whose candidate is evaluated; None for none."""
        return None if self._trial is None else self._trial.candidate.rollout

    def begin(self, candidate: Candidate, tree: PolicyTree) -> None:
        """Start the evaluation of ``candidate``, whose policies are ``tree``.

        :raises BundleError: it cannot be evaluated; then none is.
        """
        self.end()
        engine = self._make()
        enforcement = Enforcement(engine, self._wall, central=_NotEvaluated())
        enforcement.enforce(tree, candidate.generation)
        trial = _Trial(candidate, engine, enforcement, slots=holds_slots(tree))
        self._trial = trial
        self._engine.mirror(trial)
        log.info("generation %d is evaluated in shadow", candidate.generation)

    def end(self) -> None:
        """Stop the evaluation, if there is one."""
        if self._trial is not None:
            self._engine.mirror(None)
            log.info("generation %d is no longer evaluated", self._trial.candidate.generation)
            self._trial = None

    def report(self) -> BesideReport | None:
        """Return the differences counted so far; None if no candidate is evaluated."""
        trial = self._trial
        if trial is None:
            return None
        try:
            trial.enforcement.keep_time()
        except Exception as error:  # noqa: BLE001  a candidate must not stop the agent's reports
            log.exception("cannot go on evaluating generation %d", trial.candidate.generation)
            self.end()
            self.failed = trial.candidate.rollout, f"an exception of it cannot begin: {error}"
            return None
        return trial.report()


class _NotEvaluated:
    """Central limits of a candidate: a server counts them, so that nothing is known of them."""

    def belong_to(self, environment: str | None) -> None:
        """Do nothing."""

    def follow(self, plans: PlanSet | None) -> None:
        """Do nothing."""

    def followed(self) -> None:
        """Do nothing."""


class _Trial:
    """Evaluation of one candidate, as a mirror of the engine in force."""

    def __init__(
        self, candidate: Candidate, engine: Engine, enforcement: Enforcement, *, slots: bool
    ) -> None:
        self.candidate = candidate
        self._slots = slots
        self.enforcement = enforcement
        self._engine = engine
        self._counting = threading.RLock()  # reentrant, as a finalizer may decide a request too
        self._requests = 0
        self._refused: Counter[_ScopeAndLimit] = Counter()
        """Requests that only the candidate refused."""
        self._allowed: Counter[_ScopeAndLimit] = Counter()
        """Requests that only the candidate would have allowed."""
        self._outstanding: dict[int, Decision] = {}
        """The candidate's decisions by ``id()`` of the real decision. An entry may outlive that
        one: a later decision with the same ``id()`` replaces the entry."""
        self._failed = False

    def decided(
        self, scope: str, attributes: Mapping[str, str], cost: Cost, now: int, decision: Decision
    ) -> bool:
        try:
            mine = self._decide(scope, attributes, cost, now)
        except Exception:  # noqa: BLE001  a candidate must not affect the real decision
            self._fail()
            self._outstanding.pop(id(decision), None)
            return False
        with self._counting:
            self._requests += 1
            if mine.allowed != decision.allowed:
                self._count(mine if decision.allowed else decision)
        key = id(decision)
        if not mine.allowed or not decision.allowed:
            # One of the two refused, so the service does not do this request: free the slots.
            mine.release()
            self._outstanding.pop(key, None)
            return False
        self._outstanding.pop(key, None)
        if len(self._outstanding) >= _OUTSTANDING:
            self._forget_oldest()
        self._outstanding[key] = mine
        return self._slots

    def _decide(self, scope: str, attributes: Mapping[str, str], cost: Cost, now: int) -> Decision:
        """Return the candidate's decision, which does not keep the mapping alive.

        A finalizer of the mapping may be what releases the real decision.
        """
        texts = readable(attributes)
        if type(texts) is dict:
            return self._engine.check(scope, texts.copy(), cost, now)
        decision = self._engine.check(scope, texts, cost, now)
        texts.let_go()
        return decision

    def released(self, decision: Decision) -> None:
        mine = self._outstanding.get(id(decision))
        if mine is not None:
            mine.release()

    def settled(self, decision: Decision, actual: Cost, now: int) -> None:
        mine = self._outstanding.get(id(decision))
        if mine is not None:
            self._engine.settle(mine, actual, now)

    def charged(self, scope: str, attributes: Mapping[str, str], cost: Cost, now: int) -> None:
        try:
            self._engine.charge(scope, attributes, cost, now)
        except Exception:  # noqa: BLE001  a candidate must not affect real requests
            self._fail()

    def reset(
        self,
        scope: str,
        limit: str,
        attributes: Mapping[str, str | None],
        *,
        budget: bool,
        now: int | None,
    ) -> None:
        try:
            self._engine.reset(scope, limit, attributes, budget=budget, now=now)
        except Exception:  # noqa: BLE001  a candidate must not affect real decisions
            self._fail()

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
                    (scope, limit, self._refused[scope, limit], self._allowed[scope, limit])
                    for (scope, limit), _ in differing.most_common(_NAMED)
                ],
            )

    def _count(self, refusal: Decision) -> None:
        """Count a difference for the limit that refused, of either generation."""
        counts = self._allowed if refusal.generation != self.candidate.generation else self._refused
        refused_by = (refusal.scope or "", refusal.limit or "")
        if len(counts) >= _COUNTED and refused_by not in counts:
            refused_by = ("", "")
        counts[refused_by] += 1

    def _forget_oldest(self) -> None:
        # Another thread may change the dictionary at the same time.
        with contextlib.suppress(StopIteration, KeyError, RuntimeError):
            del self._outstanding[next(iter(self._outstanding))]

    def _fail(self) -> None:
        if not self._failed:
            self._failed = True
            log.exception(
                "evaluating generation %d in shadow failed; real decisions are not affected",
                self.candidate.generation,
            )
