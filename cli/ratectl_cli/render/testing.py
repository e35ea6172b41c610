"""Results of policy tests, as text, as data and as JUnit XML."""

from __future__ import annotations

import io
from fractions import Fraction
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final
from xml.etree import ElementTree

from ratectl.policy.language.durations import Duration
from ratectl.runtime.wording import printable
from ratectl_cli.framework.terminal import Stream
from ratectl_cli.framework.text import Aligned, Column, Table, bold, dim, paragraph, plural, show
from ratectl_cli.render.diagnostics import place_blocks
from ratectl_cli.render.explanation import explanation_data, limit_blocks
from ratectl_cli.render.formats.junit import report_text
from ratectl_cli.render.labels import cost_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ratectl.diagnostics import Span
    from ratectl.policy.language.model import PolicyTree
    from ratectl.testing import Coverage, Item, Report, Result, Sent, Share, StepFailure
    from ratectl_cli.framework.text import Block, Line, Piece

__all__ = ["junit_text", "report_blocks", "report_data"]

_COLUMNS: Final = (
    Column("COVERAGE"),
    Column("MET", 3, "number"),
    Column("OF", 4, "number"),
    Column("SHARE", 2, "number"),
)
_LISTED: Final = 8
"""Most untested names that are listed without -v."""


def report_blocks(
    report: Report,
    tree: PolicyTree,
    stream: Stream,
    *,
    coverage: bool,
    threshold: float | None,
    unfold: bool,
) -> Iterator[Block]:
    """Yield a line for each test, with its failures; then coverage, and the outcome."""
    yield Aligned(
        [_head(result) for result in report.results],
        {
            at: [*_failures(result, tree, stream), ""]
            for at, result in enumerate(report.results)
            if result.failures
        },
    )
    if coverage:
        yield from _coverage(report.coverage, threshold, unfold=unfold)
    if report.results:
        yield _headline(report)


def _head(result: Result) -> Sequence[Piece]:
    verdict = bold("ok", "green") if result.passed else bold("FAIL", "red")
    return verdict, result.name, dim(f"{result.span.file}:{result.span.line}")


def _failures(result: Result, tree: PolicyTree, stream: Stream) -> Iterator[Block]:
    for failure in result.failures:
        yield ""
        yield from _failure(failure, tree, stream)


def _headline(report: Report) -> Line:
    tests, sent = plural(len(report.results), "test"), plural(report.requests, "request")
    if report.passed:
        return [bold("passed", "green"), f": {tests}, {sent}"]
    return [bold("failed", "red"), f": {len(report.failed)} of {tests}, {sent}"]


def _failure(failure: StepFailure, tree: PolicyTree, stream: Stream) -> Iterator[Block]:
    """Yield a failed step: its action, the differences, and the limits in force."""
    yield paragraph([bold(f"step {failure.number} at {failure.after}"), f": {_asked(failure)}"])
    if failure.sent is not None:
        yield paragraph(_came(failure.sent, failure.step.times))
    for line, mismatches in groupby(
        failure.mismatches, lambda mismatch: (mismatch.span.line, mismatch.source_line)
    ):
        marks = [
            (mismatch.span, f"expected {mismatch.expected}, got {mismatch.got}")
            for mismatch in mismatches
        ]
        yield from place_blocks(marks, line[1], stream, "red")
    if failure.resolved is None:
        yield "no policy covers this scope"
    else:
        scope, attributes = failure.step.scope, failure.step.attributes
        data = explanation_data(tree, scope, failure.resolved, attributes)
        on_error = any(mismatch.field == "on_error" for mismatch in failure.mismatches)
        yield from limit_blocks(data, failure.limits, on_error=on_error)


def _asked(failure: StepFailure) -> str:
    """Return the action of a step in words."""
    step = failure.step
    attributes = " ".join(f"{name}={value}" for name, value in step.attributes.items())
    place = f"{step.scope} · {attributes}" if attributes else step.scope
    if failure.sent is None:
        return f"limits at {place}"
    cost = "" if step.cost == 1 else f" of cost {cost_text(step.cost)}"
    pace = f", one every {step.every}" if step.every and step.times > 1 else ""
    return f"{plural(step.times, 'request')}{cost} to {place}{pace}"


def _came(sent: Sent, times: int) -> str:
    """Return the decisions of a step in words."""
    decision = sent.decisive
    by = f" by {decision.limit} @ {decision.scope}" if decision.limit else ""
    words = f"allowed {sent.allowed} of {times}"
    if sent.shadow:
        words += f", {sent.shadow} of them past a limit in shadow"
    if sent.first_refused is None:
        left = f", {decision.remaining} left" if decision.limit else ""
        return f"{words}; the last{by}: {decision.reason}{left}"
    wait = decision.retry_after_ns
    retry = "waiting does not help" if wait is None else f"retry after {Duration(wait)}"
    return f"{words}; first refused: request {sent.first_refused}{by}, {decision.reason}: {retry}"


# How much was tested ----------------------------------------------------------------------------


def _coverage(coverage: Coverage, threshold: float | None, *, unfold: bool) -> Iterator[Block]:
    yield ""
    parts = [(title, getattr(coverage, title)) for title in _PARTS]
    rows: list[Sequence[Line]] = [
        (_WORDS[title], str(part.covered), str(part.total), _share(part))
        for title, part in parts
        if part.total
    ]
    yield Table(_COLUMNS, rows)
    yield from _missed("never asked", coverage.scopes.missed, unfold=unfold)
    yield from _missed("never evaluated", coverage.limits.missed, unfold=unfold)
    met = [item for item in coverage.refused.missed if item not in set(coverage.limits.missed)]
    yield from _missed("evaluated, never seen to refuse", met, unfold=unfold)
    yield from _missed("never matched", coverage.overrides.missed, unfold=unfold)
    shown = f"coverage {_percent(coverage.percent)}"
    if threshold is None:
        yield [bold(shown), " of scopes, limits and overrides"]
    elif coverage.percent >= threshold:
        yield [bold(shown, "green"), f", at least the threshold of {threshold:g}%"]
    else:
        yield [bold(shown, "red"), f" is below {threshold:g}%"]


