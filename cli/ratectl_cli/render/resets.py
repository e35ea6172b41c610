"""Resets, for people and for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ratectl.resets.orders import key_hash
from ratectl.runtime.wording import listed, percent
from ratectl_cli.framework.text import Aligned, Column, Table, bold, dim, paragraph, plural
from ratectl_cli.render import times
from ratectl_cli.render.labels import key_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime, timedelta

    from ratectl.environments import Place
    from ratectl.history.trees import LiveTree
    from ratectl.policy.resolution.effective_limit import Limit
    from ratectl.records import AgentRecord, PastReset
    from ratectl.resets.finding import FoundKey
    from ratectl.resets.orders import Reset
    from ratectl.resets.reports import KeyReport
    from ratectl_cli.framework.text import Block
    from ratectl_cli.render.waited import Waited

__all__ = ["of_shared", "ordered_blocks", "ordered_data", "past_blocks", "past_data", "preview"]

_NAMED: Final = 10
_COLUMNS: Final = (
    Column("RESET", 2),
    Column("AUTHOR", 5, "text", least=10),
    Column("SCOPE", 1),
    Column("LIMIT", 1),
    Column("KEY", 3),
    Column("REASON", 4, "text", least=24),
)


def preview(
    live: LiveTree,
    found: FoundKey,
    place: Place,
    report: KeyReport,
    agents: Sequence[AgentRecord],
    lasts: timedelta,
) -> Iterator[Block]:
    """Yield what a reset is about to do."""
    from ratectl_cli.render.explanation import one_limit_rows

    title = f" of {_what(found.limit.name, found.scope, budget=found.budget)}"
    yield paragraph([bold("reset"), title, f" in {place}, generation {live.generation}"])
    rows = one_limit_rows(live.tree, found.scope, found.limit, found.key, budget=found.budget)
    yield Aligned(
        [*rows, ("",), ("reports", _report_text(report)), ("agents", _who(agents, lasts))]
    )


def of_shared(limit: Limit) -> str:
    """Return what a reset does to a limit that is one for all processes."""
    effect = "makes full only what agents have of the key themselves"
    if not limit.per:
        effect = "takes away the tokens that agents have now"
    return (
        f"{limit.name} is one limit for all processes: a reset does not fill its owner's pool, and "
        f"{effect}"
    )


def _report_text(report: KeyReport) -> str:
    if not report.agents:
        return "no agent names this key among its busiest or most refused"
    parts = [f"named by {plural(report.agents, 'agent')}"]
    if report.requests:
        parts.append(f"at least {plural(report.requests, 'request')} in the last minutes")
    if report.use is not None:
        parts.append(f"its fullest bucket is used {percent(report.use)}")
    if report.refused:
        parts.append(f"about {report.refused} refused")
    return ", ".join(parts)


def _who(agents: Sequence[AgentRecord], lasts: timedelta) -> str:
    old = sum(agent.reset_sequence is None for agent in agents)
    within = times.span(lasts.total_seconds())
    text = f"{len(agents) - old} will obey, each once, within {within}"
    if old:
        text += f"; {plural(old, 'agent')} of an older version will not"
    return text if agents else "none reports: only agents that run obey"


def _what(limit: str, scope: str, *, budget: bool) -> str:
    return f"{'budget ' if budget else ''}{limit} at {scope}"


# -- ordered


def ordered_data(reset: Reset, waited: Waited | None) -> dict[str, Any]:
    """Return a reset that was ordered, for programs, and the agents that were waited for."""
    return {
        "sequence": reset.sequence,
        "scope": reset.scope,
        "limit": reset.limit,
        "budget": reset.budget,
        "key": dict(reset.key),
        "key_hash": key_hash(reset.key),
        "reason": reset.reason,
        "author": reset.author,
        "time": reset.time,
        "expires": reset.expires,
        "signed": reset.signature is not None,
        "agents": None
        if waited is None
        else {
            "outcome": waited.outcome,
            "obeyed": [agent.id for agent in waited.standing.running],
            "behind": [agent.id for agent in waited.standing.behind],
            "shared": [
                agent.id
                for agent in waited.standing.running
                if agent.reset_shared and agent.reset_sequence == reset.sequence
            ],
        },
    }


def ordered_blocks(reset: Reset, waited: Waited | None) -> Iterator[Block]:
    """Yield a reset that was ordered, for people."""
    what = _what(reset.limit, reset.scope, budget=reset.budget)
    key = key_text(reset.key) or "all requests"
    yield paragraph([bold(f"reset of {what} is ordered", "green"), f": {key}"])
    if waited is not None and waited.outcome == "nobody":
        yield [bold("no agent is running: the reset changes nothing", "yellow")]
    elif waited is not None:
        standing = waited.standing
        after = f" after {waited.seconds:.3g} s" if waited.outcome == "timeout" else ""
        yield f"obeyed by {len(standing.running)} of {plural(standing.there, 'agent')}{after}"
        if standing.behind:
            behind = listed([agent.id for agent in standing.behind], _NAMED)
            yield paragraph([bold("not yet: ", "yellow"), behind])
    if reset.key:
        yield [dim("key:    "), f"#{key_hash(reset.key)} in `ratectl history`"]


# -- history


def past_data(past: PastReset) -> dict[str, Any]:
    """Return a reset of the history, for programs."""
    return {
        "sequence": past.sequence,
        "time": past.time,
        "author": past.author,
        "scope": past.scope,
        "limit": past.limit,
        "budget": past.budget,
        "attributes": past.attributes,
        "key_hash": past.key_hash,
        "reason": past.reason,
        "signed": past.signed,
    }


def past_blocks(resets: Sequence[PastReset], now: datetime) -> Iterator[Block]:
    """Yield a table of resets, for people."""
    if not resets:
        return
    table = Table(_COLUMNS)
    for past in resets:
        limit = f"{'budget ' if past.budget else ''}{past.limit}"
        who = past.author.partition(" <")[0]
        key = f"#{past.key_hash}" if past.attributes else "-"
        table.rows.append((times.ago(past.time, now), who, past.scope, limit, key, past.reason))
    yield ""
    yield table
