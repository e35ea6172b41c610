"""Result of a replay, as text and as data."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ratectl.policy.language.labels import bucket_label
from ratectl_cli.framework.text import Aligned, Column, Styled, Table, bold, dim, paragraph, plural
from ratectl_cli.render import times
from ratectl_cli.render.lacking import lacking_blocks
from ratectl_cli.render.timeline import timeline_blocks

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ratectl.simulate import LimitCount, Outcome, Report, Side
    from ratectl_cli.framework.terminal import Stream
    from ratectl_cli.framework.text import Block, Line, Piece

__all__ = [
    "Inputs", "instants_data", "limit_blocks", "limit_label", "limit_pairs", "reading_data",
    "simulation_blocks", "simulation_data", "skipped_blocks", "span_text", "total_blocks",
]  # fmt: skip

_TOP_LIMITS: Final = 5
_MOST_SCOPES: Final = 20
_TOP_KEYS: Final = 3
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NO_POLICY: Final = "(no policy)"


class Inputs(NamedTuple):
    """Names of the policies, the log and the map, as given on the command line."""

    policies: str
    log: str
    map: str
    against: str | None


# Data -------------------------------------------------------------------------------------------


def simulation_data(inputs: Inputs, report: Report, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return numbers and ISO times for programs."""
    sides = [_side_data(side, report.requests) for side in report.sides]
    return {
        "log": inputs.log,
        "map": inputs.map,
        "requests": report.requests,
        **instants_data(report),
        "reading": reading_data(report),
        "policies": sides[0],
        "against": sides[1] if len(sides) > 1 else None,
        "changes": [
            {
                "scope": change.scope,
                "newly_refused": change.newly_refused,
                "newly_admitted": change.newly_admitted,
            }
            for change in report.changes
        ],
        "timeline": {
            "start": _iso(report.start_ns) if report.timeline else None,
            "seconds": report.width_ns // 10**9,
            "buckets": [
                {
                    "requests": part.requests,
                    "refused": part.refused[0],
                    "shadow": part.shadow[0],
                    **({"refused_against": part.refused[1]} if len(sides) > 1 else {}),
                    **({"shadow_against": part.shadow[1]} if len(sides) > 1 else {}),
                }
                for part in report.timeline
            ],
        },
        "assertions": [
            {
                "assertion": outcome.text,
                "holds": outcome.holds,
                "count": outcome.count,
                "total": outcome.total,
                "measured": outcome.measured,
            }
            for outcome in outcomes
        ],
    }


def instants_data(report: Report) -> dict[str, Any]:
    """Return the times of the first and the last request; null without requests."""
    return {"first": _iso(report.first_ns), "last": _iso(report.last_ns)}


def reading_data(report: Report) -> dict[str, Any]:
    """Return how much of the log was replayed, and why lines were skipped."""
    reading = report.reading
    return {
        "lines": reading.lines,
        "malformed": reading.malformed,
        "unmapped": reading.unmapped,
        "late": reading.late,
        "most_late_seconds": reading.most_late_ns / 1e9,
        "damaged": reading.damaged,
        "examples": [
            {"line": number, "reason": reason, "text": text}
            for number, reason, text in reading.examples
        ],
    }


def _side_data(side: Side, requests: int) -> dict[str, Any]:
    return {
        "name": side.name,
        "admitted": requests - side.refused,
        "refused": side.refused,
        "shadow": side.shadow,
        "no_policy": side.no_policy,
        "scopes": [
            {
                "scope": row.scope,
                "requests": row.requests,
                "admitted": row.admitted,
                "refused": row.refused,
                "shadow": row.shadow,
                "no_policy": row.no_policy,
            }
            for row in side.scopes
        ],
        "limits": [
            {
                "scope": limit.scope,
                "limit": limit.limit,
                "overrides": list(limit.overrides),
                "budget": limit.budget,
                "unit": limit.unit,
                "shadow": limit.shadow,
                "admitted": limit.admitted,
                "refused": limit.refused,
                "never": limit.never,
                "shadow_refused": limit.shadow_refused,
                "absent": limit.absent,
                "top_refused": [{"key": key, "refused": count} for key, count in limit.top_refused],
            }
            for limit in side.limits
        ],
    }


# Text -------------------------------------------------------------------------------------------


