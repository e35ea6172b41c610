"""Semantic rules of policy tests: times go forward, names exist, and expectations can fail.

A test that can never fail, or never pass, is reported before any test runs.
"""

from __future__ import annotations

from collections import defaultdict
from functools import cached_property
from typing import TYPE_CHECKING, Final

from ratectl.diagnostics import Diagnostic
from ratectl.policy import codes
from ratectl.policy.language.durations import Duration
from ratectl.policy.language.scopes import ancestry
from ratectl.policy.resolution.effective_limit import DEFAULT_UNIT
from ratectl.policy.resolution.resolver import Resolver
from ratectl.policy.yaml.text import quoted
from ratectl.runtime.closest import closest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from collections.abc import Set as AbstractSet

    from ratectl.diagnostics import Span
    from ratectl.policy.language.model import Exemption, PolicyTree
    from ratectl.policy.language.testcase import Effective, Expectation, Step, WrittenTest

__all__ = ["check_tests"]

_OF_REQUESTS: Final = ("cost", "times", "every", "expect")
"""Fields of a step that have no meaning if it sends no requests."""

_LATEST_NS: Final = 2**63 - 1
"""Latest time that is represented, in the year 2262."""


def check_tests(
    tree: PolicyTree, tests: Sequence[WrittenTest], broken: AbstractSet[str] = frozenset()
) -> list[Diagnostic]:
    """Return every semantic finding; scopes at or below ``broken`` ones cannot be judged."""
    findings: list[Diagnostic] = []
    first: dict[str, Span] = {}
    names = _Names(tree, broken)
    for written in tests:
        span = written.span("name")
        known = first.setdefault(written.test.name, span)
        if known is not span:
            findings.append(_named_twice(written.test.name, known, span))
        findings += _Checker(written, names).findings()
    return findings


def _named_twice(name: str, first: Span, span: Span) -> Diagnostic:
    message = f"two tests are called {quoted(name)}"
    notes = (f"first at {first}",)
    hint = "rename one: tests are chosen and reported by their names"
    return Diagnostic(codes.TEST_NAME, message, span, hint=hint, notes=notes)


class _Names:
    """Names of the scopes, limits and budgets of a tree."""

    def __init__(self, tree: PolicyTree, broken: AbstractSet[str]) -> None:
        self.tree = tree
        self.resolver = Resolver(tree)
        self._broken = broken
        self._exceptions: dict[str, list[Exemption]] = defaultdict(list)
        for exception in tree.exceptions:
            self._exceptions[exception.scope].append(exception)

    @cached_property
    def everywhere(self) -> set[str]:
        """Names of the limits of all scopes."""
        return {name for scope in self.tree.policies for name in self.at(scope, "limit")}

    @cached_property
    def units(self) -> set[str]:
        """Units that a limit or budget of any scope counts, and requests."""
        return {DEFAULT_UNIT, *self.tree.units()}

    def at(self, scope: str, what: str) -> set[str]:
        """Return the names in force at a scope; ``what``: ``limit``, ``budget`` or both."""
        resolved = self.resolver.at(scope)
        if resolved is None:
            return set()
        names: set[str] = set()
        if "limit" in what:  # for any request, at any time
            names.update(resolved.limits, resolved.problems)
            names.update(self.resolver.conditions.at(scope).conditions.by_limit)
            names.update(
                name
                for up in ancestry(resolved.scope)
                for exception in self._exceptions.get(up, ())
                for name in exception.limits
            )
        if "budget" in what:
            names.update(budget.name for _, budget in resolved.budgets)
            names.update(resolved.broken_budgets)
        return names

    def judge(self, scope: str) -> bool:
        """Return True if the policy in force at ``scope`` is known."""
        return bool(self.tree.policies) and self._broken.isdisjoint(ancestry(scope))


