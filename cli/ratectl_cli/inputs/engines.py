"""An engine of this process that runs policies named on the command line."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ratectl.agent.wall_clock import WallClock
from ratectl.compiler.activation import activate_tree
from ratectl.engine import open_engine
from ratectl.history.trees import live_tree
from ratectl_cli.inputs.policies import read_valid

if TYPE_CHECKING:
    from ratectl_cli.framework.session import Session

__all__ = ["engine_of"]


def engine_of(session: Session, policies: str | None, now_ns: int) -> tuple[Any, int | None]:
    """Return an engine that runs the policies at a path, and their generation.

    Without a path, it runs the live generation. ``now_ns``: UTC, decides which exceptions are in
    force. The generation is None for files.
    """
    generation: int | None = None
    if policies is not None:
        tree = read_valid([policies]).tree
    else:
        with session.store() as store:
            generation, tree = live_tree(store)
    engine = open_engine(time.monotonic_ns)
    engine.swap(activate_tree(tree, generation or 1, WallClock(), now_ns))
    return engine, generation