def simulation_blocks(
    inputs: Inputs,
    report: Report,
    outcomes: Sequence[Outcome],
    stream: Stream,
    *,
    unfold: bool = False,
) -> Iterator[Block]:
    """Yield totals, a timeline, tables, skipped lines, and the assertions.

    ``unfold``: also list scopes and limits that refused nothing.
    """
    if not report.requests:
        return
    against = f" against {inputs.against}" if inputs.against else ""
    requests = plural(report.requests, "request")
    title = f"{against} · {requests} of {inputs.log} · {span_text(report)}"
    yield paragraph([bold(inputs.policies), title])
    yield from total_blocks(report)
    yield ""
    yield from timeline_blocks(report, stream)
    yield ""
    yield from _scopes(report, unfold=unfold)
    yield from limit_blocks(report, unfold=unfold)
    yield from _most_refused(report.sides[0])
    yield from lacking_blocks(report.sides[0].limits)
    yield from skipped_blocks(report)
    yield from _judged(outcomes)


def skipped_blocks(report: Report) -> Iterator[Block]:
    """Yield the lines that were skipped or moved, and why."""
    reading = report.reading
    parts = []
    if reading.malformed:
        parts.append(plural(reading.malformed, "malformed line"))
    if reading.unmapped:
        parts.append(f"{plural(reading.unmapped, 'line')} without a scope")
    if parts:
        yield [Styled("skipped: ", "yellow"), f"{' · '.join(parts)} of {reading.lines}"]
        for number, reason, text in reading.examples:
            shown = text if len(text) <= 80 else text[:79] + "…"
            yield paragraph(dim(f"  line {number}: {reason}: {shown}"))
    if reading.late:
        late = times.wait(reading.most_late_ns)
        moved = plural(reading.late, "request")
        yield [Styled("out of order: ", "yellow"), f"{moved} moved up by up to {late}"]
    if reading.damaged:
        yield [Styled("the log was not read to its end: ", "yellow"), reading.damaged]
    if not reading.lines:
        yield "the log has no lines"


def span_text(report: Report) -> str:
    """Return the times of the first and the last request."""
    assert report.first_ns is not None
    assert report.last_ns is not None
    length = times.span((report.last_ns - report.first_ns) / 1e9)
    return f"{times.utc(report.first_ns)} to {times.utc(report.last_ns)} UTC ({length})"


def total_blocks(report: Report) -> Iterator[Block]:
    """Yield requests by decision on each side, and those that were decided differently."""
    rows: list[list[Piece]] = []
    for side in reversed(report.sides):
        admitted = report.requests - side.refused
        rows.append(
            [
                side.name,
                "admitted", bold(admitted, "green"), _share(admitted, report.requests),
                "refused", bold(side.refused, "red" if side.refused else ""),
                _share(side.refused, report.requests),
                "shadow", bold(side.shadow, "yellow" if side.shadow else ""),
                _share(side.shadow, report.requests),
            ]
        )  # fmt: skip
    yield Aligned(rows if len(rows) > 1 else [rows[0][1:]])
    if len(report.sides) > 1:
        newly = sum(change.newly_refused for change in report.changes)
        admitted = sum(change.newly_admitted for change in report.changes)
        yield [
            "decided differently: ",
            bold(newly, "red" if newly else ""), " newly refused, ",
            bold(admitted, "green" if admitted else ""), " newly admitted",
        ]  # fmt: skip


def _scopes(report: Report, *, unfold: bool) -> Iterator[Block]:
    names = Column("SCOPE"), Column("REQUESTS", 4, "number")
    table = Table([*names, *_count_columns(len(report.sides) > 1)])
    rows = list(zip(*(side.scopes for side in report.sides), strict=True))
    by_interest = sorted(rows, key=lambda row: (row[0].refused, row[0].requests), reverse=True)
    shown = set(rows if unfold else by_interest[:_MOST_SCOPES])
    for row in rows:
        if row in shown:
            name: Line = _NO_POLICY if row[0].scope is None else row[0].scope
            counts = [(side.refused, side.shadow, side.requests) for side in row]
            table.rows.append([name, str(row[0].requests), *_counts(counts)])
    yield table
    if len(rows) > len(shown):
        more = plural(len(rows) - len(shown), "more scope")
        yield dim(f"{more} with fewer refusals (-v lists them)")


