"""Resolution: what holds at a scope, and why. A pure function of documents, request and time.

The path is walked from ``/`` down. Each document drops what it names in ``unset``, then merges its
``limits`` field by field, then each of its overrides that matches, in file order; deeper beats
shallower. After the walk the exceptions in force are merged, and at last caps clip. Every value
remembers who set it and what it beat, so the same walk serves agents (``compile``), ``validate``
and ``explain``.

Budgets are collected along the path and never merged: each has one bucket, at its own scope.

A request matters only by which *conditions* hold for it: the overrides along the path, and those
exceptions in force that have a ``match``. They are numbered along the path (``places``), and a set
of them is an integer with these bits. So a scope's conditions begin with its parent's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ratectl.policy.language.scopes import parent
from ratectl.policy.resolution.building import build_limit
from ratectl.policy.resolution.conditions import NOWHERE, Place, Places
from ratectl.policy.resolution.effective_limit import BUILT_IN, Limit, Problem, Setting
from ratectl.policy.resolution.merge import merge_caps, merge_fields, merge_further, merge_limits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratectl.policy.language.model import Policy, PolicyTree
    from ratectl.policy.resolution.merge import Fields, Named

__all__ = ["Resolved", "Resolver", "resolve"]


class Resolved(NamedTuple):
    """Everything that holds at ``scope``, the declared one (see ``Resolver.at``)."""

    scope: str
    on_error: Setting
    limits: Mapping[str, Limit]
    problems: Mapping[str, Problem]
    """Limits that cannot be used, by name; empty in a valid tree."""
    fields: Named
    """Merged fields of each limit before exceptions and caps: what deeper scopes inherit."""
    caps: Named
    """The tightest cap of each limit's ``rate`` and ``burst`` at or above this scope."""
    budgets: tuple[tuple[str, Limit], ...]
    """Every budget on the path with the scope whose bucket it is, from ``/`` down."""
    broken_budgets: Mapping[str, Problem]
    """Budgets of this very scope that cannot be used as they are said, by name."""
    trusted_proxies: Setting
    matched: int = 0
    """The conditions that were taken to hold."""


_NO_CAP: Final[Fields] = {}
_NO_PROBLEMS: Final[Mapping[str, Problem]] = {}
_NOTHING: Final = Resolved(
    "", Setting("allow", BUILT_IN), {}, {}, {}, {}, (), {}, Setting((), BUILT_IN)
)


