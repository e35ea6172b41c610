"""Results of tests: passed and failed tests, failed steps, and their texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ratectl.diagnostics import Span
    from ratectl.engine.decision import Decision
    from ratectl.policy.language.durations import Duration
    from ratectl.policy.language.testcase import Step
    from ratectl.policy.resolution.resolver import Resolved
    from ratectl.testing.coverage import Coverage

__all__ = ["Mismatch", "Report", "Result", "Sent", "StepFailure"]


@dataclass(frozen=True, slots=True)
class Sent:
    """Result of the requests of a step."""

    allowed: int
    first_refused: int | None
    """Number of the first refused request, counted from 1."""
    shadow: int
    """Allowed, although a limit in shadow would have refused."""
    decisive: Decision
    """The first refusal, or the last decision if nothing was refused."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Expectation that does not hold, with its place."""

    field: str
    expected: str
    got: str
    span: Span
    source_line: str | None

    def __str__(self) -> str:
        return f"{self.span}: {self.field}: expected {self.expected}, got {self.got}"


@dataclass(frozen=True, slots=True)
class StepFailure:
    """Step with a result that was not expected."""

    number: int
    """Counted from 1."""
    step: Step
    after: Duration
    """Time from the start of the test to the step."""
    mismatches: tuple[Mismatch, ...]
    sent: Sent | None
    """None if the step only compares the policy in force."""
    resolved: Resolved | None
    """Policy in force; None if no policy covers the scope."""
    limits: tuple[str, ...]
    """Names of the limits and budgets that the failure is about."""


@dataclass(frozen=True, slots=True)
class Result:
    """Result of one test."""

    name: str
    span: Span
    steps: int
    requests: int
    seconds: float
    """Real time that the test took, in seconds."""
    failures: tuple[StepFailure, ...]

    @property
    def passed(self) -> bool:
        return not self.failures

    def __str__(self) -> str:
        if self.passed:
            return f"{self.name}: passed"
        lines = [str(mismatch) for failure in self.failures for mismatch in failure.mismatches]
        return "\n  ".join([f"{self.name}: failed", *lines])


@dataclass(frozen=True, slots=True)
class Report:
    """Results of all tests that ran, and their coverage."""

    results: tuple[Result, ...]
    coverage: Coverage

    @property
    def passed(self) -> bool:
        """True if at least one test ran and all passed."""
        return bool(self.results) and all(result.passed for result in self.results)

    @property
    def failed(self) -> tuple[Result, ...]:
        """Results of the tests that failed."""
        return tuple(result for result in self.results if not result.passed)

    @property
    def requests(self) -> int:
        return sum(result.requests for result in self.results)

    def __str__(self) -> str:
        if not self.results:
            return "no test ran"
        if self.passed:
            return f"{len(self.results)} passed"
        return "\n".join(str(result) for result in self.failed)
