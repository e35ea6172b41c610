"""Resolution: the policy in force at a scope, as a pure function of documents, request and time.

The path is walked from ``/`` down. Each document removes the limits in its ``unset``, then merges
its ``limits`` field by field, then each of its overrides that matches, in file order; deeper beats
shallower. Then the exceptions in force are merged, and finally caps clip. Every value keeps its
origin and the value that it beat, so the same walk serves agents (``compiler``), ``validate`` and
``explain``.

Budgets are collected along the path and never merged: each has one bucket, at its own scope.

The result depends on a request only through the *conditions* that hold for it, see ``conditions``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ratectl.policy.language.scopes import parent
from ratectl.policy.resolution.building import build_limit
from ratectl.policy.resolution.conditions import NO_CONDITIONS, PathConditions, TreeConditions
from ratectl.policy.resolution.effective_limit import BUILT_IN, Limit, Problem, Setting
from ratectl.policy.resolution.merge import merge_caps, merge_fields, merge_further, merge_limits

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ratectl.policy.language.model import LimitFields, Policy, PolicyTree
    from ratectl.policy.resolution.effective_limit import Via
    from ratectl.policy.resolution.merge import Fields, Named

__all__ = ["Resolved", "Resolver", "resolve"]


class Resolved(NamedTuple):
    """Policy in force at ``scope``, which is declared (see ``Resolver.at``)."""

    scope: str
    on_error: Setting
    limits: Mapping[str, Limit]
    problems: Mapping[str, Problem]
    """Limits that cannot be used with all their fields, by name. In a valid tree, only exceptions
    cause them: those that leave no usable limit here are ignored."""
    fields: Named
    """Merged fields of each limit before exceptions and caps: what deeper scopes inherit."""
    caps: Named
    """The tightest caps on ``rate`` and ``burst`` of each limit, at or above this scope."""
    budgets: tuple[tuple[str, Limit], ...]
    """Every budget on the path with the scope of its bucket, from ``/`` down."""
    broken_budgets: Mapping[str, Problem]
    """Budgets of this scope itself that cannot be used as declared, by name."""
    trusted_proxies: Setting
    matched: int = 0
    """Set of the conditions that were assumed to hold."""


_NO_CAP: Final[Fields] = {}
_NO_PROBLEMS: Final[Mapping[str, Problem]] = {}
_NOTHING: Final = Resolved(
    "", Setting("allow", BUILT_IN), {}, {}, {}, {}, (), {}, Setting((), BUILT_IN)
)


class Resolver:
    """Resolver of the scopes of one tree at one time; it keeps the result of each declared scope.

    ``now_ns`` is the time in nanoseconds since 1970, for exceptions; None leaves all exceptions
    out. ``bare``: a resolver of the same policies without exceptions, whose results are reused.
    """

    def __init__(
        self, tree: PolicyTree, now_ns: int | None = None, bare: Resolver | None = None
    ) -> None:
        self._policies = tree.policies
        self._known: dict[str, Resolved] = {}
        self.conditions: TreeConditions = TreeConditions(
            tree, now_ns, bare.conditions if bare else None
        )

    @property
    def workings(self) -> tuple[Mapping[Any, object], ...]:
        """Containers of its input and results, for ``Kept`` to free in slices."""
        return self._policies, self._known, *self.conditions.workings

    def at(self, scope: str) -> Resolved | None:
        """Resolve ``scope``, or its nearest declared ancestor, for requests that meet no condition.

        Return None if no policy covers the scope.
        """
        resolved = self._known.get(scope)
        if resolved is not None:
            return resolved
        above = parent(scope)
        resolved = None if above is None else self.at(above)
        policy = self._policies.get(scope)
        if policy is not None:
            resolved = self._step(resolved or _NOTHING, policy, 0, 0)
            self._known[scope] = resolved
        return resolved

    def where(self, scope: str, matched: int, capped: int | None = None) -> Resolved | None:
        """Resolve ``scope`` for requests that meet exactly these conditions.

        ``capped``: the conditions whose caps hold, if some of them set nothing.
        """
        capped = matched if capped is None else capped
        if not matched and not capped:
            return self.at(scope)
        above = parent(scope)
        policy = self._policies.get(scope)
        if policy is None:
            return None if above is None else self.where(above, matched, capped)
        path = self.conditions.at(scope)
        before = None
        if above is not None:
            before = self.where(above, matched & path.inherited, capped & path.inherited)
        return self._step(before or _NOTHING, policy, matched, capped)

    def select(self, scope: str, attributes: Mapping[str, str]) -> Resolved | None:
        """Resolve ``scope`` for requests with these attributes."""
        return self.where(scope, self.conditions.at(scope).conditions.holding(attributes))

    def enforced(self, scope: str, attributes: Mapping[str, str]) -> Resolved | None:
        """Resolve ``scope`` as agents enforce it: see ``limit`` for unusable combinations."""
        resolved = self.select(scope, attributes)
        if resolved is None or not resolved.problems:
            return resolved
        limits = dict(resolved.limits)
        for name in resolved.problems:
            limit = self.limit(resolved.scope, name, resolved.matched)
            if limit is not None:
                limits[name] = limit
        return resolved._replace(limits=limits)

    def _step(self, above: Resolved, policy: Policy, matched: int, capped: int) -> Resolved:
        """Return the policy in force at the scope of ``policy``, given the one above."""
        scope = policy.scope
        path = self.conditions.at(scope) if self.conditions.any else NO_CONDITIONS
        on_error = _inherit(above.on_error, policy.on_error, scope)
        proxies = _inherit(above.trusted_proxies, policy.trusted_proxies, scope)
        caps = merge_caps(above.caps, policy.caps, scope) if policy.caps else above.caps
        for override, via in path.own(capped) if capped else ():
            if override.caps:
                caps = merge_caps(caps, override.caps, scope, via)
        fields = above.fields
        if policy.limits or policy.unset:
            fields = merge_limits(fields, policy)
        if matched:
            fields = merge_further(fields, path.own(matched))
        limits, problems = above.limits, above.problems
        if fields is not above.fields or caps is not above.caps or path.exceptions:
            limits, problems = self._in_force(above, path, fields, caps, matched, capped)
        budgets, broken = above.budgets, _NO_PROBLEMS
        if policy.budgets:
            own, broken = _own_budgets(policy, path, matched)
            budgets = (*budgets, *own)
        return Resolved(
            scope, on_error, limits, problems, fields, caps, budgets, broken, proxies, matched
        )

    def _in_force(
        self, above: Resolved, path: PathConditions, fields: Named, caps: Named, matched: int,
        capped: int,
    ) -> tuple[dict[str, Limit], dict[str, Problem]]:  # fmt: skip
        """Finish each limit; a limit that is unchanged from above is reused."""
        limits: dict[str, Limit] = {}
        problems: dict[str, Problem] = {}
        amended = fields
        if path.exceptions:
            amended = merge_further(fields, path.in_force(matched))
        for name, settings in amended.items():
            cap = caps.get(name, _NO_CAP)
            finished: Limit | Problem | None = None
            if (
                settings is above.fields.get(name)
                and settings is fields.get(name)
                and cap is above.caps.get(name, _NO_CAP)
                and name not in path.amended
            ):
                finished = above.limits.get(name)
            capping = path.conditions.capping(name, capped) if capped else ()
            if finished is None:
                conditional = bool(matched or capped)
                finished = build_limit(name, settings, cap, capping, conditional=conditional)
            if isinstance(finished, Problem):
                problems[name] = finished
                exceptions = [
                    (exception.limits[name], via)
                    for exception, via in path.in_force(matched)
                    if name in exception.limits
                ]
                finished = _usable(name, fields.get(name), exceptions, cap, capping)
            if finished is not None:
                limits[name] = finished
        return limits, problems

    def limit(self, scope: str, name: str, matched: int) -> Limit | None:
        """Return one limit for requests that meet exactly these conditions, for agents.

        If the merged fields make no usable limit (``validate`` reports that for pairs of
        overrides), the last condition is ignored, then the one before, and so on. Their caps
        hold.
        """
        capped = matched
        while True:
            resolved = self.where(scope, matched, capped)
            limit = resolved.limits.get(name) if resolved else None
            if limit is not None or resolved is None or name not in resolved.problems:
                return limit
            if not matched:
                return None
            matched &= ~(1 << matched.bit_length() - 1)

    def budget(self, scope: str, name: str, matched: int) -> Limit | None:
        """Return a budget that a scope declares, for requests that meet exactly these conditions.

        None if the scope itself declares no such budget, or one that cannot be used.
        """
        resolved = self.where(scope, matched)
        budgets = resolved.budgets if resolved else ()
        return next((each for at, each in budgets if (at, each.name) == (scope, name)), None)


def resolve(
    tree: PolicyTree,
    scope: str,
    attributes: Mapping[str, str] | None = None,
    now_ns: int | None = None,
) -> Resolved | None:
    """Resolve ``scope`` in ``tree`` for a request; None if no policy covers the scope."""
    return Resolver(tree, now_ns).select(scope, attributes or {})


def _inherit(above: Setting, declared: object, scope: str) -> Setting:
    """Return the declared setting of a scope, or the one above; it does not beat a built-in one."""
    if declared is None:
        return above
    return Setting(declared, scope, above if above.scope else None)


def _usable(
    name: str,
    settings: Fields | None,
    exceptions: Iterable[tuple[LimitFields, Via]],
    cap: Fields,
    capping: Sequence[Via] = (),
    *,
    budget: bool = False,
) -> Limit | None:
    """Return a limit with those exceptions, in their order, that leave a usable limit."""
    limit = None
    if settings is not None:
        limit = build_limit(name, settings, cap, capping, budget=budget)
    for declared, via in exceptions:
        tried = merge_fields(settings, declared, via.scope, via)
        built = build_limit(name, tried, cap, capping, budget=budget)
        if isinstance(built, Limit):
            settings, limit = tried, built
    return limit if isinstance(limit, Limit) else None


def _own_budgets(
    policy: Policy, path: PathConditions, matched: int
) -> tuple[list[tuple[str, Limit]], dict[str, Problem]]:
    budgets: list[tuple[str, Limit]] = []
    broken: dict[str, Problem] = {}
    for name, declared in policy.budgets.items():
        own = fields = merge_fields(None, declared, policy.scope)
        exceptions = [
            (exception.budgets[name], via)
            for exception, via in path.in_force(matched)
            if exception.scope == policy.scope and name in exception.budgets
        ]
        for further, via in exceptions:
            fields = merge_fields(fields, further, policy.scope, via)
        budget: Limit | Problem | None = build_limit(name, fields, {}, budget=True)
        if isinstance(budget, Problem):
            broken[name] = budget
            budget = _usable(name, own, exceptions, {}, budget=True)
        if isinstance(budget, Limit):
            budgets.append((policy.scope, budget))
    return budgets, broken
