"""An engine of this process that runs policies named on the command line."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ratectl.agent.wall_clock import WallClock
from ratectl.compiler.activation import activate_tree
from ratectl.engine import open_engine
from ratectl.engine.cost import REQUESTS
from ratectl.history.trees import live_tree
from ratectl.runtime.wording import joined, listed
from ratectl_cli.inputs.policies import read_valid

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ratectl.engine.api import Engine
    from ratectl.engine.cost import Cost
    from ratectl.engine.limit_plan import LimitPlan
    from ratectl.policy.language.model import PolicyTree
    from ratectl_cli.framework.session import Session

__all__ = ["engine_of", "overrides_of", "tree_of", "unnoticed"]


def tree_of(session: Session, policies: str | None) -> tuple[PolicyTree, int | None]:
    """Return the policies at a path, or the live ones without a path; and the live generation."""
    if policies is not None:
        return read_valid([policies]).tree, None
    with session.store() as store:
        generation, tree = live_tree(store)
        return tree, generation


def engine_of(tree: PolicyTree, generation: int | None, now_ns: int) -> Any:
    """Return an engine that runs policies; ``now_ns``: UTC, decides about exceptions."""
    engine = open_engine(time.monotonic_ns)
    engine.swap(activate_tree(tree, generation or 1, WallClock(), now_ns))
    return engine


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
    counted = f"its limits count {joined(known)}" if known else "it has no limits"
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
