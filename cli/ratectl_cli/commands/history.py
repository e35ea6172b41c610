"""``ratectl history``."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ratectl_cli.framework.session import session_of
from ratectl_cli.framework.text import Column, Styled, Table, bold

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ratectl.records import HistoryEntry
    from ratectl_cli.framework.text import Block, Line


def history(
    ctx: typer.Context,
    limit: Annotated[
        int, typer.Option("-n", "--limit", metavar="N", min=1, help="Newest generations to list.")
    ] = 20,
) -> int:
    """List who published what, and when.

    Newest first; * marks the live generation. A + after a commit means that the files differed
    from it. Of a candidate it says how its rollout stands, or ended.

    Examples:
      ratectl history
      ratectl history --limit 100 -o json | jq '.generations[] | select(.action == "rollback")'

    Exit codes:
      0   always, if the store answers
      69  store unreachable
    """
    from ratectl.history.generations import read_history, read_live, read_rollouts

    session = session_of(ctx)
    with session.store() as store:
        live = read_live(store).generation
        entries = read_history(store, session.warn)
        rollouts = read_rollouts(store, session.warn)
        tried = {number: record.state for number, record in rollouts.items()}
    shown = entries[:limit]
    data = {
        "live": live or None,
        "generations": [
            {**entry_data(entry, live=live), "rollout": tried.get(entry.generation)}
            for entry in shown
        ],
        "more": len(entries) - len(shown),
    }
    session.answer("History", data, lambda: _blocks(shown, live, tried))
    if session.text:
        if not entries:
            session.say("nothing is published yet: ratectl apply PATH")
        elif len(entries) > len(shown):
            session.say(f"{len(entries) - len(shown)} older: ratectl history -n {len(entries)}")
    return 0


def entry_data(entry: "HistoryEntry", *, live: int) -> dict[str, Any]:
    """A history entry for programs."""
    return {
        "generation": entry.generation,
        "live": entry.generation == live,
        "time": entry.time,
        "author": entry.author,
        "action": entry.action,
        "set": entry.set,
        "rollback_of": entry.rollback_of,
        "message": entry.message,
        "commit": entry.commit,
        "dirty": entry.dirty,
        "summary": entry.summary,
        "passed": entry.passed,
        "bundle": entry.bundle,
    }


def commit_text(entry: "HistoryEntry") -> str:
    """``3f2a1bc9d0+``: short, and marked when the files differed."""
    return f"{entry.commit[:10]}{'+' if entry.dirty else ''}" if entry.commit else "-"


def action_text(entry: "HistoryEntry") -> str:
    """``apply``, ``apply of payments`` for a set, or ``rollback to 411``."""
    if entry.rollback_of:
        return f"{entry.action} to {entry.rollback_of}"
    return f"{entry.action} of {entry.set}" if entry.set else entry.action


def message_text(entry: "HistoryEntry") -> str:
    """Why, and which guards were passed for which reason."""
    passed = [f"passed {guard}: {reason}" for guard, reason in sorted(entry.passed.items())]
    return "; ".join(filter(None, (entry.message, *passed)))


def _blocks(
    entries: "Sequence[HistoryEntry]", live: int, tried: "Mapping[int, str]"
) -> "list[Block]":
    from ratectl_cli.render import times

    if not entries:
        return []
    titles = ("GENERATION", "TIME", "AUTHOR", "COMMIT", "ACTION", "CHANGE", "MESSAGE")
    free = ("AUTHOR", "MESSAGE")
    table = Table([Column(title, title == "GENERATION", title in free) for title in titles])
    at = times.now()
    for entry in entries:
        number: Line = str(entry.generation)
        if entry.generation == live:
            number = [bold("* ", "green"), bold(entry.generation, "green")]
        table.rows.append(
            (
                number,
                times.ago(entry.time, at),
                entry.author.partition(" <")[0],
                commit_text(entry),
                ", ".join(filter(None, (action_text(entry), tried.get(entry.generation)))),
                _summary(entry),
                message_text(entry),
            )
        )
    return [table]


def _summary(entry: "HistoryEntry") -> "Line":
    signs = (("added", "+", "green"), ("removed", "-", "red"), ("changed", "~", "yellow"))
    parts: list[Styled] = []
    for name, sign, colour in signs:
        number = entry.summary.get(name)
        if number:
            parts.append(Styled(f"{' ' if parts else ''}{sign}{number}", colour))
    return parts or "-"


__all__ = ["action_text", "commit_text", "entry_data", "history", "message_text"]
