"""``ratectl history``."""

from typing import TYPE_CHECKING, Annotated

import typer

from ratectl_cli.framework import clock
from ratectl_cli.framework.session import session_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratectl_cli.framework.text import Block


def history(
    ctx: typer.Context,
    limit: Annotated[
        int,
        typer.Option("-n", "--limit", metavar="N", min=1, help="Number of generations to list."),
    ] = 20,
) -> int:
    """List generations: who published what, and when.

    The newest comes first; * marks the live generation. A + after a commit means that the files
    differed from it. For a candidate, also shows the state of its rollout. Resets (`ratectl usage
    reset`) are listed after the generations, with a hash of each key.

    Examples:
      ratectl history
      ratectl history --limit 100 -o json | jq '.generations[] | select(.action == "rollback")'

    Exit codes:
      0   always, if the store answers
      69  store unreachable
    """
    from ratectl.history.generations import (
        read_history,
        read_live,
        read_past_resets,
        read_rollouts,
    )
    from ratectl_cli.inputs.unpublished import say_if_unpublished
    from ratectl_cli.render.history import entry_data, history_blocks
    from ratectl_cli.render.resets import past_blocks, past_data

    session = session_of(ctx)
    with session.store() as store:
        live = read_live(store).generation
        entries = read_history(store, session.warn)
        rollouts = read_rollouts(store, session.warn)
        resets = read_past_resets(store, session.warn)[:limit]
    say_if_unpublished(session, live)
    states = {number: record.state for number, record in rollouts.items()}
    shown = entries[:limit]
    data = {
        "live": live or None,
        "generations": [
            {**entry_data(entry, live=live), "rollout": states.get(entry.generation)}
            for entry in shown
        ],
        "more": len(entries) - len(shown),
        "resets": [past_data(each) for each in resets],
    }

    def blocks() -> "Iterator[Block]":
        yield from history_blocks(shown, live, states, clock.now())
        yield from past_blocks(resets, clock.now())

    session.answer("History", data, blocks)
    if session.text and len(entries) > len(shown):
        session.say(f"{len(entries) - len(shown)} older: ratectl history -n {len(entries)}")
    return 0


__all__ = ["history"]