def limit_pairs(report: Report) -> Iterator[tuple[tuple[str, str], list[LimitCount | None]]]:
    """Yield each limit by scope and label, with its counts on each side.

    The counts are None on a side without the limit.
    """
    sides = [{(one.scope, limit_label(one)): one for one in side.limits} for side in report.sides]
    for key in dict.fromkeys(key for side in sides for key in side):
        yield key, [side.get(key) for side in sides]


def limit_blocks(report: Report, *, unfold: bool, now: str = "NOW") -> Iterator[Block]:
    """Yield a table of limits; ``unfold`` also lists those that refused nothing.

    ``now``: title of the columns of the new side, if there are two sides.
    """
    names = Column("LIMIT", least=20), Column("AT", 2, least=20), Column("DECIDED", 4, "number")
    table = Table([*names, *_count_columns(len(report.sides) > 1, now)])
    quiet = 0
    for (scope, label), counts in limit_pairs(report):
        there = [one for one in counts if one is not None]
        if not unfold and not any(one.refused or one.shadow_refused for one in there):
            quiet += 1
            continue
        name: Line = [bold(label), Styled(" SHADOW", "yellow") if there[0].shadow else ""]
        cells = _counts([_limit_counts(one) for one in counts])
        table.rows.append([name, scope, str(there[0].decided), *cells])
    if table.rows:
        yield ""
        yield table
    if quiet:
        more = "more " if table.rows else ""
        yield dim(f"{plural(quiet, more + 'limit')} refused nothing (-v lists them)")


def limit_label(one: LimitCount) -> str:
    """Return ``spike [gold]`` or ``budget fleet``."""
    label = bucket_label(one.limit, one.scope, one.overrides)
    return f"budget {label}" if one.budget else label


def _limit_counts(one: LimitCount | None) -> tuple[int, int, int] | None:
    return (one.refused, one.shadow_refused, one.decided) if one else None


def _count_columns(compared: bool, now: str = "NOW") -> list[Column]:
    """Return the columns of ``_counts``; those of shadow are hidden together."""
    further = (now, "CHANGE") if compared else ("SHARE",)
    return [
        Column(title, rank, "number")
        for first, rank in (("REFUSED", 3), ("SHADOW", 5))
        for title in (first, *further)
    ]


def _counts(counts: Sequence[tuple[int, int, int] | None]) -> list[Line]:
    """Return cells for refused and shadow; before, now and change if there are two sides."""
    new = counts[0]
    if len(counts) == 1:
        assert new is not None
        return [
            *(_red(new[0]), _share(new[0], new[2])),
            *(str(new[1]), _share(new[1], new[2])),
        ]
    old = counts[1]
    cells: list[Line] = []
    for at in (0, 1):
        was, now = old[at] if old else None, new[at] if new else None
        change = (now or 0) - (was or 0)
        style = "red" if change > 0 else "green" if change else ""
        cells += [
            "-" if was is None else str(was),
            "-" if now is None else str(now),
            Styled(f"{change:+d}" if change else "=", style),
        ]
    return cells


def _most_refused(side: Side) -> Iterator[Block]:
    limits = sorted(side.limits, key=lambda one: -one.refused)
    for one in limits[:_TOP_LIMITS]:
        if one.top_refused:
            keys = " · ".join(f"{key} {count}" for key, count in one.top_refused[:_TOP_KEYS])
            yield paragraph([dim(f"most refused by {limit_label(one)} @ {one.scope}: "), keys])


def _judged(outcomes: Sequence[Outcome]) -> Iterator[Block]:
    if outcomes:
        yield ""
    for outcome in outcomes:
        verdict = bold("holds", "green") if outcome.holds else bold("FAILS", "red")
        yield [verdict, f"  {outcome.text}  ", dim("found "), outcome.measured]


def _red(count: int) -> Styled:
    return Styled(str(count), "red" if count else "")


def _share(count: int, total: int) -> str:
    if not count or not total:
        return "-"
    percent = 100 * count / total
    if percent < 0.01:
        return "<0.01%"
    return f"{percent:.2f}%" if percent < 99.995 or count == total else ">99.99%"


def _iso(at: int | None) -> str | None:
    if at is None:
        return None
    whole = _EPOCH + timedelta(seconds=at // 10**9)
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{at % 10**9 // 10**6:03d}Z"
