"""The outcome of `ratectl validate`, as text and as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ratectl_cli.framework.text import bold, plural
from ratectl_cli.render.diagnostics import count, diagnostic_blocks, diagnostic_data, tally

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ratectl.diagnostics import Diagnostic, Severity, Span
    from ratectl.policy.loading.loader import Loaded
    from ratectl_cli.framework.terminal import Stream
    from ratectl_cli.framework.text import Block, Line

__all__ = ["Fixed", "Validated", "headline", "validation_blocks", "validation_data"]


@dataclass(frozen=True, slots=True)
class Fixed:
    """Repair that ``--fix`` made, at its place in the former text."""

    span: Span
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Validated:
    """Findings about policies, and the outcome."""

    loaded: Loaded
    shown: Sequence[Diagnostic]
    """Findings that ``--select`` and ``--ignore`` leave."""
    hidden: Sequence[Diagnostic]
    fail_level: Severity
    base: str | None
    """Earlier state that the policies were compared with."""
    fixed: Sequence[Fixed] | None
    """Repairs that were made; None without ``--fix``."""
    passed: bool
    """True if no shown finding is as severe as ``fail_level``."""


def validation_data(validated: Validated) -> dict[str, Any]:
    """Return the outcome for programs."""
    policies = validated.loaded.tree.policies.values()
    shown = validated.shown
    fixed = [
        {
            "file": fix.span.file,
            "line": fix.span.line,
            "column": fix.span.column,
            "before": fix.before,
            "after": fix.after,
        }
        for fix in validated.fixed or ()
    ]
    return {
        "valid": validated.loaded.ok,
        "passed": validated.passed,
        "fail_level": validated.fail_level,
        "base": validated.base,
        "errors": count(shown, "error"),
        "warnings": count(shown, "warning"),
        "hidden": len(validated.hidden),
        "ignored": len(validated.loaded.ignored),
        "files": list(validated.loaded.files),
        "scopes": len(policies),
        "limits": sum(len(policy.limits) for policy in policies),
        "tests": len(validated.loaded.tests),
        **({} if validated.fixed is None else {"fixed": fixed}),
        "diagnostics": [diagnostic_data(finding) for finding in shown],
    }


def validation_blocks(validated: Validated, stream: Stream, *, unfold: bool) -> Iterator[Block]:
    """Yield the findings and the outcome for people."""
    yield from diagnostic_blocks(validated.shown, stream, unfold=unfold)
    yield headline(validated)


def headline(validated: Validated) -> Line:
    """Return the outcome in one line."""
    loaded, shown, hidden = validated.loaded, validated.shown, validated.hidden
    files = plural(len(loaded.files), "file")
    left_out = [f"{tally(hidden)} hidden"] if hidden else []
    left_out += [f"{tally(loaded.ignored)} ignored"] if loaded.ignored else []
    without = f" ({', '.join(left_out)})" if left_out else ""
    if loaded.ok and validated.passed:
        warnings = f", {tally(shown)}" if shown else ""
        return [bold("valid", "green"), f": {_declared(loaded)} in {files}{warnings}{without}"]
    if validated.passed:
        return [
            bold("passed", "yellow"),
            f": {tally(shown)} in {files}{without}; `ratectl apply` still refuses the errors",
        ]
    word = "failed" if loaded.ok else "invalid"
    return [bold(word, "red"), f": {tally(shown)} in {files}{without}"]


def _declared(loaded: Loaded) -> str:
    """Return ``2 scopes and 3 limits`` or ``2 scopes, 3 limits and 1 test``."""
    policies = loaded.tree.policies.values()
    scopes = plural(len(policies), "scope")
    limits = plural(sum(len(policy.limits) for policy in policies), "limit")
    if not loaded.tests:
        return f"{scopes} and {limits}"
    return f"{scopes}, {limits} and {plural(len(loaded.tests), 'test')}"