class Resolver:
    """Resolves scopes of one tree at one time, remembering each declared scope.

    ``now_ns`` is the instant whose exceptions are in force, in nanoseconds since 1970; None leaves
    all exceptions out. ``bare`` is the resolver of the same policies that leaves them all out,
    where there is one: what it has found serves again.
    """

    def __init__(
        self, tree: PolicyTree, now_ns: int | None = None, bare: Resolver | None = None
    ) -> None:
        self._policies = tree.policies
        self._known: dict[str, Resolved] = {}
        self.places: Places = Places(tree, now_ns, bare.places if bare else None)

    @property
    def workings(self) -> tuple[Mapping[Any, object], ...]:
        """What it remembers and was made of, to be let go piece by piece (see ``pacing``)."""
        return self._policies, self._known, *self.places.workings

    def at(self, scope: str) -> Resolved | None:
        """What holds at ``scope`` for requests that satisfy no condition: its own document's, or
        the nearest declared ancestor's.

        None where no policy covers it.
        """
        found = self._known.get(scope)
        if found is not None:
            return found
        above = parent(scope)
        found = None if above is None else self.at(above)
        policy = self._policies.get(scope)
        if policy is not None:
            found = self._step(found or _NOTHING, policy, 0)
            self._known[scope] = found
        return found

    def where(self, scope: str, matched: int) -> Resolved | None:
        """What holds at ``scope`` where just these conditions do (see ``places``)."""
        if not matched:
            return self.at(scope)
        above = parent(scope)
        policy = self._policies.get(scope)
        if policy is None:
            return None if above is None else self.where(above, matched)
        place = self.places.at(scope)
        before = None
        if above is not None:
            before = self.where(above, matched & place.inherited)
        return self._step(before or _NOTHING, policy, matched)

    def select(self, scope: str, attributes: Mapping[str, str]) -> Resolved | None:
        """What holds at ``scope`` for requests with these attributes."""
        return self.where(scope, self.places.at(scope).conditions.holding(attributes))

    def enforced(self, scope: str, attributes: Mapping[str, str]) -> Resolved | None:
        """The same, with limits as agents enforce them where conditions make none together."""
        resolved = self.select(scope, attributes)
        if resolved is None or not resolved.problems:
            return resolved
        limits = dict(resolved.limits)
        for name in resolved.problems:
            limit = self.limit(resolved.scope, name, resolved.matched)
            if limit is not None:
                limits[name] = limit
        return resolved._replace(limits=limits)

    def _step(self, above: Resolved, policy: Policy, matched: int) -> Resolved:
        """One step of the walk: what ``policy`` makes of what holds above it."""
        scope = policy.scope
        place = self.places.at(scope) if self.places.any else NOWHERE
        on_error = _inherit(above.on_error, policy.on_error, scope)
        proxies = _inherit(above.trusted_proxies, policy.trusted_proxies, scope)
        caps = merge_caps(above.caps, policy) if policy.caps else above.caps
        fields = above.fields
        if policy.limits or policy.unset:
            fields = merge_limits(fields, policy)
        if matched:
            fields = merge_further(fields, place.own(matched))
        limits, problems = above.limits, above.problems
        if fields is not above.fields or caps is not above.caps or place.exceptions:
            limits, problems = self._in_force(above, place, fields, caps, matched)
        budgets, broken = above.budgets, _NO_PROBLEMS
        if policy.budgets:
            own, broken = _own_budgets(policy, place, matched)
            budgets = (*budgets, *own)
        return Resolved(
            scope, on_error, limits, problems, fields, caps, budgets, broken, proxies, matched
        )

    def _in_force(
        self, above: Resolved, place: Place, fields: Named, caps: Named, matched: int
    ) -> tuple[dict[str, Limit], dict[str, Problem]]:
        """Finish each limit, reusing what is exactly as it was above."""
        limits: dict[str, Limit] = {}
        problems: dict[str, Problem] = {}
        amended = fields
        if place.exceptions:
            amended = merge_further(fields, place.in_force(matched))
        for name, said in amended.items():
            cap = caps.get(name, _NO_CAP)
            finished: Limit | Problem | None = None
            if (
                said is above.fields.get(name)
                and said is fields.get(name)
                and cap is above.caps.get(name, _NO_CAP)
                and name not in place.amended
            ):
                finished = above.limits.get(name)
            if finished is None:
                finished = build_limit(name, said, cap, conditional=bool(matched))
            if isinstance(finished, Problem):
                problems[name] = finished
                finished = self._without(name, said, fields, cap)
            if finished is not None:
                limits[name] = finished
        return limits, problems

    def _without(self, name: str, amended: Fields, fields: Named, cap: Fields) -> Limit | None:
        """A limit that an exception makes unusable goes on as if that were not there."""
        said = fields.get(name)
        finished = None if said is None or said is amended else build_limit(name, said, cap)
        return finished if isinstance(finished, Limit) else None

    def limit(self, scope: str, name: str, matched: int) -> Limit | None:
        """One limit where just these conditions hold, for agents: never a problem.

        Where the fields that come together make no limit (``validate`` finds that for pairs of
        overrides), the last of the conditions is disregarded, and so on.
        """
        while True:
            resolved = self.where(scope, matched)
            found = resolved.limits.get(name) if resolved else None
            if found is not None or resolved is None or name not in resolved.problems:
                return found
            matched &= ~(1 << matched.bit_length() - 1) if matched else 0
            if not matched:
                base = self.at(scope)
                return base.limits.get(name) if base else None


def resolve(
    tree: PolicyTree,
    scope: str,
    attributes: Mapping[str, str] | None = None,
    now_ns: int | None = None,
) -> Resolved | None:
    """What holds at ``scope`` in ``tree`` for a request; None where no policy covers it."""
    return Resolver(tree, now_ns).select(scope, attributes or {})


def _inherit(above: Setting, said: object, scope: str) -> Setting:
    """A setting of the scope itself; what is built in was beaten by nobody."""
    if said is None:
        return above
    return Setting(said, scope, above if above.scope else None)


def _own_budgets(
    policy: Policy, place: Place, matched: int
) -> tuple[list[tuple[str, Limit]], dict[str, Problem]]:
    found: list[tuple[str, Limit]] = []
    broken: dict[str, Problem] = {}
    for name, said in policy.budgets.items():
        own = fields = merge_fields(None, said, policy.scope)
        for exception, via in place.in_force(matched):
            if exception.scope == policy.scope and name in exception.budgets:
                fields = merge_fields(fields, exception.budgets[name], policy.scope, via)
        budget = build_limit(name, fields, {}, budget=True)
        if isinstance(budget, Problem):
            broken[name] = budget
            if fields is not own:  # as for limits: as if the exceptions were not there
                budget = build_limit(name, own, {}, budget=True)
        if isinstance(budget, Limit):
            found.append((policy.scope, budget))
    return found, broken