class _Checker:
    """Checker of one test."""

    def __init__(self, written: WrittenTest, names: _Names) -> None:
        self.written = written
        self.test = written.test
        self.names = names

    def findings(self) -> Iterator[Diagnostic]:
        steps = self.test.steps
        if all(step.expect is None and step.effective is None for step in steps):
            yield self._finding(
                codes.TEST_EMPTY,
                "name",
                "the test expects nothing, so it cannot fail",
                "add expect: {allowed: …} to a step",
            )
        yield from self._times()
        for number, step in enumerate(steps):
            yield from self._step(f"steps.{number}", step)

    def _finding(self, code: str, path: str, message: str, hint: str) -> Diagnostic:
        return Diagnostic(code, message, self.written.span(path), hint=hint)

    def _times(self) -> Iterator[Diagnostic]:
        before = self.test.start.ns
        for number, (step, at) in enumerate(
            zip(self.test.steps, self.test.times_ns(), strict=True)
        ):
            path = f"steps.{number}.at" if step.at is not None else f"steps.{number}"
            if at < before:
                since = Duration(before - self.test.start.ns)
                what = f"the last request of step {number} is sent" if number else "the test starts"
                yield self._finding(
                    codes.TEST_TIME,
                    path,
                    f"step {number + 1} goes back in time: {what} at {since}",
                    f"write {since} or later" if number else "write 0s or later, or change start",
                )
            before = at + step.last_ns
            if before > _LATEST_NS:
                yield self._finding(
                    codes.TEST_TIME, path, "the step ends after the year 2262", "end it earlier"
                )
                return

    def _step(self, path: str, step: Step) -> Iterator[Diagnostic]:
        if step.effective is not None:
            yield from self._no_requests(path, step)
            yield from self._effective(f"{path}.effective", step, step.effective)
        elif step.expect is not None:
            yield from self._counts(f"{path}.expect", step, step.expect)
        if self.names.judge(step.scope):
            yield from self._covered(path, step)
            yield from self._units(path, step)

    def _units(self, path: str, step: Step) -> Iterator[Diagnostic]:
        """Yield findings about units of the cost that no limit of the tree counts."""
        for unit in step.cost if isinstance(step.cost, dict) else ():
            if unit not in self.names.units:
                meant = closest(unit.lower(), sorted(self.names.units))
                yield self._finding(
                    codes.TEST_LIMIT,
                    f"{path}.cost",
                    f"no limit counts the unit {quoted(unit)}, so that cost is taken nowhere",
                    f"did you mean {meant}?" if meant else "give a limit this unit, or delete it",
                )

    def _no_requests(self, path: str, step: Step) -> Iterator[Diagnostic]:
        for field in _OF_REQUESTS:
            if field in step.model_fields_set:
                yield self._finding(
                    codes.TEST_MISFIT,
                    f"{path}.{field}",
                    f"a step with effective sends no requests, so it has no {field}",
                    "move it to a step of its own",
                )

    def _counts(self, path: str, step: Step, expect: Expectation) -> Iterator[Diagnostic]:
        if not expect.model_fields_set:
            yield self._finding(
                codes.TEST_EMPTY, path, "expect holds nothing", "write allowed: … in it"
            )
        for field in ("allowed", "shadow", "first_refused"):
            value = getattr(expect, field)
            if isinstance(value, int) and value > step.times:
                yield self._finding(
                    codes.TEST_MISFIT,
                    f"{path}.{field}",
                    f"{field} is {value}, but the step sends {step.times}",
                    f"write at most {step.times}, or raise times",
                )
        for field, why in _contradictions(step, expect):
            yield self._finding(codes.TEST_MISFIT, f"{path}.{field}", why, "change one of the two")

    def _covered(self, path: str, step: Step) -> Iterator[Diagnostic]:
        resolved = self.names.resolver.at(step.scope)
        if resolved is not None:
            if step.expect is not None and step.expect.limit is not None:
                path = f"{path}.expect.limit"
                yield from self._known(path, step.expect.limit, step.scope, "limit or budget")
        elif step.expect is None or step.expect.reason != "no_policy":
            meant = closest(step.scope.lower(), self.names.tree.policies)
            hint = "correct the scope, or expect reason: no_policy"
            yield self._finding(
                codes.TEST_SCOPE,
                f"{path}.scope",
                f"no policy covers {quoted(step.scope)}",
                f"did you mean {meant}? {hint}" if meant else hint,
            )

    def _known(self, path: str, name: str, scope: str, what: str) -> Iterator[Diagnostic]:
        names = self.names.at(scope, what)
        if name not in names:
            meant = closest(name.lower(), names)
            there = f"known here: {', '.join(sorted(names))}" if names else "there is none"
            yield self._finding(
                codes.TEST_LIMIT,
                path,
                f"{scope} has no {what} called {quoted(name)}",
                f"did you mean {meant}?" if meant else there,
            )

    def _effective(self, path: str, step: Step, expected: Effective) -> Iterator[Diagnostic]:
        if not any(getattr(expected, field) for field in type(expected).model_fields):
            yield self._finding(
                codes.TEST_EMPTY, path, "effective holds nothing", "write limits: … in it"
            )
        resolved = self.names.resolver.at(step.scope)
        judged = resolved is not None and self.names.judge(step.scope)
        for part in ("limits", "budgets"):
            for name, fields in getattr(expected, part).items():
                place = f"{path}.{part}.{name}"
                if not fields.model_fields_set - {"scope"}:
                    yield self._finding(
                        codes.TEST_EMPTY, place, f"{name} expects nothing", "write its rate: …"
                    )
                if judged:
                    yield from self._known(place, name, step.scope, part.removesuffix("s"))
        if judged:
            yield from self._whose(path, step, expected)
            yield from self._absent(path, expected)

    def _whose(self, path: str, step: Step, expected: Effective) -> Iterator[Diagnostic]:
        """Yield findings about budgets for which the expected scope is missing or wrong."""
        resolved = self.names.resolver.at(step.scope)
        for name, fields in expected.budgets.items():
            owners = [
                scope
                for scope, budget in (resolved.budgets if resolved else ())
                if budget.name == name
            ]
            if fields.scope is None and len(owners) > 1:
                yield self._finding(
                    codes.TEST_MISFIT,
                    f"{path}.budgets.{name}",
                    f"{' and '.join(owners)} both have a budget called {quoted(name)}",
                    f"name the scope: {{scope: {owners[-1]}, …}}",
                )
            elif fields.scope is not None and owners and fields.scope not in owners:
                yield self._finding(
                    codes.TEST_MISFIT,
                    f"{path}.budgets.{name}.scope",
                    f"{fields.scope} has no budget called {quoted(name)}",
                    f"write {' or '.join(owners)}",
                )

    def _absent(self, path: str, expected: Effective) -> Iterator[Diagnostic]:
        for number, name in enumerate(expected.absent):
            place = f"{path}.absent.{number}"
            if name in expected.limits:
                yield self._finding(
                    codes.TEST_MISFIT,
                    place,
                    f"{quoted(name)} cannot be absent and have values",
                    "delete one of the two",
                )
            elif name not in self.names.everywhere:
                meant = closest(name.lower(), self.names.everywhere)
                hint = "check its name: this could never fail"
                yield self._finding(
                    codes.TEST_LIMIT,
                    place,
                    f"no scope has a limit called {quoted(name)}",
                    f"did you mean {meant}? {hint}" if meant else hint,
                )


def _contradictions(step: Step, expect: Expectation) -> Iterator[tuple[str, str]]:
    """Yield fields that contradict another one, each with a reason."""
    allowed, first = expect.allowed, expect.first_refused
    all_pass = first == "none" or allowed == step.times
    if allowed is not None and first is not None:
        if first == "none":
            if allowed < step.times:
                yield "first_refused", f"only {allowed} of {step.times} are allowed: one is refused"
        elif allowed == step.times:
            yield "first_refused", f"all {allowed} requests are allowed: none is refused"
        elif allowed < first - 1 <= step.times:
            yield "first_refused", f"only {allowed} are allowed: a request before is refused"
    refusal = expect.reason in ("limited", "never")
    if all_pass and refusal:
        yield "reason", f"no request is refused, so the reason cannot be {expect.reason}"
    if expect.retry_after is not None:
        if expect.reason == "never":
            yield "retry_after", "if the reason is never, waiting does not help"
        elif expect.retry_after.ns and (all_pass or expect.reason in ("ok", "shadow", "no_policy")):
            yield "retry_after", "an allowed request does not have to wait"
