"""Order of the limits in a usage report, and the limits that are almost full."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ratectl.health.usage_report import UsageReport, UsageRow

__all__ = ["SORTS", "near_rows", "refused_of", "selected"]

SORTS: Final = ("scope", "used", "rate", "refused")


def selected(report: UsageReport, sort: str = "scope", near: float | None = None) -> UsageReport:
    """Return the report with its rows in an order, and only those that are almost full.

    ``sort``: one of ``SORTS``; numbers are in descending order, unknown ones last.
    """
    rows = report.rows if near is None else near_rows(report, near)
    unknown = 0 if near is None else sum(_use(row) is None for row in report.rows)
    return replace(
        report,
        rows=sorted(rows, key=lambda row: (_descending(row, sort), _place(row))),
        sort=sort,
        near=near,
        below=len(report.rows) - len(rows) - unknown,
        unknown=unknown,
    )


def near_rows(report: UsageReport, near: float) -> list[UsageRow]:
    """Return the limits whose fullest bucket was used so far (0 to 1) in the report's minutes."""
    return [row for row in report.rows if (use := _use(row)) is not None and use >= near]


def refused_of(row: UsageRow) -> int | None:
    """Return the requests that a limit refused, for now or for good; None if unknown."""
    return None if row.total is None else row.total.refusals


def _use(row: UsageRow) -> float | None:
    return None if row.total is None else row.total.recent.peak


def _descending(row: UsageRow, sort: str) -> float:
    """Return a number that is smaller for larger values of the row."""
    if sort == "scope":
        return 0
    values = {
        "used": _use(row),
        "rate": None if row.total is None else row.total.recent.rate,
        "refused": refused_of(row),
    }
    value = values[sort]
    return 1 if value is None else -value


def _place(row: UsageRow) -> tuple[str, str, tuple[str, ...], bool, str]:
    unit = "" if row.total is None else row.total.unit
    return row.scope, row.name, row.overrides, row.budget, unit
