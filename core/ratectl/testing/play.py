"""Player of tests: sends the requests in virtual time to the engine that agents run."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ratectl.engine import open_engine
from ratectl.policy.language.durations import Duration
from ratectl.policy.loading.loader import source_line
from ratectl.testing.expect import budgets_of, of_effective, of_requests
from ratectl.testing.results import Mismatch, Result, Sent, StepFailure

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ratectl.policy.language.testcase import Effective, Step, WrittenTest
    from ratectl.policy.resolution.resolver import Resolved
    from ratectl.testing.coverage import Meter
    from ratectl.testing.expect import Difference
    from ratectl.testing.world import World

__all__ = ["play"]


def play(
    written: WrittenTest, world: World, meter: Meter, texts: Mapping[str, Sequence[str]]
) -> Result:
    """Run one test from full buckets; ``texts`` are the lines of its file."""
    began = time.perf_counter()
    test = written.test
    player = _Player(world, meter, test.start.ns)
    failures = []
    requests = 0
    for index, (step, at) in enumerate(zip(test.steps, test.times_ns(), strict=True)):
        outcome = _Outcome(*player.step(step, at))
        requests += 0 if outcome.sent is None else step.times
        if outcome.differences:
            path = f"steps.{index}.{'expect' if step.effective is None else 'effective'}"
            mismatches = [_mismatch(each, path, written, texts) for each in outcome.differences]
            mismatches.sort(key=lambda mismatch: mismatch.span)
            failures.append(
                StepFailure(
                    index + 1,
                    step,
                    Duration(at - test.start.ns),
                    tuple(mismatches),
                    outcome.sent,
                    outcome.resolved,
                    tuple(_about(step, outcome)),
                )
            )
    player.finish()
    seconds = time.perf_counter() - began
    return Result(
        test.name, written.span("name"), len(test.steps), requests, seconds, tuple(failures)
    )


class _Outcome:
    """Result of a step."""

    def __init__(
        self, differences: Iterable[Difference], sent: Sent | None, resolved: Resolved | None
    ) -> None:
        self.differences = list(differences)
        self.sent = sent
        self.resolved = resolved


class _Player:
    """Engine in virtual time, with the same wall clock: quotas see the days of the test."""

    def __init__(self, world: World, meter: Meter, start: int) -> None:
        self._world = world
        self._meter = meter
        self._now = start
        self._engine = open_engine(lambda: self._now)
        self._ends: int | None = None
        meter.overrides(world.overrides)
        self._turn(start)

    def step(
        self, step: Step, at: int
    ) -> tuple[Iterable[Difference], Sent | None, Resolved | None]:
        """Run a step; return differences, results of its requests, and the policy in force."""
        world, scope, attributes = self._world, step.scope, step.attributes
        resolved = world.effective(scope, attributes, at)
        self._meter.asked(resolved.scope if resolved else None, world.applied(scope, attributes))
        if step.effective is not None:
            self._compared(step.effective, resolved)
            return of_effective(step.effective, resolved), None, resolved
        sent = self._send(step, at)
        differences = of_requests(step.expect, sent) if step.expect else ()
        return differences, sent, resolved

    def finish(self) -> None:
        """Record the usage of the engine for the coverage."""
        self._meter.used(self._engine.usage())

    def _turn(self, now: int) -> None:
        """Put the plans of ``now`` into force, after recording the usage under the plans before."""
        self.finish()
        plans = self._world.plans(now)
        self._meter.plans(plans)
        self._engine.swap(plans, now)
        self._ends = self._world.ends(now)

    def _send(self, step: Step, at: int) -> Sent:
        check, scope, attributes, cost = self._engine.check, step.scope, step.attributes, step.cost
        gap = step.every.ns if step.every else 0
        allowed = shadow = 0
        first: int | None = None
        refusal = None
        for number in range(step.times):
            now = at + number * gap
            while self._ends is not None and now >= self._ends:
                self._turn(self._ends)
            decision = check(scope, attributes, cost, now)
            if decision.allowed:
                allowed += 1
                if decision.reason == "shadow":
                    shadow += 1
            elif refusal is None:
                first, refusal = number + 1, decision
        # Not "or": the truth value of a refusal is False.
        return Sent(allowed, first, shadow, decision if refusal is None else refusal)

    def _compared(self, effective: Effective, resolved: Resolved | None) -> None:
        assert resolved is not None, "such a step is not valid"
        for name in effective.limits:
            if name in resolved.limits:
                self._meter.compared(resolved.scope, name, budget=False)
        for name, fields in effective.budgets.items():
            for owner, _ in budgets_of(resolved, name, fields.scope):
                self._meter.compared(owner, name, budget=True)


def _mismatch(
    difference: Difference, path: str, written: WrittenTest, texts: Mapping[str, Sequence[str]]
) -> Mismatch:
    span = written.span(f"{path}.{difference.path}")
    return Mismatch(
        difference.path, difference.expected, difference.got, span, source_line(span, texts)
    )


def _about(step: Step, outcome: _Outcome) -> Iterable[str]:
    """Return the limits that a failure is about: the one that decided, and the expected ones."""
    names: list[str | None] = []
    if outcome.sent is not None:
        names = [outcome.sent.decisive.limit, step.expect.limit if step.expect else None]
    for difference in outcome.differences:
        part, _, rest = difference.path.partition(".")
        if part in ("limits", "budgets"):
            names.append(rest.partition(".")[0])
        elif part == "absent" and step.effective is not None:
            names.append(step.effective.absent[int(rest)])
    return dict.fromkeys(name for name in names if name is not None)
