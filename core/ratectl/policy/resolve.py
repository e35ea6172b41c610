"""Resolution: what holds at a scope, and why. A pure function of the documents and the scope.

The path is walked from ``/`` down. Each document drops what it names in ``unset``, then merges its
``limits`` field by field; deeper beats shallower. Then caps clip. Every value remembers the scope
that set it and the value that it beat, so the same walk serves agents (``compile``), ``validate``
and ``explain``.

Budgets are collected along the path and never merged: each has one bucket, at its own scope.

To come at the places marked below: overrides (after a document's limits, selected by attributes),
Exceptions (after the walk, selected by time).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from ratectl.policy.limits import BUILT_IN, FIELDS, Limit, Problem, Setting, finish
from ratectl.policy.scopes import parent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratectl.policy.model import Cap, LimitFields, Policy, PolicyTree

__all__ = ["Resolved", "Resolver", "resolve"]


class Resolved(NamedTuple):
    """Everything that holds at ``scope``, the declared one (see ``Resolver.at``)."""

    scope: str
    on_error: Setting
    limits: Mapping[str, Limit]
    problems: Mapping[str, Problem]
    """Limits that cannot be used, by name; empty in a valid tree."""
    fields: Mapping[str, Mapping[str, Setting]]
    """Merged fields of each limit before caps: what deeper scopes inherit."""
    caps: Mapping[str, Mapping[str, Setting]]
    """The tightest cap of each limit's ``rate`` and ``burst`` at or above this scope."""
    budgets: tuple[tuple[str, Limit], ...]
    """Every budget on the path with the scope whose bucket it is, from ``/`` down."""
    broken_budgets: Mapping[str, Problem]
    """Budgets of this very scope that cannot be used, by name."""
    trusted_proxies: Setting


_NO_CAP: Final[Mapping[str, Setting]] = {}
_NO_PROBLEMS: Final[Mapping[str, Problem]] = {}
_NOTHING: Final = Resolved(
    "", Setting("allow", BUILT_IN), {}, {}, {}, {}, (), {}, Setting((), BUILT_IN)
)


class Resolver:
    """Resolves scopes of one tree, remembering each declared scope."""

    def __init__(self, tree: PolicyTree) -> None:
        self._policies = tree.policies
        self._known: dict[str, Resolved] = {}

    def at(self, scope: str) -> Resolved | None:
        """What holds at ``scope``: its own document's, or the nearest declared ancestor's.

        None where no policy covers it.
        """
        found = self._known.get(scope)
        if found is not None:
            return found
        above = parent(scope)
        found = None if above is None else self.at(above)
        policy = self._policies.get(scope)
        if policy is not None:
            found = self._known[scope] = step(found or _NOTHING, policy)
        return found


def resolve(tree: PolicyTree, scope: str) -> Resolved | None:
    """What holds at ``scope`` in ``tree``; None where no policy covers it."""
    return Resolver(tree).at(scope)


def step(above: Resolved, policy: Policy) -> Resolved:
    """One step of the walk: what ``policy`` makes of what holds above it."""
    scope = policy.scope
    on_error = _inherit(above.on_error, policy.on_error, scope)
    proxies = _inherit(above.trusted_proxies, policy.trusted_proxies, scope)
    caps = _merge_caps(above.caps, policy) if policy.caps else above.caps
    fields = _merge_limits(above.fields, policy) if policy.limits or policy.unset else above.fields
    # Overrides and Exceptions will merge here, after the document's own limits.
    limits, problems = above.limits, above.problems
    if fields is not above.fields or caps is not above.caps:
        limits, problems = _in_force(above, fields, caps)
    budgets, broken = above.budgets, _NO_PROBLEMS
    if policy.budgets:
        own, broken = _own_budgets(policy)
        budgets = (*budgets, *own)
    return Resolved(scope, on_error, limits, problems, fields, caps, budgets, broken, proxies)


def _inherit(above: Setting, said: object, scope: str) -> Setting:
    """A setting of the scope itself; what is built in was beaten by nobody."""
    if said is None:
        return above
    return Setting(said, scope, above if above.scope else None)


def _own_budgets(policy: Policy) -> tuple[list[tuple[str, Limit]], dict[str, Problem]]:
    found: list[tuple[str, Limit]] = []
    broken: dict[str, Problem] = {}
    for name, said in policy.budgets.items():
        budget = finish(name, _merge_fields(None, said, policy.scope), {}, budget=True)
        if isinstance(budget, Problem):
            broken[name] = budget
        else:
            found.append((policy.scope, budget))
    return found, broken


def _merge_limits(
    above: Mapping[str, Mapping[str, Setting]], policy: Policy
) -> dict[str, Mapping[str, Setting]]:
    merged = dict(above)
    for name in policy.unset:
        merged.pop(name, None)
    for name, said in policy.limits.items():
        merged[name] = _merge_fields(merged.get(name), said, policy.scope)
    return merged


def _merge_fields(
    inherited: Mapping[str, Setting] | None, said: LimitFields, scope: str
) -> dict[str, Setting]:
    merged: dict[str, Setting] = dict(inherited) if inherited else {}
    if said.algorithm is not None and inherited:
        has = FIELDS[said.algorithm]
        merged = {name: setting for name, setting in merged.items() if name in has}
    for name, value in said.__dict__.items():
        if value is not None:
            merged[name] = Setting(value, scope, merged.get(name))
    return merged


def _merge_caps(
    above: Mapping[str, Mapping[str, Setting]], policy: Policy
) -> dict[str, Mapping[str, Setting]]:
    merged = dict(above)
    for name, cap in policy.caps.items():
        merged[name] = _tightest(merged.get(name) or {}, cap, policy.scope)
    return merged


def _tightest(known: Mapping[str, Setting], cap: Cap, scope: str) -> dict[str, Setting]:
    merged = dict(known)
    if cap.rate is not None:
        rate = merged.get("rate")
        if rate is None or rate.value.exceeds(cap.rate):
            merged["rate"] = Setting(cap.rate, scope, rate)
    if cap.burst is not None:
        burst = merged.get("burst")
        if burst is None or burst.value > cap.burst:
            merged["burst"] = Setting(cap.burst, scope, burst)
    return merged


def _in_force(
    above: Resolved,
    fields: Mapping[str, Mapping[str, Setting]],
    caps: Mapping[str, Mapping[str, Setting]],
) -> tuple[dict[str, Limit], dict[str, Problem]]:
    """Finish each limit, reusing what is exactly as it was above."""
    limits: dict[str, Limit] = {}
    problems: dict[str, Problem] = {}
    for name, said in fields.items():
        cap = caps.get(name, _NO_CAP)
        finished: Limit | Problem | None = None
        if said is above.fields.get(name) and cap is above.caps.get(name, _NO_CAP):
            finished = above.limits.get(name)
        if finished is None:
            finished = finish(name, said, cap)
        if finished.__class__ is Limit:
            limits[name] = finished
        else:
            problems[name] = finished  # type: ignore[assignment]
    return limits, problems
