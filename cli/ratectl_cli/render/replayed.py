"""Effect of a plan on recorded traffic: as text, as data, and in Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ratectl_cli.framework.text import bold, paragraph, plural
from ratectl_cli.render.markdown import code, escaped
from ratectl_cli.render.refusals import percent
from ratectl_cli.render.simulation import (
    instants_data,
    limit_blocks,
    limit_pairs,
    reading_data,
    skipped_blocks,
    span_text,
    total_blocks,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratectl.simulate import LimitCount, Report, Side
    from ratectl_cli.framework.text import Block

__all__ = ["Replayed", "replayed_blocks", "replayed_data", "replayed_markdown"]

_ROWS: Final = 50
"""Most rows of a table in a comment: platforms limit the size of comments."""
_TITLES: Final = (
    "limit", "at", "requests", "refused before", "refused after", "in shadow before",
    "in shadow after",
)  # fmt: skip


class Replayed(NamedTuple):
    """A replay through the planned policies, and through the live ones if they can be read."""

    log: str
    map: str
    report: Report

    @property
    def after(self) -> Side:
        return self.report.sides[0]

    @property
    def before(self) -> Side | None:
        return self.report.sides[1] if len(self.report.sides) > 1 else None

    @property
    def newly_refused(self) -> int:
        return sum(change.newly_refused for change in self.report.changes)

    @property
    def newly_admitted(self) -> int:
        return sum(change.newly_admitted for change in self.report.changes)


# Data -------------------------------------------------------------------------------------------


def replayed_data(replayed: Replayed | None) -> dict[str, Any] | None:
    """Return numbers of requests; ``before`` is null if the live policies cannot be read."""
    if replayed is None:
        return None
    report = replayed.report
    known = replayed.before is not None
    return {
        "log": replayed.log,
        "map": replayed.map,
        "requests": report.requests,
        **instants_data(report),
        "reading": reading_data(report),
        "before": _side_data(replayed.before),
        "after": _side_data(replayed.after),
        "newly_refused": replayed.newly_refused if known else None,
        "newly_admitted": replayed.newly_admitted if known else None,
        "limits": [_limit_data(counts) for _, counts in limit_pairs(report)],
    }


def _side_data(side: Side | None) -> dict[str, Any] | None:
    if side is None:
        return None
    return {"refused": side.refused, "shadow": side.shadow, "no_policy": side.no_policy}


def _limit_data(counts: list[LimitCount | None]) -> dict[str, Any]:
    """Return a limit on both sides; null on a side that lacks it or is unknown."""
    after, before = (*counts, None)[:2]
    one = after or before
    assert one is not None
    return {
        "scope": one.scope,
        "limit": one.limit,
        "overrides": list(one.overrides),
        "budget": one.budget,
        "before": _count_data(before),
        "after": _count_data(after),
    }


def _count_data(one: LimitCount | None) -> dict[str, int] | None:
    if one is None:
        return None
    return {"requests": one.decided, "refused": one.refused, "shadow_refused": one.shadow_refused}


# Text -------------------------------------------------------------------------------------------


def replayed_blocks(replayed: Replayed, *, unfold: bool) -> Iterator[Block]:
    """Yield totals, and the limits that refused requests; ``unfold`` lists all limits."""
    report = replayed.report
    if not report.requests:
        return
    yield ""
    yield paragraph([bold("replayed "), _what(replayed)])
    yield from total_blocks(report)
    yield from limit_blocks(report, unfold=unfold, now="AFTER")
    yield from skipped_blocks(report)


def _what(replayed: Replayed) -> str:
    requests = plural(replayed.report.requests, "request")
    return f"{requests} of {replayed.log} · {span_text(replayed.report)}"


# Markdown ---------------------------------------------------------------------------------------


def replayed_markdown(replayed: Replayed) -> Iterator[str]:
    """Yield a paragraph, and a table of the limits that refused requests."""
    report = replayed.report
    if not report.requests:
        yield f"Nothing of {code(replayed.log)} could be replayed."
        yield ""
        return
    yield f"**Replayed** {escaped(_what(replayed))}: {_totals(replayed)}{_skipped(report)}"
    yield ""
    rows = [row for row in map(_row, limit_pairs(report)) if row]
    if rows:
        yield f"| {' | '.join(_TITLES)} |"
        yield "|---" * len(_TITLES) + "|"
        yield from rows[:_ROWS]
        if len(rows) > _ROWS:
            yield ""
            yield f"… and {len(rows) - _ROWS} more."
        yield ""


def _totals(replayed: Replayed) -> str:
    requests = replayed.report.requests
    after = f"{replayed.after.refused} ({percent(replayed.after.refused, requests)}) refused"
    if replayed.before is None:
        return f"{after}; the live policies could not be read."
    was = replayed.before.refused
    return (
        f"{was} ({percent(was, requests)}) → {after}, {replayed.newly_refused} of them newly; "
        f"{replayed.newly_admitted} newly admitted."
    )


def _skipped(report: Report) -> str:
    reading = report.reading
    count = reading.malformed + reading.unmapped
    skipped = f" {plural(count, 'line')} of {reading.lines} skipped." if count else ""
    cut = (
        f" The log was not read to its end: {escaped(reading.damaged)}." if reading.damaged else ""
    )
    return skipped + cut


def _row(pair: tuple[tuple[str, str], list[LimitCount | None]]) -> str:
    """Return the row of a limit; empty if it refused nothing."""
    (scope, label), counts = pair
    there = [one for one in counts if one is not None]
    if not any(one.refused or one.shadow_refused for one in there):
        return ""
    after, before = (*counts, None)[:2]
    cells = [code(label), code(scope), str(there[0].decided)]
    for name in ("refused", "shadow_refused"):
        cells += [_cell(before, name), _cell(after, name)]
    return f"| {' | '.join(cells)} |"


def _cell(one: LimitCount | None, name: str) -> str:
    return "" if one is None else str(getattr(one, name))
