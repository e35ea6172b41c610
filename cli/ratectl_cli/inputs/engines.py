"""An engine of this process that runs policies named on the command line."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ratectl.agent.wall_clock import WallClock
from ratectl.compiler.activation import activate_tree
from ratectl.engine import open_engine
from ratectl.engine.cost import REQUESTS
from ratectl.history.trees import live_tree
from ratectl_cli.inputs.policies import read_valid

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ratectl.engine.api import Engine
    from ratectl.engine.cost import Cost
    from ratectl_cli.framework.session import Session

__all__ = ["engine_of", "unnoticed"]


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


def unnoticed(
    engine: Engine, scope: str, attributes: Mapping[str, str], cost: Cost
) -> Iterator[str]:
    """Yield a message for each part of a request that no limit of its scope notices."""
    plan = engine.plan(scope)
    if plan is None or isinstance(cost, int):
        return
    known = sorted({limit.unit for limit in plan.deciding(attributes)})
    counted = f"its limits count {' and '.join(known)}" if known else "it has no limits"
    for unit in cost:
        if unit not in known and unit != REQUESTS:
            yield f"no limit of {plan.scope} counts {unit} for this request: {counted}"
