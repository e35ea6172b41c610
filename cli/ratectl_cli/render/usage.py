"""Usage of limits, as text and as data: current limit, peak usage, refusals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ratectl.health.attributes import lacking_in
from ratectl.health.units import check_units
from ratectl.policy.resolution.fields import amounts_text
from ratectl_cli.framework.text import Column, Styled, Table, bold, dim, paragraph
from ratectl_cli.render import times
from ratectl_cli.render.labels import bucket_label
from ratectl_cli.render.panic import banner, switch_data

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from ratectl.health.usage_report import UsageReport, UsageRow
    from ratectl.policy.resolution.effective_limit import Limit
    from ratectl_cli.framework.terminal import Stream
    from ratectl_cli.framework.text import Block, Line

__all__ = ["usage_blocks", "usage_data"]

_NEAR: Final = 0.8
_BAR: Final = 10
_TOP_LIMITS: Final = 5
_TOP_KEYS: Final = 3
_COLUMNS: Final = (
    Column("SCOPE"),
    Column("LIMIT", 2, least=20),
    Column("RULE", 5, least=16),
    Column("USED", 3, "number"),
    Column("RATE/S", 6, "number"),
    Column("ALLOWED", 7, "number"),
    Column("WAITED", 8, "number"),
    Column("REFUSED", 4, "number"),
    Column("SHADOW", 9, "number"),
    Column("KEYS", 10, "number"),
)


def _label(row: UsageRow) -> str:
    label = bucket_label(row.name, row.scope, row.overrides)
    return f"budget {label}" if row.budget else label


def usage_data(report: UsageReport) -> dict[str, Any]:
    """Return usage for programs; null means unknown."""
    totals = report.totals
    return {
        "scope": report.scope,
        "generation": report.generation or None,
        "agents": len(report.agents),
        "reporting": totals.reporting,
        "newest": totals.newest,
        "oldest": totals.oldest,
        "no_policy": totals.no_policy,
        "errors": totals.errors,
        "omitted": totals.omitted,
        "limits": [_row_data(row) for row in report.rows],
        "panic": [switch_data(switch) for switch in report.switches.on],
    }


def usage_blocks(report: UsageReport, stream: Stream, now: datetime) -> Iterator[Block]:
    """Yield switches that are on, a title, a table, and the keys that were refused most."""
    yield from banner(report.switches, report.agents, now)
    totals = report.totals
    age = None if totals.oldest is None else times.seconds_since(totals.oldest, now)
    old = "?" if age is None else times.span(max(0.0, age))
    reporting = f"{totals.reporting}/{len(report.agents)} agents"
    title = f" · generation {report.generation or '?'} · {reporting} · data {old} old"
    yield paragraph([bold(report.scope), title])
    if report.scope != report.asked:
        note = f"{report.asked} is not declared: it uses the buckets of {report.scope}"
        yield paragraph(dim(note))
    if not report.rows:
        return
    # Few programs wait: the others need no column of zeros.
    waits = any(row.total is not None and row.total.waited for row in report.rows)
    table = Table([column for column in _COLUMNS if waits or column.title != "WAITED"])
    table.rows.extend(_cells(row, stream, waits=waits) for row in report.rows)
    yield table
    yield from _refused(report.rows)
    yield from (paragraph(str(lacking)) for lacking in lacking_in(report.rows))
    yield from (
        paragraph(check.message) for check in check_units(report.rows) if check.status != "ok"
    )
    if totals.no_policy or totals.errors:
        counts = f"covered by no policy: {totals.no_policy} · answered by on_error: {totals.errors}"
        yield paragraph(counts)
    if totals.omitted:
        yield f"{totals.omitted} less active limits are not in the reports"


def _row_data(row: UsageRow) -> dict[str, Any]:
    rule, total = row.rule, row.total
    return {
        "scope": row.scope,
        "limit": row.name,
        "overrides": list(row.overrides),
        "budget": row.budget,
        "rule": None
        if rule is None
        else {
            "algorithm": rule.algorithm,
            "rate": None if rule.rate is None else str(rule.rate),
            "burst": rule.burst,
            "max": rule.max,
            "hold": None if rule.hold is None else str(rule.hold),
            "unit": rule.unit,
            "per": list(rule.per),
            "absent": rule.absent,
            "mode": rule.mode,
            "clipped": bool(rule.clips),
        },
        "agents": total.agents if total else 0,
        "used": total.peak if total else None,
        "rate_per_second": round(total.recent_per_second, 6) if total else None,
        "allowed": total.allowed if total else None,
        "waited": total.waited if total else None,
        "absent": total.absent if total else None,
        "refused": total.refused if total else None,
        "never": total.never if total else None,
        "shadow_refused": total.shadow_refused if total else None,
        "keys": total.keys if total else None,
        "top_refused": [
            {"key": key, "refused": count} for key, count in total.top_refused.most_common(10)
        ]
        if total
        else [],
    }


def _cells(row: UsageRow, stream: Stream, *, waits: bool) -> Sequence[Line]:
    total = row.total
    names: list[Line] = [row.scope, bold(_label(row)), _rule(row.rule)]
    if total is None:
        return [*names, *["?"] * (6 + waits)]
    refused = total.refused + total.never
    return [
        *names,
        _used(total.peak, stream),
        f"{total.recent_per_second:.1f}",
        str(total.allowed),
        *([str(total.waited)] if waits else []),
        Styled(str(refused), "red" if refused else ""),
        str(total.shadow_refused) if total.shadow or total.shadow_refused else "-",
        str(total.keys),
    ]


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


def _used(peak: float | None, stream: Stream) -> Line:
    if peak is None:
        return "?"
    colour = "red" if peak >= 1 else "yellow" if peak >= _NEAR else "green"
    percent = f"{peak:.0%}"
    if not stream.terminal:
        return Styled(percent, colour)
    full = int(peak * _BAR)  # only a full bucket has a full bar
    return [Styled("█" * full + "░" * (_BAR - full), colour), f" {percent:>4}"]


def _refused(rows: Sequence[UsageRow]) -> Iterator[Block]:
    rows_refused = [
        (row, row.total) for row in rows if row.total is not None and row.total.top_refused
    ]
    rows_refused.sort(key=lambda pair: -(pair[1].refused + pair[1].never))
    for row, total in rows_refused[:_TOP_LIMITS]:
        keys = " · ".join(
            f"{key} {count}" for key, count in total.top_refused.most_common(_TOP_KEYS)
        )
        who = dim(f"most refused by {_label(row)} @ {row.scope} (approximate): ")
        yield paragraph([who, keys])
