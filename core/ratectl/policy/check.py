"""Semantic rules over a whole tree: caps hold, limits are complete, names mean something.

Every scope is checked, and every finding is reported. An agent does not run these rules: it clips
(``resolve``) and never rejects a generation for a cap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratectl.policy import codes
from ratectl.policy.diagnostics import Diagnostic
from ratectl.policy.rates import Rate
from ratectl.policy.resolve import Resolver
from ratectl.policy.scopes import ancestry, parent

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Set as AbstractSet

    from ratectl.policy.diagnostics import Severity
    from ratectl.policy.model import LimitFields, Policy, PolicyTree
    from ratectl.policy.resolve import Resolved

__all__ = ["check_tree"]


def check_tree(tree: PolicyTree, broken: AbstractSet[str] = frozenset()) -> list[Diagnostic]:
    """Every semantic finding, in order of place.

    ``broken``: declared scopes that could not be read. What lies below them inherits who knows
    what, so it is left for when they are mended.
    """
    resolver = Resolver(tree)
    found: list[Diagnostic] = []
    for scope, policy in tree.policies.items():
        if not broken.isdisjoint(ancestry(scope)):
            continue
        here = resolver.at(scope)
        above_scope = parent(scope)
        above = resolver.at(above_scope) if above_scope else None
        if here is not None:
            found += _Checker(tree, policy, above, here).findings()
    return sorted(found, key=lambda finding: finding.sort_key)


class _Checker:
    """The findings of one document, given what holds above it and at it."""

    def __init__(
        self, tree: PolicyTree, policy: Policy, above: Resolved | None, here: Resolved
    ) -> None:
        self.tree = tree
        self.policy = policy
        self.above = above
        self.here = here

    def findings(self) -> Iterator[Diagnostic]:
        yield from self._unset()
        for name, said in self.policy.limits.items():
            yield from self._usable(name)
            yield from self._not_walked_around(name, said)
            yield from self._below_caps(name, said)
        yield from self._cap_units()

    def _finding(
        self,
        code: str,
        path: str,
        message: str,
        hint: str,
        *notes: str,
        severity: Severity = "error",
    ) -> Diagnostic:
        span = self.tree.span(self.policy.scope, path)
        return Diagnostic(code, message, span, severity, hint, notes)

    def _unset(self) -> Iterator[Diagnostic]:
        for index, name in enumerate(self.policy.unset):
            path = f"unset.{index}"
            cap = self.here.caps.get(name)
            if cap:
                yield self._finding(
                    codes.CAP_EVADED,
                    path,
                    f"limit '{name}' is capped, so it cannot be unset",
                    "loosen it up to the cap instead, or ask the cap's owner",
                    self._cap_note(name),
                )
            elif self.above is None or name not in self.above.fields:
                yield self._finding(
                    codes.UNSET_NOTHING,
                    path,
                    f"unset names '{name}', which is not inherited here",
                    "remove it, or check the limit's name",
                    severity="warning",
                )

    def _usable(self, name: str) -> Iterator[Diagnostic]:
        problem = self.here.problems.get(name)
        if problem:
            path = f"limits.{name}.{problem.field}" if problem.field else f"limits.{name}"
            yield self._finding(problem.code, path, problem.message, problem.hint)

    def _not_walked_around(self, name: str, said: LimitFields) -> Iterator[Diagnostic]:
        cap = self.here.caps.get(name)
        if not cap:
            return
        if said.mode == "off":
            yield self._finding(
                codes.CAP_EVADED,
                f"limits.{name}.mode",
                f"limit '{name}' is capped, so it cannot be turned off",
                "use mode: shadow above the cap's scope, or ask the cap's owner",
                self._cap_note(name),
            )
        inherited = self.above.fields.get(name) if self.above else None
        if inherited is None:
            return
        for field, default in (("algorithm", "token-bucket"), ("per", ())):
            value = getattr(said, field)
            before = inherited[field].value if field in inherited else default
            if value is not None and value != before:
                yield self._finding(
                    codes.CAP_EVADED,
                    f"limits.{name}.{field}",
                    f"limit '{name}' is capped, so its {field} cannot change from "
                    f"{_text(before)} to {_text(value)}",
                    "define a limit of another name, or ask the cap's owner",
                    self._cap_note(name),
                )

    def _below_caps(self, name: str, said: LimitFields) -> Iterator[Diagnostic]:
        cap = self.here.caps.get(name, {})
        limit = self.here.limits.get(name)
        if limit is None or not cap:
            return
        for field, clip in limit.clips.items():
            if getattr(said, field) is None:
                continue  # inherited, or a default: clipped, not refused
            ceiling = clip.cap.value
            yield self._finding(
                codes.CAP_EXCEEDED,
                f"limits.{name}.{field}",
                f"{field} {clip.asked} exceeds the cap {_text(ceiling)} of {clip.cap.scope}"
                if isinstance(ceiling, Rate) or field == "burst"
                else f"rate {clip.asked} admits more at once than the burst cap {ceiling} "
                f"of {clip.cap.scope}",
                f"lower it to {clip.value} or raise the cap",
                self._cap_note(name),
            )

    def _cap_units(self) -> Iterator[Diagnostic]:
        for name, cap in self.policy.caps.items():
            if cap.rate is not None and cap.rate.unit == "month":
                yield self._finding(
                    codes.MISFIT,
                    f"caps.{name}.rate",
                    "a month has no fixed length, so no bucket or window can be held to it",
                    "write a number of days, like 1000/30day",
                )
            elif cap.rate is None and cap.burst is None:
                yield self._finding(
                    codes.INCOMPLETE,
                    f"caps.{name}",
                    f"the cap on '{name}' caps nothing",
                    "give it a rate, a burst, or both",
                )

    def _cap_note(self, name: str) -> str:
        settings = self.here.caps[name]
        places = sorted(
            {str(self.tree.span(s.scope, f"caps.{name}.{f}")) for f, s in settings.items()}
        )
        return f"cap set at {' and '.join(places)}"


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(value)}]"
    return str(value)
