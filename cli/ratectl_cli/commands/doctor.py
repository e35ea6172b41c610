"""``ratectl doctor``."""

from typing import TYPE_CHECKING, Any

import typer

from ratectl_cli.framework.session import session_of
from ratectl_cli.framework.text import aligned, bold, plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ratectl.health import Check
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
    from ratectl.health import examine
    from ratectl_cli.render.times import now

    session = session_of(ctx)
    with session.busy("looking"):
        checks = examine(session.store_url, now(), session.store)
    failed = sum(1 for check in checks if check.status == "failed")
    warnings = sum(1 for check in checks if check.status == "warning")
    data = {
        "healthy": not failed,
        "failed": failed,
        "warnings": warnings,
        "findings": [_data(check) for check in checks],
    }
    session.answer("Doctor", data, lambda: _blocks(checks, failed, warnings))
    return 1 if failed else 0


def _data(check: "Check") -> dict[str, Any]:
    return {
        "check": check.name,
        "verdict": check.status,
        "detail": check.message,
        **check.details,
    }


def _blocks(checks: "Sequence[Check]", failed: int, warnings: int) -> "Iterator[Block]":
    rows: list[list[Piece]] = [
        [bold(check.status, _COLOURS[check.status]), check.name, check.message] for check in checks
    ]
    yield from aligned(rows)
    word = bold(f"{failed} failed", "red") if failed else bold("healthy", "green")
    yield [word, f", {plural(warnings, 'warning')}"] if warnings else word


__all__ = ["doctor"]
