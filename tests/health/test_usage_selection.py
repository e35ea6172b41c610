"""Order of limits, and limits that are almost full."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fleet.test_recent import record, report
from ratectl.fleet.usage import totals
from ratectl.health.usage_report import UsageReport, UsageRow
from ratectl.health.usage_selection import near_rows, selected
from ratectl.kill_switch.switches import Switches

if TYPE_CHECKING:
    from ratectl.records import LimitReport


def usage(*limits: LimitReport) -> UsageReport:
    """A report with a limit that no agent reports, too."""
    total = totals([record(*limits)])
    rows = [UsageRow(each.scope, each.limit, each.budget, None, each) for each in total.limits]
    silent = UsageRow("/a", "silent", False, None, None)
    return UsageReport("/", "/", 1, [], Switches(), total, [silent, *rows])


MANY = usage(
    report(scope="/a", limit="full", peak=1.0, recent_allowed=5, refused=0),
    report(scope="/a", limit="idle", peak=None, recent_allowed=0, recent_refused=0),
    report(scope="/b", limit="half", peak=0.5, recent_allowed=900, refused=90),
    report(scope="/", limit="near", peak=0.8, recent_allowed=40, refused=7),
)


@pytest.mark.parametrize(
    ("sort", "names"),
    [
        ("scope", "near full idle silent half"),
        ("used", "full near half idle silent"),
        ("rate", "half near full idle silent"),
        ("refused", "half idle near full silent"),
    ],
)
def test_order(sort: str, names: str) -> None:
    assert [row.name for row in selected(MANY, sort).rows] == names.split()


def test_only_limits_that_are_near_and_how_many_are_not() -> None:
    chosen = selected(MANY, near=0.8)
    assert [row.name for row in chosen.rows] == ["near", "full"]
    assert (chosen.below, chosen.unknown, chosen.near) == (1, 2, 0.8)
    assert [row.name for row in near_rows(MANY, 1.0)] == ["full"]
    every = selected(MANY)
    assert (every.below, every.unknown, len(every.rows)) == (0, 0, 5)
