"""Waiting for agents after a publication, and what is said of them then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ratectl_cli.framework.text import bold, plural

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ratectl.fleet.convergence import Enough, Outcome, Standing
    from ratectl.stores.base import Store
    from ratectl_cli.framework.session import Session
    from ratectl_cli.framework.text import Block

__all__ = ["Waited", "agents_blocks", "agents_data", "exit_code", "wait", "waited_for"]

_PATIENCE: Final = 60.0
"""Seconds to wait for agents where no --timeout is given."""
_NAMED: Final = 10


class Waited(NamedTuple):
    """What agents made of a generation, as far as they were waited for."""

    outcome: Outcome
    standing: Standing
    seconds: float


def wait(session: Session, store: Store, generation: int, wanted: Enough | None) -> Waited | None:
    """Wait for agents, if any are to be waited for."""
    from ratectl.fleet.convergence import wait_for

    if wanted is None:
        return None
    return waited_for(
        session, _PATIENCE, lambda seconds: wait_for(store, generation, wanted, seconds)
    )


def waited_for(
    session: Session, patience: float, look: Callable[[float], tuple[Outcome, Standing]]
) -> Waited:
    """What ``look`` finds within the seconds that it gets: ``patience`` without ``--timeout``."""
    share = session.deadline.share()
    seconds = patience if share is None else share
    with session.busy("waiting for agents"):
        return Waited(*look(seconds), seconds)


def exit_code(waited: Waited | None) -> int:
    """0 where enough agents run it, or none were waited for."""
    if waited is None:
        return 0
    return {"reached": 0, "rejected": 1, "nobody": 1, "timeout": 124}[waited.outcome]


def agents_data(waited: Waited | None) -> dict[str, Any] | None:
    """For programs; None where nobody was waited for."""
    if waited is None:
        return None
    standing = waited.standing
    return {
        "outcome": waited.outcome,
        "running": [each.id for each in standing.running],
        "rejected": [{"id": each.id, "error": each.error} for each in standing.rejected],
        "behind": [{"id": each.id, "generation": each.generation} for each in standing.behind],
    }


def agents_blocks(waited: Waited | None) -> Iterator[Block]:
    """For people; nothing where nobody was waited for."""
    if waited is None:
        return
    standing = waited.standing
    if waited.outcome == "nobody":
        yield [bold("no agent is there: nobody runs it", "yellow")]
        return
    after = f" after {waited.seconds:.0f} s" if waited.outcome == "timeout" else ""
    yield f"it runs in {len(standing.running)} of {plural(standing.there, 'agent')}{after}"
    for each in standing.rejected:
        yield [bold("rejected ", "red"), f"by {each.id}: {each.error}"]
    if waited.outcome == "timeout":
        behind = [f"{each.id} (generation {each.generation})" for each in standing.behind[:_NAMED]]
        more = len(standing.behind) - len(behind)
        yield f"not yet: {', '.join(behind)}" + (f" and {more} more" if more > 0 else "")
