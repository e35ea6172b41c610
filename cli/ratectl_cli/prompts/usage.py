"""Read the usage of limits, print it, and tell whether a limit is almost full."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ratectl.fleet.usage import NEAR
from ratectl.health.hot_keys import hot_keys
from ratectl.health.usage_report import read_usage_report
from ratectl.health.usage_selection import selected
from ratectl.policy.language.scopes import checked_scope
from ratectl.runtime.wording import listed, percent
from ratectl_cli.framework import clock
from ratectl_cli.framework.text import plural
from ratectl_cli.inputs.unpublished import say_if_unpublished
from ratectl_cli.inputs.usage_options import minutes_of, share_of
from ratectl_cli.render.labels import row_label
from ratectl_cli.render.measures import percent_text
from ratectl_cli.render.usage import top_blocks, usage_blocks
from ratectl_cli.render.usage_document import top_data, usage_data

if TYPE_CHECKING:
    from ratectl.health.usage_report import UsageReport
    from ratectl_cli.framework.session import Session

__all__ = ["Wanted", "say_if_silent", "show_top", "show_usage"]

_NAMED: Final = 3


@dataclass(frozen=True, slots=True)
class Wanted:
    """Limits to read and their order, as arguments and options name them."""

    scope: str | None = None
    """None for all scopes."""
    sort: str = "scope"
    near: float | None = None
    minutes: int = 1

    @classmethod
    def of(cls, scope: str | None, sort: str, near: str | None = None, since: str = "1m") -> Wanted:
        """Return what options and arguments name.

        :raises UsageError: one of them is wrong.
        """
        return cls(
            None if scope is None else checked_scope(scope),
            sort,
            None if near is None else share_of(near),
            minutes_of(since),
        )


def show_usage(
    session: Session,
    wanted: Wanted,
    *,
    top: int | None,
    fail_near: bool,
    report: UsageReport | None = None,
) -> int:
    """Print the usage of limits; return the exit code. ``report``: the usage, if it is read."""
    report = _read(session, wanted) if report is None else report
    shown = selected(report, wanted.sort, wanted.near)
    told = say_if_unpublished(session, report.generation)
    session.answer(
        "Usage",
        usage_data(shown, top),
        lambda: usage_blocks(shown, session.out, clock.now(), top),
    )
    _say_what_is_missing(session, report, told=told)
    return _code(session, report, wanted.near or NEAR) if fail_near else 0


def show_top(session: Session, wanted: Wanted, limit: int) -> int:
    """Print the hottest keys of all limits; return the exit code."""
    report = _read(session, wanted)
    keys = hot_keys(report.rows, wanted.sort)
    told = say_if_unpublished(session, report.generation)
    session.answer(
        "Top",
        top_data(report, keys[:limit], wanted.sort),
        lambda: top_blocks(report, keys, session.out, clock.now(), limit),
    )
    _say_what_is_missing(session, report, told=told)
    return 0


def _read(session: Session, wanted: Wanted) -> UsageReport:
    with session.store() as store, session.busy("reading usage"):
        now = clock.now_ns()
        return read_usage_report(store, wanted.scope, session.warn, now, wanted.minutes)


def _say_what_is_missing(session: Session, report: UsageReport, *, told: bool) -> None:
    say_if_silent(session, report, told=told)
    if report.uncovered and not session.text:  # the title of the text says it
        session.say(report.uncovered)


def say_if_silent(session: Session, report: UsageReport, *, told: bool) -> None:
    """Say that no agent reports, unless a message has ``told`` why."""
    if not report.totals.reporting and not told:
        session.say("no agent has reported usage recently: ratectl agents")


def _code(session: Session, report: UsageReport, near: float) -> int:
    """Return 1 if a limit is almost full, or if nobody can know; the reason is never quiet."""
    reason = _reason(report, near)
    if reason is None:
        return 0
    session.complain([f"--fail-near: {reason}"])
    return 1


def _reason(report: UsageReport, near: float) -> str | None:
    """Return why the command fails; None if every limit has room."""
    if not report.totals.reporting:
        return "no agent reports, so it is unknown how full the limits are"
    rows = selected(report, "used", near).rows
    if not rows:
        return report.uncovered
    names = [
        f"{row_label(row)} @ {row.scope} {percent(use)}"
        for row in rows
        if row.total is not None and (use := row.total.recent.peak) is not None
    ]
    verb = "is" if len(rows) == 1 else "are"
    text = f"{plural(len(rows), 'limit')} {verb} used {percent_text(near)} or more"
    return f"{text}: {listed(names, _NAMED)}"
