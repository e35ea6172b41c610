"""Helpers to run tests with policies as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratectl.testing import load_suite

if TYPE_CHECKING:
    from ratectl.testing import Report, Result, Suite

HEAD = "---\napiVersion: ratectl/v1\n"


def policy(scope: str, body: str) -> str:
    """Return a document of kind Policy."""
    return f"{HEAD}scope: {scope}\n{body}\n"


def case(name: str, *steps: str, start: str = "") -> str:
    """Return a document of kind PolicyTest."""
    begins = f"start: {start}\n" if start else ""
    return f"{HEAD}kind: PolicyTest\nname: {name}\n{begins}steps:\n" + "".join(
        f"  - {step}\n" for step in steps
    )


def suite(*documents: str, pattern: str | None = None) -> Suite:
    return load_suite(["-"], stdin="".join(documents).encode(), pattern=pattern)


def report(*documents: str) -> Report:
    return suite(*documents).run_all()


def result(policies: str, *steps: str, start: str = "") -> Result:
    """Return the result of the only test."""
    (only,) = report(policies, case("it", *steps, start=start)).results
    return only


def differences(found: Result) -> list[tuple[str, str, str]]:
    """Return the differences: field, expected, got."""
    return [
        (each.field, each.expected, each.got)
        for failure in found.failures
        for each in failure.mismatches
    ]
