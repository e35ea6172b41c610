"""Wait for agents after a change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ratectl.fleet.convergence import wait_for_agents
from ratectl_cli.render.waited import Waited

if TYPE_CHECKING:
    from collections.abc import Callable

    from ratectl.fleet.convergence import Enough, Outcome, Standing
    from ratectl.stores.base import Store
    from ratectl_cli.framework.session import Session

__all__ = ["exit_code", "wait", "waited_for"]

_PATIENCE: Final = 60.0
"""Seconds to wait for agents where no --timeout is given."""


def wait(session: Session, store: Store, generation: int, wanted: Enough | None) -> Waited | None:
    """Wait until enough agents run a generation; None if none are wanted."""
    if wanted is None:
        return None
    return waited_for(
        session,
        _PATIENCE,
        lambda seconds: wait_for_agents(store, generation, wanted, seconds=seconds),
    )


def waited_for(
    session: Session, patience: float, look: Callable[[float], tuple[Outcome, Standing]]
) -> Waited:
    """Call ``look`` with the seconds that may pass: ``--timeout``, else ``patience``."""
    share = session.deadline.share()
    seconds = patience if share is None else share
    with session.busy("waiting for agents"):
        return Waited(*look(seconds), seconds)


def exit_code(waited: Waited | None) -> int:
    """Return 0 if enough agents run it, or none were waited for."""
    if waited is None:
        return 0
    return {"reached": 0, "rejected": 1, "nobody": 1, "timeout": 124}[waited.outcome]
