"""Lint: valid trees that are probably not as intended. Every finding is a warning.

A rule reports only what is certain. It looks at the document of each scope and at what that
changes, never at every limit in force there: the time is proportional to the lines of a tree.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from ratectl.diagnostics import Diagnostic
from ratectl.policy import codes
from ratectl.policy.language.rates import Rate
from ratectl.policy.language.scopes import ancestry
from ratectl.policy.resolution.algorithms.registry import rules_of
from ratectl.policy.resolution.effective_limit import BUILT_IN
from ratectl.policy.validation.beaten import beaten_overrides
from ratectl.runtime.closest import closest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Set as AbstractSet

    from ratectl.policy.language.model import Cap, Policy, PolicyTree
    from ratectl.policy.resolution.effective_limit import Limit, Setting
    from ratectl.policy.resolution.resolver import Resolved, Resolver

__all__ = ["lint_tree"]

_ADDRESS: Final = "ip"
"""The attribute whose value depends on the proxies before the service."""

_MAX_SUGGESTED: Final = 200
"""Maximum names of each kind that a misspelt one is compared with."""

_MAX_GUESSES: Final = 50
"""Maximum misspelt names to guess for: each takes milliseconds."""


def lint_tree(
    tree: PolicyTree, resolver: Resolver, broken: AbstractSet[str] = frozenset()
) -> Iterator[Diagnostic]:
    """Yield every finding, rule by rule. ``broken``: declared scopes that could not be read."""
    linter = _Linter(tree, resolver, broken)
    yield from linter.findings()


class _Step(NamedTuple):
    """A document and what holds at its scope for requests that match no override."""

    policy: Policy
    here: Resolved
    conditional: frozenset[str] = frozenset()
    """Limits that an override on the path sets: no single value holds for every request."""


def _steps_of(tree: PolicyTree, resolver: Resolver, broken: AbstractSet[str]) -> Iterator[_Step]:
    """Yield every document that can be judged, parents first.

    ``broken``: declared scopes that could not be read; nothing at or below them can be judged.
    """
    for scope in sorted(tree.policies):
        here = resolver.at(scope)
        if here is not None and broken.isdisjoint(ancestry(scope)):
            conditional = frozenset(resolver.conditions.at(scope).conditions.by_limit)
            yield _Step(tree.policies[scope], here, conditional)


class _Linter:
    def __init__(self, tree: PolicyTree, resolver: Resolver, broken: AbstractSet[str]) -> None:
        self.tree = tree
        self.resolver = resolver
        self.steps = list(_steps_of(tree, resolver, broken))
        self._broken = sorted(broken)
        self._definers: dict[str, list[str]] = defaultdict(list)
        for policy, *_ in self.steps:
            named = {name for override in policy.overrides for name in override.limits}
            for name in named.union(policy.limits):
                self._definers[name].append(policy.scope)

    def findings(self) -> Iterator[Diagnostic]:
        yield from self._addresses()
        yield from self._unused_caps()
        yield from self._deciding_caps()
        for policy, *_ in self.steps:
            yield from beaten_overrides(self.tree, self.resolver, policy)

    def _finding(
        self, code: str, scope: str, path: str, message: str, hint: str, *notes: str
    ) -> Diagnostic:
        return Diagnostic(code, message, self.tree.span(scope, path), "warning", hint, notes)

    def _addresses(self) -> Iterator[Diagnostic]:
        """Yield findings about counting per address without ``trusted_proxies``."""
        for policy, here, _ in self.steps:
            if here.trusted_proxies.scope != BUILT_IN:
                continue
            for part, limits in (("limits", policy.limits), ("budgets", policy.budgets)):
                for name, fields in limits.items():
                    if fields.per and _ADDRESS in fields.per and fields.mode != "off":
                        yield self._finding(
                            codes.PER_IP,
                            policy.scope,
                            f"{part}.{name}.per",
                            f"'{name}' counts per {_ADDRESS}, but the proxies before the service "
                            "are not declared",
                            "list them in trusted_proxies, or write trusted_proxies: [] "
                            "if there are none",
                        )

    def _unused_caps(self) -> Iterator[Diagnostic]:
        """Yield findings about caps on limits that no scope at, above or below defines."""
        guesses = _MAX_GUESSES
        for policy, here, _ in self.steps:
            for path, name, cap in _caps_of(policy):
                if name in here.fields or name in policy.unset or not cap.model_fields_set:
                    continue
                if self._defined_near(name, policy.scope):
                    continue
                if _any_within(self._broken, policy.scope):
                    continue
                meant = (
                    closest(name.lower(), self._names_near(policy.scope, here)) if guesses else None
                )
                guesses = max(guesses - 1, 0)
                yield self._finding(
                    codes.CAP_UNUSED,
                    policy.scope,
                    path,
                    f"the cap on '{name}' caps nothing: no scope at, above or below "
                    "defines this limit",
                    f"did you mean {meant}?"
                    if meant
                    else "delete the cap, or correct the limit's name",
                )

    def _defined_near(self, name: str, scope: str) -> bool:
        """Return True if a scope at, above or below defines a limit, or one of its overrides."""
        scopes = self._definers.get(name, [])
        return _any_within(scopes, scope) or not set(ancestry(scope)).isdisjoint(scopes)

    def _names_near(self, scope: str, here: Resolved) -> list[str]:
        below = (name for name, scopes in self._definers.items() if _any_within(scopes, scope))
        return [*islice(here.fields, _MAX_SUGGESTED), *islice(below, _MAX_SUGGESTED)]

    def _deciding_caps(self) -> Iterator[Diagnostic]:
        """Yield findings about caps that every scope at and below exceeds by inheritance."""
        users: dict[tuple[str, str, str], bool] = {}
        for policy, here, conditional in self.steps:
            for name in {*policy.limits, *policy.caps, *conditional}:
                limit = here.limits.get(name)
                if limit is None or limit.mode == "off":
                    continue
                for field, tightest in here.caps.get(name, {}).items():
                    for cap in tightest.history():
                        key = (cap.scope, name, field)
                        more = name not in conditional and _inherits_more(limit, field, cap)
                        users[key] = users.get(key, True) and more
        for policy, here, _ in self.steps:
            for name in policy.caps:
                fields = [f for f in ("rate", "burst") if users.get((policy.scope, name, f))]
                if fields and not _any_within(self._broken, policy.scope):
                    yield self._deciding_cap(policy, name, fields, here.limits[name])

    def _deciding_cap(
        self, policy: Policy, name: str, fields: list[str], limit: Limit
    ) -> Diagnostic:
        cap = policy.caps[name]
        capped = " and ".join(f"{field} {getattr(cap, field)}" for field in fields)
        written = dict.fromkeys(filter(None, map(rules_of(limit).capped_field, fields)))
        write = ", ".join(f"{field}: {getattr(limit, field)}" for field in written)
        return self._finding(
            codes.CAP_DECIDES,
            policy.scope,
            f"caps.{name}.{fields[0]}" if len(fields) == 1 else f"caps.{name}",
            f"every scope at or below {policy.scope} inherits more than this cap allows: "
            f"all of them get {capped}",
            f"declare it beside the cap: limits: {{{name}: {{{write}}}}}",
        )


def _caps_of(policy: Policy) -> Iterator[tuple[str, str, Cap]]:
    """Yield the path, the limit and the cap of each cap of a document and its overrides."""
    for name, cap in policy.caps.items():
        yield f"caps.{name}", name, cap
    for number, override in enumerate(policy.overrides):
        for name, cap in override.caps.items():
            yield f"overrides.{number}.caps.{name}", name, cap


def _any_within(scopes: list[str], top: str) -> bool:
    """Return True if one of the sorted scopes is ``top`` or below it."""
    below = top.rstrip("/") + "/"
    for start in (top, below):
        at = bisect_left(scopes, start)
        if at < len(scopes) and (scopes[at] == top or scopes[at].startswith(below)):
            return True
    return False


def _inherits_more(limit: Limit, field: str, cap: Setting) -> bool:
    """Return True if a value from above the scope of the cap exceeds it.

    A value from below exceeds it only in a tree with errors.
    """
    rules = rules_of(limit)
    capped = rules.capped_field(field)
    asked = limit.settings.get(capped) if capped else None
    if asked is None or len(asked.scope) >= len(cap.scope):  # both lie on one path
        return False
    if field == "rate":
        assert limit.rate is not None
        return rules.comparable(limit.rate, cap.value) and bool(asked.value.exceeds(cap.value))
    count = asked.value.numerator if isinstance(asked.value, Rate) else asked.value
    return not limit.unlimited and bool(count > cap.value)
