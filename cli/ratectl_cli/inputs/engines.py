"""An engine of this process that runs policies named on the command line."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ratectl.agent.wall_clock import WallClock
from ratectl.compiler.activation import activate_tree
from ratectl.engine import open_engine
from ratectl.engine.cost import REQUESTS
from ratectl.history.trees import live_tree
from ratectl.runtime.wording import listed
from ratectl_cli.inputs.policies import read_valid

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ratectl.engine.api import Engine
    from ratectl.engine.cost import Cost
    from ratectl.engine.limit_plan import LimitPlan
    from ratectl_cli.framework.session import Session

__all__ = ["engine_of", "overrides_of", "unnoticed"]


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


def overrides_of(
    engine: Engine, scope: str, attributes: Mapping[str, str]
) -> dict[tuple[str, str], tuple[str, ...]]:
    """Return the overrides that give a request its limits, by scope and name of each limit."""
    plan = engine.plan(scope)
    limits = plan.deciding(attributes) if plan is not None else ()
    return {(limit.scope, limit.name): limit.overrides for limit in limits if not limit.budget}


def unnoticed(
    engine: Engine, scope: str, attributes: Mapping[str, str], cost: Cost
) -> Iterator[str]:
    """Yield a message for each unit that no limit of the scope counts, and each attribute that the
    limits count per and the request lacks."""
    plan = engine.plan(scope)
    if plan is None:
        return
    limits = plan.deciding(attributes)
    yield from _absent(limits, attributes)
    if isinstance(cost, int):
        return
    known = sorted({limit.unit for limit in limits})
    counted = f"its limits count {' and '.join(known)}" if known else "it has no limits"
    for unit in cost:
        if unit not in known and unit != REQUESTS:
            yield f"no limit of {plan.scope} counts {unit} for this request: {counted}"


def _absent(limits: Sequence[LimitPlan], attributes: Mapping[str, str]) -> Iterator[str]:
    """Yield a message for each attribute that limits count per and the request lacks."""
    found: dict[tuple[str, bool], list[str]] = {}
    for limit in limits:
        for name in limit.per:
            if name not in attributes:
                found.setdefault((name, limit.skips), []).append(limit.name)
    for (name, skips), names in found.items():
        whose = f"{'limit' if len(names) == 1 else 'limits'} {listed(names, 5)}"
        if skips:
            yield f"{name} is absent: {whose} do{'es' * (len(names) == 1)} not apply"
        else:
            yield f"{name} is absent: requests without it share one bucket ({whose})"
