"""Health checks, as text and as data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ratectl_cli.framework.text import Aligned, bold, plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ratectl.health import Check
    from ratectl_cli.framework.text import Block, Piece

__all__ = ["checks_blocks", "checks_data"]

_COLOURS: Final = {"ok": "green", "warning": "yellow", "failed": "red", "skipped": ""}


def checks_data(checks: Sequence[Check]) -> dict[str, Any]:
    """Return health checks for programs."""
    failed = _count(checks, "failed")
    return {
        "healthy": not failed,
        "failed": failed,
        "warnings": _count(checks, "warning"),
        "findings": [
            {
                "check": check.name,
                "verdict": check.status,
                "detail": check.message,
                **check.details,
            }
            for check in checks
        ],
    }


def checks_blocks(checks: Sequence[Check]) -> Iterator[Block]:
    """Yield health checks for people."""
    rows: list[list[Piece]] = [
        [bold(check.status, _COLOURS[check.status]), check.name, check.message] for check in checks
    ]
    yield Aligned(rows)
    failed, warnings = _count(checks, "failed"), _count(checks, "warning")
    word = bold(f"{failed} failed", "red") if failed else bold("healthy", "green")
    yield [word, f", {plural(warnings, 'warning')}"] if warnings else word


def _count(checks: Sequence[Check], status: str) -> int:
    return sum(1 for check in checks if check.status == status)
