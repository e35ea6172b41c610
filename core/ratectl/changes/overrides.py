"""Changes for the requests of each override.

An override is compared together with the overrides that always match when it matches; all
combinations would be too many. It is compared at the scope that declares it, and at deeper scopes
whose documents set the same limits. At other scopes its effect is the same as above them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ratectl.changes.limits import Change, effect, kind_of, origin_of, text_of
from ratectl.policy.language.scopes import parent
from ratectl.policy.resolution.conditions import bits, override_name
from ratectl.policy.validation.overlaps import OverlapIndex
from ratectl.runtime.wording import listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ratectl.changes.limits import Kind
    from ratectl.policy.language.matchers import Matcher
    from ratectl.policy.language.model import Cap, LimitFields, Policy, PolicyTree
    from ratectl.policy.resolution.conditions import Condition, Conditions
    from ratectl.policy.resolution.effective_limit import Limit
    from ratectl.policy.resolution.resolver import Resolver

__all__ = ["Overrides", "where_text"]

_NAMED = 10
"""Most overrides named in a change of order."""


def where_text(match: Mapping[str, Matcher] | None) -> str:
    """Return the text `` where tier=[gold, platinum]``; empty if the match is for all requests."""
    if not match:
        return ""
    text = ", ".join(f"{name}={matcher}" for name, matcher in sorted(match.items()))
    return f" where {text if len(text) <= 200 else text[:199] + '…'}"


class _Own(NamedTuple):
    """An override in one tree: its place among the conditions, and what it sets and caps."""

    bit: int
    condition: Condition
    limits: Mapping[str, LimitFields]
    caps: Mapping[str, Cap]

    def of(self, name: str) -> tuple[LimitFields | None, Cap | None]:
        """Return the fields and the cap of one limit."""
        return self.limits.get(name), self.caps.get(name)


class _Side:
    """Overrides of one tree."""

    def __init__(self, tree: PolicyTree, resolver: Resolver) -> None:
        self._tree = tree
        self._resolver = resolver
        self._company: dict[int, OverlapIndex] = {}
        self._own: dict[int, dict[str, _Own]] = {}

    def policy(self, scope: str) -> Policy | None:
        return self._tree.policies.get(scope)

    def conditions(self, scope: str) -> Conditions:
        return self._resolver.conditions.at(scope).conditions

    def overrides(self, scope: str) -> dict[str, _Own]:
        """Return the overrides along a path, by name; scopes without overrides share the result."""
        conditions = self.conditions(scope)
        known = self._own.get(id(conditions))
        if known is None:
            known = {each.via.ref: self._of(bit, each) for bit, each in enumerate(conditions)}
            self._own[id(conditions)] = known
        return known

    def _of(self, bit: int, condition: Condition) -> _Own:
        override = condition.override
        assert override is not None  # no exception is in force without a time
        return _Own(bit, condition, override.limits, override.caps)

    def company(self, scope: str) -> OverlapIndex:
        conditions = self.conditions(scope)
        known = self._company.get(id(conditions))
        if known is None:
            known = self._company[id(conditions)] = OverlapIndex(conditions)
        return known

    def touched(self, scope: str, names: Iterable[str]) -> Iterator[str]:
        """Yield the overrides whose effect a scope's document may change.

        These are its own overrides, those above that set its limits (``names``), and those that
        match only together with its own.
        """
        place = self._resolver.conditions.at(scope)
        conditions = place.conditions
        if self.policy(scope) is not None:
            for _, via in place.overrides:
                yield via.ref
            for _, via in place.overrides if place.inherited else ():
                assert via.bit is not None
                with_it = self.company(scope).held_with(via.bit) & place.inherited
                yield from (conditions[bit].via.ref for bit in bits(with_it))
        for name in names:
            yield from (conditions[bit].via.ref for bit in conditions.by_limit.get(name, ()))

    def always(self, scope: str, override: _Own) -> list[str]:
        """Return the override, and those that always match when it matches."""
        conditions = self.conditions(scope)
        mask = self.company(scope).always_with(override.bit)
        return [override.condition.via.ref, *(conditions[bit].via.ref for bit in bits(mask))]

    def limits(self, scope: str, refs: Iterable[str]) -> Mapping[str, Limit]:
        """Return the limits when exactly these overrides match; unknown ones are ignored."""
        overrides = self.overrides(scope)
        matched = sum(1 << overrides[ref].bit for ref in refs if ref in overrides)
        resolved = self._resolver.where(scope, matched)
        return resolved.limits if resolved else {}


class Overrides:
    """Comparison of the overrides of two trees."""

    def __init__(self, old: PolicyTree, new: PolicyTree, before: Resolver, after: Resolver) -> None:
        self._old = _Side(old, before)
        self._new = _Side(new, after)
        self._any = before.conditions.any or after.conditions.any
        self._anew: dict[tuple[str, str], bool] = {}
        self._judged: set[tuple[str, str | None, str | None]] = set()

    def judged(self, scope: str, change: Change) -> bool:
        """Return True if the override of a change was compared at ``scope`` as well."""
        return (scope, change.limit, change.via) in self._judged

    def at(self, scope: str, base: Sequence[Change]) -> Iterator[Change]:
        """Yield the changes at a declared scope; ``base``: changes of its limits themselves."""
        if not self._any:
            return
        led = {change.limit: change.kind for change in base}
        spoken = self._spoken_of(scope)
        before, after = self._old.overrides(scope), self._new.overrides(scope)
        candidates = (*self._new.touched(scope, spoken), *self._old.touched(scope, spoken))
        for ref in dict.fromkeys(candidates):
            one, other = before.get(ref), after.get(ref)
            names = _names(one, other)
            self._judged.update((scope, name, ref) for name in names)
            if self._as_before(scope, one, other, names):
                continue  # the usual case, and much faster than resolving both
            yield from self._changes(scope, ref, one, other, names, led)
        yield from self._order(scope)

    def _as_before(
        self, scope: str, one: _Own | None, other: _Own | None, names: Sequence[str]
    ) -> bool:
        """Return True if an override's effect cannot have changed.

        True if the override, the overrides that match with it, and the documents of the path are
        unchanged for its limits.
        """
        if one is None or other is None or not _same(one, other):
            return False
        if any(self._spoken_anew(scope, name) for name in names):
            return False
        before, after = self._old.overrides(scope), self._new.overrides(scope)
        company = self._new.always(scope, other)
        return self._old.always(scope, one) == company and all(
            ref in before and ref in after and _same(before[ref], after[ref]) for ref in company
        )

    def _spoken_anew(self, scope: str, name: str) -> bool:
        """Return True if a document on the path changed a limit's settings, outside overrides."""
        known = self._anew.get((scope, name))
        if known is None:
            one, other = self._old.policy(scope), self._new.policy(scope)
            above = parent(scope)
            known = _said(one, name) != _said(other, name) or (
                above is not None and self._spoken_anew(above, name)
            )
            self._anew[scope, name] = known
        return known

    def _spoken_of(self, scope: str) -> dict[str, None]:
        """Return the limits that a document of this scope sets for all requests (as keys)."""
        found: dict[str, None] = {}
        for policy in (self._old.policy(scope), self._new.policy(scope)):
            if policy is not None:
                found.update(dict.fromkeys((*policy.limits, *policy.unset, *policy.caps)))
        return found

    def _changes(
        self,
        scope: str,
        ref: str,
        one: _Own | None,
        other: _Own | None,
        names: Sequence[str],
        led: Mapping[str | None, Kind],
    ) -> Iterator[Change]:
        # An override that one tree lacks is compared there with its companions of the other tree.
        old = self._old.always(scope, one) if one else []
        new = self._new.always(scope, other) if other else old
        before, after = self._old.limits(scope, old or new), self._new.limits(scope, new)
        matches = [each.condition.match if each else None for each in (one, other)]
        where = ["", ""] if matches[0] == matches[1] else [where_text(each) for each in matches]
        for name in names:
            was, now = before.get(name), after.get(name)
            same = effect(was) == effect(now)
            if one is None or other is None:
                # Even if it changes no value, its requests get their own bucket.
                there = now if one is None else was
                if same and (there is None or ref not in there.touched):
                    continue
                kind: Kind = "added" if one is None else "removed"
            elif same and (where[0] == where[1] or was is None):
                continue
            else:
                kind = kind_of(was, now) if where[0] == where[1] else "changed"
            # An unchanged override follows the limit that it builds on.
            still = one and other and not any(where) and one.of(name) == other.of(name)
            yield Change(
                scope, name, kind, _with(was, where[0]), _with(now, where[1]),
                bool(still and led.get(name) == kind), ref, origin_of(was, now), was, now,
            )  # fmt: skip

    def _order(self, scope: str) -> Iterator[Change]:
        """Yield a change if overrides changed their order with an effect on requests."""
        before, after = self._old.policy(scope), self._new.policy(scope)
        if before is None or after is None:
            return
        old = [each.name for each in before.overrides]
        new = [each.name for each in after.overrides]
        both = set(old) & set(new)
        old = [name for name in old if name in both]
        new = [name for name in new if name in both]
        if old == new:
            return
        rank = {name: at for at, name in enumerate(old)}
        moved = self._moved(scope, rank)
        if moved:
            was = [name for name in old if name in moved]
            now = [name for name in new if name in moved]
            yield Change(
                scope, "order of overrides", "changed", listed(was, _NAMED), listed(now, _NAMED)
            )

    def _moved(self, scope: str, rank: Mapping[str, int]) -> set[str]:
        """Return the overrides that changed order with one that sets the same field."""
        side = self._new
        overrides = {own.bit: own for own in side.overrides(scope).values()}
        company = side.company(scope)
        found: set[str] = set()
        for bit, own in overrides.items():
            name = override_name(own.condition.via.ref)
            if own.condition.via.source != scope or name not in rank:
                continue
            for other_bit in company.maybe_with(bit):
                other = overrides[other_bit]
                other_name = override_name(other.condition.via.ref)
                if other.condition.via.source != scope or other_name not in rank:
                    continue
                turned = (bit < other_bit) is not (rank[name] < rank[other_name])
                if turned and _fields(own) & _fields(other):
                    found |= {name, other_name}
        return found


def _same(one: _Own, other: _Own) -> bool:
    alike = (one.limits, one.caps) == (other.limits, other.caps)
    return alike and one.condition.match == other.condition.match


def _said(policy: Policy | None, name: str) -> tuple[object, ...] | None:
    if policy is None:
        return None
    return (policy.limits.get(name), policy.caps.get(name), name in policy.unset)


def _names(one: _Own | None, other: _Own | None) -> list[str]:
    owns = [own for own in (one, other) if own is not None]
    return list(dict.fromkeys(name for own in owns for name in (*own.limits, *own.caps)))


def _fields(own: _Own) -> set[tuple[str, str]]:
    return {(name, field) for name, said in own.limits.items() for field in said.model_fields_set}


def _with(limit: Limit | None, where: str) -> str | None:
    text = text_of(limit)
    return None if text is None else text + where
