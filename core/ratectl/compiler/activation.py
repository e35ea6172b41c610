"""Activation: the checks of a bundle's bytes before an agent enforces them.

The steps: size, hash, strict parse, compile, then a self-check, in which the plans decide synthetic
requests on a scratch engine of the kind that will enforce them; so plans that crash an engine are
found before real requests. A failure of any step rejects the whole generation.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from ratectl.compiler.plans import Compiled, compiled
from ratectl.engine import engine_type
from ratectl.engine.api import PlanSet
from ratectl.engine.conditional_limit import LimitChoice
from ratectl.errors import BundleError
from ratectl.policy.bundle import decode_policies, digest
from ratectl.policy.resolution.inherited_size import too_much_inherited
from ratectl.runtime.cooperative import paced
from ratectl.runtime.gc_pause import paused_collector

if TYPE_CHECKING:
    from collections.abc import Callable

    from ratectl.compiler.surroundings import Part, Pools
    from ratectl.engine.algorithms.quota import WallOffset
    from ratectl.engine.api import Engine, ScopePlan
    from ratectl.engine.limit_plan import LimitPlan
    from ratectl.policy.language.model import PolicyTree

__all__ = ["activate", "activate_tree", "activated", "verified"]

_CHECKED_SCOPES: Final = 200
"""Most scopes checked, evenly spread over the tree. Six requests each are about a thousand."""

_CHECKED_LIMITS: Final = 10_000
"""Most limits of all checked scopes together, unless a single scope has more."""

_SYNTHETIC: Final = (None, "", "self-check")
"""Values of the attributes of synthetic requests; None leaves them out."""


def activate(
    data: bytes,
    sha256: str,
    generation: int,
    offset: WallOffset | None = None,
    now_ns: int | None = None,
) -> PlanSet:
    """Verify and compile the bytes of a generation (see ``compile_tree``).

    :raises BundleError: they must not be enforced; the message gives the reason.
    """
    with paused_collector():
        return activate_tree(verified(data, sha256), generation, offset, now_ns)


def verified(data: bytes, sha256: str) -> PolicyTree:
    """Return the tree in the bytes of a generation.

    :raises BundleError: the hash differs, or the bytes are no bundle; the message says which.
    """
    if digest(data) != sha256:
        raise BundleError(f"bundle {sha256[:12]} is corrupt: its bytes hash to {digest(data)[:12]}")
    with paused_collector():
        return decode_policies(data)


def activate_tree(
    tree: PolicyTree,
    generation: int,
    offset: WallOffset | None = None,
    now_ns: int | None = None,
) -> PlanSet:
    """Compile a tree and check its plans: see ``activated``."""
    return activated(tree, generation, offset, now_ns).plans


def activated(
    tree: PolicyTree,
    generation: int,
    offset: WallOffset | None = None,
    now_ns: int | None = None,
    pools: Pools | None = None,
    part: Part = "all",
) -> Compiled:
    """Compile a tree (see ``compiled``) and check its plans by deciding synthetic requests.

    :raises BundleError: it must not be enforced.
    :raises UsageError: the engine that ``RATECTL_ENGINE`` names does not exist.
    """
    too_much = too_much_inherited(tree)
    if too_much:
        scope, message = too_much
        raise BundleError(f"{scope}: {message}")
    made = compiled(tree, generation, offset, now_ns, pools, part)
    engine = engine_type()
    try:
        _self_check(made.plans, engine)
    except Exception as error:
        raise BundleError(f"self-check failed: {type(error).__name__}: {error}") from error
    return made


def _self_check(plans: PlanSet, make: Callable[[Callable[[], int]], Engine]) -> None:
    widest = max((len(plan.limits) for plan in paced(plans.scopes.values())), default=0)
    checked = max(1, min(_CHECKED_SCOPES, _CHECKED_LIMITS // max(1, widest)))
    stride = max(1, len(plans.scopes) // checked)
    for plan in paced(islice(plans.scopes.values(), 0, None, stride)):
        # One engine for each scope: one engine with all plans would take as long to swap and free.
        engine = make(lambda: 0)
        engine.swap(PlanSet(plans.generation, {plan.scope: plan}), now=0)
        for attributes in _synthetic_attributes(plan):
            for cost in (0, 1):
                engine.check(plan.scope, attributes, cost, now=cost)
        _break_cycles(engine)


def _break_cycles(engine: Engine) -> None:
    """Empty a scratch engine: it and its compiled core refer to each other, also by its plans.

    Objects in such cycles would stay until the collector's next full pass.
    """
    engine.swap(PlanSet(0), now=0)
    vars(engine).clear()


def _synthetic_attributes(plan: ScopePlan) -> list[dict[str, str]]:
    names = {name for limit in plan.limits for name in _counted_by(limit)}
    if plan.conditions is not None:
        names.update(plan.conditions.attributes)
    return [{} if value is None else dict.fromkeys(names, value) for value in _SYNTHETIC]


def _counted_by(limit: LimitPlan | LimitChoice) -> tuple[str, ...]:
    plan = limit.plan(0) if isinstance(limit, LimitChoice) else limit
    return plan.per if plan is not None else ()