def _missed(title: str, items: Sequence[Item], *, unfold: bool) -> Iterator[Block]:
    if items:
        shown = items if unfold else items[:_LISTED]
        more = len(items) - len(shown)
        rest = f", and {more} more (-v lists them)" if more else ""
        yield paragraph([dim(f"{title}: "), ", ".join(map(str, shown)) + rest])


_PARTS: Final = ("scopes", "limits", "refused", "overrides")
_WORDS: Final = {
    "scopes": "scopes asked",
    "limits": "limits evaluated",
    "refused": "limits seen to refuse",
    "overrides": "overrides matched",
}


def _share(part: Share) -> str:
    return _percent(Fraction(100 * part.covered, part.total))


def _percent(value: Fraction) -> str:
    """Return a percentage, rounded down: only all is 100%."""
    return f"{int(value * 10) / 10:.1f}%"


# For programs -----------------------------------------------------------------------------------


def report_data(
    report: Report, tree: PolicyTree, pattern: str | None, threshold: float | None
) -> dict[str, Any]:
    """Return the whole report for programs."""
    coverage = report.coverage
    return {
        "passed": report.passed,
        "run": pattern,
        "tests": len(report.results),
        "failed": len(report.failed),
        "requests": report.requests,
        "results": [_result_data(result, tree) for result in report.results],
        "coverage": {
            "percent": float(coverage.percent),
            "threshold": threshold,
            "reached": threshold is None or coverage.percent >= threshold,
            **{name: _share_data(getattr(coverage, name)) for name in _PARTS},
        },
    }


def _result_data(result: Result, tree: PolicyTree) -> dict[str, Any]:
    return {
        "name": result.name,
        **_place_data(result.span),
        "passed": result.passed,
        "steps": result.steps,
        "requests": result.requests,
        "failures": [_failure_data(failure, tree) for failure in result.failures],
    }


def _failure_data(failure: StepFailure, tree: PolicyTree) -> dict[str, Any]:
    step = failure.step
    data = explanation_data(tree, step.scope, failure.resolved, step.attributes)
    for part in ("limits", "budgets"):
        data[part] = [limit for limit in data[part] if limit["name"] in failure.limits]
    return {
        "step": failure.number,
        "at": failure.after.ns / 1e9,
        "times": step.times,
        "cost": step.cost,
        "sent": _sent_data(failure.sent),
        "mismatches": [
            {
                "field": mismatch.field,
                "expected": mismatch.expected,
                "got": mismatch.got,
                **_place_data(mismatch.span),
                "source_line": mismatch.source_line,
            }
            for mismatch in failure.mismatches
        ],
        "explanation": data,
    }


def _sent_data(sent: Sent | None) -> dict[str, Any] | None:
    if sent is None:
        return None
    decision = sent.decisive
    return {
        "allowed": sent.allowed,
        "first_refused": sent.first_refused,
        "shadow": sent.shadow,
        "reason": decision.reason,
        "limit": decision.limit,
        "scope": decision.scope,
        "remaining": decision.remaining,
        "retry_after": decision.retry_after,
        "reset_after": decision.reset_after,
    }


def _place_data(span: Span) -> dict[str, Any]:
    return {"file": span.file, "line": span.line, "column": span.column}


def _share_data(part: Share) -> dict[str, Any]:
    missed = [_item_data(item) for item in part.missed]
    return {"total": part.total, "covered": part.covered, "missed": missed}


def _item_data(item: Item) -> dict[str, Any]:
    return {"scope": item.scope, "name": item.name, "budget": item.budget}


def junit_text(report: Report, tree: PolicyTree) -> str:
    """Return JUnit XML: a suite for each file, a case for each test."""
    by_file: dict[str, list[Result]] = {}
    for result in report.results:
        by_file.setdefault(result.span.file, []).append(result)
    suites = [_suite(file, results, tree) for file, results in by_file.items()]
    return report_text("ratectl test", suites)


def _suite(file: str, results: Sequence[Result], tree: PolicyTree) -> ElementTree.Element:
    counts = {
        "tests": len(results),
        "failures": sum(not result.passed for result in results),
        "errors": 0,
    }
    suite = ElementTree.Element(
        "testsuite",
        {"name": printable(file), **{name: str(count) for name, count in counts.items()}},
        time=_seconds(sum(result.seconds for result in results)),
    )
    for result in results:
        attributes = {
            "classname": printable(file),
            "name": printable(result.name),
            "time": _seconds(result.seconds),
        }
        case = ElementTree.SubElement(suite, "testcase", attributes)
        if not result.passed:
            first = result.failures[0].mismatches[0]
            message = printable(f"{first.field}: expected {first.expected}, got {first.got}")
            element = ElementTree.SubElement(case, "failure", type="failed", message=message)
            element.text = _plain(result, tree)
    return suite


def _seconds(seconds: float) -> str:
    return f"{seconds:.6f}"


def _plain(result: Result, tree: PolicyTree) -> str:
    """Return the failures as text."""
    out = io.StringIO()
    stream = Stream(out, terminal=False, colour=False, symbols=True)
    for failure in result.failures:
        show(stream, _failure(failure, tree, stream))
    return out.getvalue()
