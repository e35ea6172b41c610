"""What tests found: results, failures, and the words for them."""

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
    """What became of the requests of a step."""

    allowed: int
    first_refused: int | None
    """Counted from 1."""
    shadow: int
    """Allowed, though a limit in shadow would have refused."""
    decisive: Decision
    """The first refusal, or the last decision where nothing was refused."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One expectation that does not hold, and where it is written."""

    field: str
    expected: str
    got: str
    span: Span
    source_line: str | None

    def __str__(self) -> str:
        return f"{self.span}: {self.field}: expected {self.expected}, got {self.got}"


@dataclass(frozen=True, slots=True)
class StepFailure:
    """A step of which something else was expected."""

    number: int
    """Counted from 1."""
    step: Step
    after: Duration
    """When it began, since the start of the test."""
    mismatches: tuple[Mismatch, ...]
    sent: Sent | None
    """None where the step asks what is in force."""
    resolved: Resolved | None
    """What was in force; None where no policy covers the scope."""
    limits: tuple[str, ...]
    """Names of the limits and budgets that the failure is about."""


@dataclass(frozen=True, slots=True)
class Result:
    """One test that was run."""

    name: str
    span: Span
    steps: int
    requests: int
    seconds: float
    """How long running it took, in real time."""
    failures: tuple[StepFailure, ...]

    @property
    def passed(self) -> bool:
        return not self.failures

    def __str__(self) -> str:
        if self.passed:
            return f"{self.name}: passed"
        found = [str(each) for failure in self.failures for each in failure.mismatches]
        return "\n  ".join([f"{self.name}: failed", *found])


@dataclass(frozen=True, slots=True)
class Report:
    """All tests that were run."""

    results: tuple[Result, ...]
    coverage: Coverage

    @property
    def passed(self) -> bool:
        """Whether all passed. False where none ran: nothing was shown then."""
        return bool(self.results) and all(result.passed for result in self.results)

    @property
    def failed(self) -> tuple[Result, ...]:
        """Those that did not pass."""
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
