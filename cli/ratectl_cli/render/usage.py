"""Usage of limits as text: how full they are, their rates and refusals, and their keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ratectl.health.attributes import lacking_in
from ratectl.health.hot_keys import keys_of
from ratectl.health.shared_usage import shared_text
from ratectl.health.units import check_units
from ratectl.policy.resolution.fields import amounts_text
from ratectl.runtime.wording import listed
from ratectl_cli.framework.text import Column, Styled, Table, bold, dim, paragraph, plural
from ratectl_cli.render import times
from ratectl_cli.render.hot_keys import INDENT, hot_keys_table, keys_of_limits_table
from ratectl_cli.render.labels import row_label
from ratectl_cli.render.measures import (
    count_text,
    near_text,
    percent_text,
    rate_text,
    trend_text,
    used_cell,
)
from ratectl_cli.render.panic import banner

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from ratectl.health.hot_keys import HotKey
    from ratectl.health.usage_report import UsageReport, UsageRow
    from ratectl.policy.resolution.effective_limit import Limit
    from ratectl_cli.framework.terminal import Stream
    from ratectl_cli.framework.text import Block, Line

__all__ = ["title_blocks", "top_blocks", "usage_blocks", "usage_table"]

_TOP_LIMITS: Final = 5
_TOP_KEYS: Final = 3
_NAMED: Final = 3
_TREND_MINUTES: Final = 15
_COLUMNS: Final = (
    Column("SCOPE"),
    Column("LIMIT", 2, least=20),
    Column("RULE", 7, least=16),
    Column("USED", 3, "number"),
    Column("TREND", 6, "number"),
    Column("NEAR", 5, "number"),
    Column("RATE/S", 5, "number"),
    Column("ALLOWED", 8, "number"),
    Column("WAITED", 9, "number"),
    Column("REFUSED", 4, "number"),
    Column("SHADOW", 10, "number"),
    Column("KEYS", 11, "number"),
)
_SORTED_COLUMNS: Final = {"used": "USED", "rate": "RATE/S", "refused": "REFUSED"}


def usage_blocks(
    report: UsageReport, stream: Stream, now: datetime, top: int | None = None
) -> Iterator[Block]:
    """Yield switches that are on, a title, a table, and the keys that were refused most.

    ``top``: number of keys of each limit to show in a table.
    """
    yield from title_blocks(report, now)
    if report.rows:
        yield usage_table(report, stream)
    yield from _left_out(report)
    if not report.rows:
        return
    yield from _shared(report.rows, now)
    if top is None:
        yield from _refused(report.rows)
    else:
        yield from _keys(report.rows, stream, top)
    yield from _notes(report)


def top_blocks(
    report: UsageReport, keys: Sequence[HotKey], stream: Stream, now: datetime, most: int
) -> Iterator[Block]:
    """Yield a title, and a table of the hottest keys: at most so many."""
    yield from title_blocks(report, now)
    if keys:
        yield hot_keys_table(keys[:most], stream)
    elif report.rows:
        yield paragraph("no agent reports a key of these limits")
    if len(keys) > most:
        yield paragraph(dim(f"{plural(len(keys) - most, 'more key')}: -n {len(keys)}"))


def title_blocks(report: UsageReport, now: datetime) -> Iterator[Block]:
    """Yield switches that are on, what the numbers cover, how old they are, and who is missing."""
    yield from banner(report.switches, report.agents, now)
    totals = report.totals
    reporting = f"{totals.reporting}/{len(report.agents)} agents"
    age = times.data_age(totals.oldest, now)
    title = f" · generation {report.generation or '?'} · {reporting} · {age}"
    span = f" · last {report.minutes} min" if report.minutes > 1 else ""
    yield paragraph([bold(report.scope), title, span])
    if report.silent:
        yield paragraph(Styled(f"no report from {listed(report.silent, _NAMED)}", "yellow"))
    if report.scope != report.asked:
        note = f"{report.asked} is not declared: it uses the buckets of {report.scope}"
        yield paragraph(dim(note))
    if report.uncovered:
        yield paragraph(Styled(report.uncovered, "yellow"))


def usage_table(report: UsageReport, stream: Stream) -> Table:
    """Return the table of the limits. On a terminal scopes are headings, unless rows are sorted."""
    # Few programs wait: the others need no column of zeros.
    waits = any(row.total is not None and row.total.waited for row in report.rows)
    grouped = stream.terminal and report.sort == "scope"
    left_out = {
        title
        for title, needed in (
            ("WAITED", waits),
            ("TREND", stream.terminal),
            ("SCOPE", not grouped),
        )
        if not needed
    }
    first = _SORTED_COLUMNS.get(report.sort)
    columns = [
        column._replace(rank=2) if column.title == first else column
        for column in _COLUMNS
        if column.title not in left_out
    ]
    table, scope = Table(columns), ""
    for row in report.rows:
        if grouped and row.scope != scope:
            table.headings[len(table.rows)] = bold(row.scope, "cyan")
        scope = row.scope
        cells = _cells(row, report.minutes, stream)
        if grouped:
            cells["LIMIT"] = f"{INDENT}{cells['LIMIT']}"
        table.rows.append([cells[column.title] for column in columns])
    return table


def _cells(row: UsageRow, minutes: int, stream: Stream) -> dict[str, Line]:
    """Return the cells of a row by the title of their column."""
    total = row.total
    label = row_label(row)
    cells: dict[str, Line] = dict.fromkeys((column.title for column in _COLUMNS), "?")
    cells |= {"SCOPE": row.scope, "LIMIT": label, "RULE": _rule(row.rule)}
    if total is None:
        return cells
    refused = total.refusals
    partial = total.recent.whole < total.agents
    return cells | {
        "USED": used_cell(total.recent.peak, stream, partial=partial),
        "TREND": trend_text(total, minutes if minutes > 1 else _TREND_MINUTES, stream),
        "NEAR": near_text(total),
        "RATE/S": rate_text(total),
        "ALLOWED": str(total.allowed),
        "WAITED": str(total.waited),
        "REFUSED": Styled(str(refused), "red" if refused else ""),
        "SHADOW": str(total.shadow_refused) if total.shadow or total.shadow_refused else "-",
        "KEYS": "?" if total.is_unknown else str(total.keys),
    }


def _rule(rule: Limit | None) -> Line:
    if rule is None:
        return "?"
    text = amounts_text(rule)
    if rule.per:
        text += f" per {', '.join(rule.per)}"
    parts: list[str | Styled] = [text]
    if rule.clips:
        parts.append(Styled(" ✂ cap", "yellow"))
    if rule.mode != "enforce":
        parts.append(bold(f" {rule.mode.upper()}", "yellow"))
    return parts


def _left_out(report: UsageReport) -> Iterator[Block]:
    """Yield a line about the limits that are not near."""
    if report.near is None:
        return
    near = percent_text(report.near)
    span = "minute" if report.minutes == 1 else f"{report.minutes} minutes"
    if not report.rows:
        yield paragraph(f"no limit was used {near} or more in the last {span}")
    if report.below or report.unknown:
        below = f"{plural(report.below, 'limit')} below {near}"
        unknown = f", {report.unknown} of unknown use" if report.unknown else ""
        yield paragraph(dim(f"not shown: {below}{unknown}"))


def _notes(report: UsageReport) -> Iterator[Block]:
    totals = report.totals
    yield from (paragraph(str(lacking)) for lacking in lacking_in(report.rows))
    yield from (
        paragraph(check.message) for check in check_units(report.rows) if check.status != "ok"
    )
    if totals.no_policy or totals.errors:
        counts = f"covered by no policy: {totals.no_policy} · answered by on_error: {totals.errors}"
        yield paragraph(counts)
    if totals.omitted:
        yield f"{totals.omitted} less active limits are not in the reports"


def _shared(rows: Sequence[UsageRow], now: datetime) -> Iterator[Block]:
    """Yield a line for each limit that is one for all processes."""
    texts = [(row, shared_text(row.total, now)) for row in rows if row.total is not None]
    found = [(row, text) for row, text in texts if text is not None]
    for row, text in found[:_TOP_LIMITS]:
        yield paragraph([dim(f"{row_label(row)} @ {row.scope}: "), text])
    if len(found) > _TOP_LIMITS:
        yield paragraph(dim(f"{len(found) - _TOP_LIMITS} more limits are one for all processes"))


def _keys(rows: Sequence[UsageRow], stream: Stream, top: int) -> Iterator[Block]:
    table = keys_of_limits_table(rows, stream, top)
    if table.rows:
        yield from ("", table)
    else:
        yield paragraph("no agent reports a key of these limits")


def _refused(rows: Sequence[UsageRow]) -> Iterator[Block]:
    """Yield a line for each of the limits that refused most."""
    rows_refused = [
        (row, row.total) for row in rows if row.total is not None and row.total.top_refused
    ]
    rows_refused.sort(key=lambda pair: -pair[1].refusals)
    for row, _ in rows_refused[:_TOP_LIMITS]:
        counts = [(key, key.refused) for key in keys_of(row) if key.refused and key.refused.value]
        counts.sort(key=lambda pair: -pair[1].value)
        keys = " · ".join(f"{key.key} {count_text(count)}" for key, count in counts[:_TOP_KEYS])
        yield paragraph([dim(f"most refused by {row_label(row)} @ {row.scope}: "), keys])
