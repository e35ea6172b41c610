"""``ratectl doctor``."""

from typing import TYPE_CHECKING, Any

import typer

from ratectl.errors import RatectlError
from ratectl_cli.framework.session import session_of
from ratectl_cli.framework.text import aligned, bold, plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ratectl_cli.diagnosis import Finding
    from ratectl_cli.framework.session import Session
    from ratectl_cli.framework.text import Block, Piece

_COLOURS = {"ok": "green", "warning": "yellow", "failed": "red", "skipped": ""}


def doctor(ctx: typer.Context) -> int:
    """Look for what is wrong, and say so.

    Looks at the store (does it answer, is it new enough), TLS, credentials, the published
    policies, kill switches, agents (stale, rejecting, behind), clocks and this machine's engine.
    Changes nothing.

    Examples:
      ratectl doctor
      ratectl doctor -o json | jq '.findings[] | select(.verdict == "failed")'

    Exit codes:
      0   nothing failed (there may be warnings)
      1   something failed
      64  wrong arguments or settings
    """
    session = session_of(ctx)
    with session.busy("looking"):
        findings = _examine(session)
    failed = sum(1 for finding in findings if finding.verdict == "failed")
    warnings = sum(1 for finding in findings if finding.verdict == "warning")
    data = {
        "healthy": not failed,
        "failed": failed,
        "warnings": warnings,
        "findings": [_data(finding) for finding in findings],
    }
    session.answer("Doctor", data, lambda: _blocks(findings, failed, warnings))
    return 1 if failed else 0


def _examine(session: "Session") -> "list[Finding]":
    from ratectl.stores import check_url
    from ratectl_cli.diagnosis import Finding, examine_engine, examine_link, examine_store
    from ratectl_cli.render.times import now

    check_url(session.store_url)
    findings = list(examine_link(session.store_url))
    try:
        with session.store() as store:
            findings = [*examine_store(store, now()), *findings]
    except RatectlError as error:
        findings.append(Finding("store", "failed", str(error)))
    findings.append(examine_engine())
    order = (
        "store",
        "tls",
        "auth",
        "policies",
        "signature",
        "rollout",
        "panic",
        "agents",
        "reports",
        "clock",
        "engine",
    )
    return sorted(findings, key=lambda finding: order.index(finding.check))


def _data(finding: "Finding") -> dict[str, Any]:
    return {
        "check": finding.check,
        "verdict": finding.verdict,
        "detail": finding.detail,
        **finding.more,
    }


def _blocks(findings: "Sequence[Finding]", failed: int, warnings: int) -> "Iterator[Block]":
    rows: list[list[Piece]] = [
        [bold(finding.verdict, _COLOURS[finding.verdict]), finding.check, finding.detail]
        for finding in findings
    ]
    yield from aligned(rows)
    word = bold(f"{failed} failed", "red") if failed else bold("healthy", "green")
    yield [word, f", {plural(warnings, 'warning')}"] if warnings else word


__all__ = ["doctor"]
