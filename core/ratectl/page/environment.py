"""The page of an environment: read from its store, and turned into a ``View``."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from ratectl.errors import BundleError, NotFound
from ratectl.fleet.usage import read_beats
from ratectl.health.attributes import lacking_in
from ratectl.health.fleet import Fleet
from ratectl.health.units import check_units
from ratectl.health.usage_report import read_usage_report
from ratectl.history.generations import live_entry, read_live, read_rollouts
from ratectl.kill_switch.wording import by_files, switch_text
from ratectl.page.environment_scopes import scope_views
from ratectl.page.view import AgentRow, Alert, Fact, View
from ratectl.runtime.times import ago, seconds_since, span
from ratectl.runtime.wording import listed
from ratectl.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from ratectl.health.usage_report import UsageReport
    from ratectl.records import AgentRecord, HistoryEntry, RolloutRecord
    from ratectl.stores.base import Store

__all__ = ["EnvironmentUsage", "environment_view", "read_environment_usage"]

_STALE_SECONDS: Final = 30.0
"""Age of reports from which on the page warns. Agents report every few seconds."""


@dataclass(frozen=True, slots=True)
class EnvironmentUsage:
    """Data for the page of an environment, read from its store."""

    report: UsageReport
    fleet: Fleet
    entry: HistoryEntry | None
    """The live generation; None if there is none, or if its entry cannot be read."""
    rollout: RolloutRecord | None
    """The rollout that is under way."""


def read_environment_usage(
    store: Store, scope: str | None, warn: Callable[[str], None], now_ns: int, minutes: int = 1
) -> EnvironmentUsage:
    """Return the usage of an environment, with everything that its page shows.

    See ``read_usage_report``.
    """
    live = read_live(store)
    rollout = None
    if live.head is not None:
        try:
            live = replace(live, entry=live_entry(store, live))
        except (BundleError, NotFound) as error:
            warn(str(error))
    report = read_usage_report(store, scope, warn, now_ns, minutes, live)
    if live.candidate is not None:
        rollout = read_rollouts(store, warn).get(live.candidate.generation)
    fleet = Fleet.of(live, report.agents, read_beats(store, warn), report.switches)
    return EnvironmentUsage(report, fleet, live.entry, rollout)


def environment_view(
    usage: EnvironmentUsage, *, place: str, name: str | None, selector: str, now: datetime
) -> View:
    """Return the content of the page.

    ``place``: environment and store, without secrets. ``name``: name of the environment.
    ``selector``: options that choose the store, for commands.
    """
    report = usage.report
    what = name or "a store"
    below = "" if report.asked == "/" else f", {report.asked} and below"
    return View(
        title=f"Usage of {what}{below}",
        subtitle=place,
        facts=list(_facts(usage, now)),
        alerts=list(_alerts(usage, now)),
        scopes=scope_views(report, now),
        agents=[_agent(usage.fleet, agent, now) for agent in report.agents],
        notes=list(_notes(usage, selector, now)),
        selector=selector,
    )


def _facts(usage: EnvironmentUsage, now: datetime) -> Iterator[Fact]:
    report, entry = usage.report, usage.entry
    yield Fact("Generation", f"{report.generation:,}" if report.generation else "none published")
    if entry is not None:
        yield Fact("Published", f"{_time(entry.time)}, {ago(entry.time, now)}")
        yield Fact("By", entry.author.partition(" <")[0] or "?")
        if entry.message:
            yield Fact("Message", entry.message)
        if entry.commit:
            dirty = ", with changes that were not committed" if entry.dirty else ""
            yield Fact("Commit", f"{entry.commit[:12]}{dirty}")
    totals = report.totals
    yield Fact("Agents that report usage", f"{totals.reporting:,} of {len(report.agents):,}")
    yield Fact("Age of the data", _ages(usage, now))


def _ages(usage: EnvironmentUsage, now: datetime) -> str:
    """Return the ages of the newest and of the oldest report."""
    totals = usage.report.totals
    ages = [seconds_since(time, now) for time in (totals.newest, totals.oldest)]
    newest, oldest = ("?" if age is None else span(max(0.0, age)) for age in ages)
    return newest if newest == oldest else f"{newest} to {oldest}"


def _time(time: str) -> str:
    """Return ``2026-11-23 11:58 UTC``; a time in another form as it is."""
    if len(time) >= 16 and time[10] == "T" and time.endswith("Z"):
        return f"{time[:10]} {time[11:16]} UTC"
    return time


def _alerts(usage: EnvironmentUsage, now: datetime) -> Iterator[Alert]:
    report, fleet = usage.report, usage.fleet
    for switch in report.switches.on:
        yield Alert("danger", "Kill switch.", switch_text(switch, now))
    for agent, text in by_files(report.agents):
        yield Alert("danger", "Kill switch.", f"{agent} obeys a file on its machine: {text}")
    candidate = fleet.live.candidate
    if candidate is not None:
        yield Alert("warning", "Rollout.", _rollout_text(usage))
    rejected = [agent.id for agent in report.agents if agent.state == "rejected"]
    behind = [agent for agent in report.agents if fleet.is_behind(agent)]
    if rejected:
        yield Alert("danger", "Rejected generation.", f"By {listed(rejected, 5)}: see Agents.")
    if len(behind) > len(rejected):
        text = f"{len(behind):,} of {len(report.agents):,} do not enforce the live generation."
        yield Alert("warning", "Agents behind.", text)
    totals = report.totals
    age = seconds_since(totals.oldest, now)
    if age is not None and age > _STALE_SECONDS:
        yield Alert("warning", "Old data.", f"A report is {span(age)} old.")
    if totals.reporting < len(report.agents):
        text = f"{totals.reporting:,} of {len(report.agents):,} agents report usage."
        yield Alert("warning", "Missing data.", text)
    if totals.errors:
        text = f"{totals.errors:,} requests were answered by on_error, not by limits."
        yield Alert("danger", "The limiter failed.", text)
    for lacking in lacking_in(report.rows):
        yield Alert("warning", "Absent attributes.", f"{lacking}.")
    for check in check_units(report.rows):
        if check.status != "ok":
            yield Alert("warning", "Units.", check.message)


def _rollout_text(usage: EnvironmentUsage) -> str:
    candidate = usage.fleet.live.candidate
    assert candidate is not None
    tried = [agent for agent in usage.report.agents if usage.fleet.tries_candidate(agent)]
    state = f" It is {usage.rollout.state}." if usage.rollout else ""
    base = f"generation {usage.report.generation}"
    if candidate.mode == "shadow":
        return (
            f"Generation {candidate.generation} is evaluated beside {base}, and refuses nothing."
            f"{state}"
        )
    return (
        f"Generation {candidate.generation} is tried beside {base} in {candidate.percent:g}% of "
        f"the agents ({len(tried)} of {len(usage.report.agents)} now).{state} The sizes of limits "
        f"on this page are those of {base}."
    )


def _agent(fleet: Fleet, agent: AgentRecord, now: datetime) -> AgentRow:
    note = (
        "behind" if fleet.is_behind(agent) else "candidate" if fleet.tries_candidate(agent) else ""
    )
    return AgentRow(
        id=agent.id,
        host=agent.host,
        generation=agent.generation or None,
        note=note,
        state=agent.state,
        error=agent.error,
        seen=ago(fleet.seen.get(agent.id, agent.reported), now),
    )


def _notes(usage: EnvironmentUsage, selector: str, now: datetime) -> Iterator[str]:
    report, totals = usage.report, usage.report.totals
    if report.scope != report.asked:
        yield f"{report.asked} is not declared: it uses the buckets of {report.scope}."
    if report.uncovered:
        sentence = report.uncovered.replace("no policy", "No policy", 1)
        yield sentence if sentence.endswith("?") else f"{sentence}."
    if totals.no_policy:
        yield f"{totals.no_policy:,} requests passed because no policy covers their scope."
    if totals.omitted:
        yield f"{totals.omitted:,} less active limits are not in the reports of agents."
    scope = "" if report.asked == "/" else f" {shlex.quote(report.asked)}"
    made = now.strftime("%Y-%m-%d %H:%M:%S UTC")
    yield f"Made at {made} by ratectl {__version__}: ratectl usage{scope}{selector} --html FILE"
