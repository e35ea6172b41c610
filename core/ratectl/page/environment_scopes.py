"""Scopes of an environment with their effective limits, and the usage that agents report."""

from __future__ import annotations

import shlex
from collections import defaultdict
from typing import TYPE_CHECKING

from ratectl.health.shared_usage import shared_text
from ratectl.page.origins import values_of
from ratectl.page.view import Key, LimitView, Minute, ScopeView, UsageView
from ratectl.policy.language.scopes import sorted_scopes
from ratectl.policy.resolution.fields import amounts_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from ratectl.fleet.usage import LimitTotal
    from ratectl.health.usage_report import UsageReport, UsageRow
    from ratectl.page.view import Rates
    from ratectl.policy.language.model import PolicyTree
    from ratectl.policy.resolution.effective_limit import Limit
    from ratectl.policy.resolution.resolver import Resolver

__all__ = ["scope_views"]

_MOST_KEYS = 10


def scope_views(report: UsageReport, now: datetime) -> list[ScopeView]:
    """Return the scopes at and below the one that the report is about, and those of budgets above.

    Parents come before their children.
    """
    tree, resolver = report.tree, report.resolver
    rows: dict[str, list[UsageRow]] = defaultdict(list)
    for row in report.rows:
        rows[row.scope].append(row)
    below = report.scope.rstrip("/") + "/"
    declared = {
        scope for scope in tree.policies if scope == report.scope or scope.startswith(below)
    }
    return [
        _scope(tree, resolver, scope, rows[scope], now, listed=scope in declared)
        for scope in sorted_scopes(declared | rows.keys())
    ]


def _scope(
    tree: PolicyTree,
    resolver: Resolver,
    scope: str,
    rows: Sequence[UsageRow],
    now: datetime,
    *,
    listed: bool,
) -> ScopeView:
    """Return one scope. ``listed``: False lists only the limits in ``rows``."""
    policy, resolved = tree.policies.get(scope), resolver.at(scope)
    limits: list[LimitView] = []
    known = {(row.name, row.budget, row.overrides) for row in rows}
    above: tuple[str, ...] = ()
    if policy is not None and resolved is not None and listed:
        own = [budget for owner, budget in resolved.budgets if owner == scope]
        effective = [(limit, False) for limit in resolved.limits.values()]
        limits += [
            _limit(tree, scope, limit, budget=budget)
            for limit, budget in [*effective, *((budget, True) for budget in own)]
            if (limit.name, budget, ()) not in known
        ]
        above = tuple(
            f"budget {budget.name} @ {owner}"
            for owner, budget in resolved.budgets
            if owner != scope
        )
    limits += [_row(tree, resolver, row, now) for row in rows]
    limits.sort(key=lambda limit: (limit.budget, limit.name, limit.overrides))
    return ScopeView(
        scope=scope,
        owner=policy.owner if policy else None,
        description=policy.description if policy else None,
        declared=policy is not None or not tree.policies,
        limits=tuple(limits),
        budgets_above=above,
    )


def _row(tree: PolicyTree, resolver: Resolver, row: UsageRow, now: datetime) -> LimitView:
    usage = None if row.total is None else _usage(row.total, now)
    if row.rule is None:
        return LimitView(
            scope=row.scope,
            name=row.name,
            overrides=row.overrides,
            budget=row.budget,
            size=None,
            per=(),
            slots=False,
            mode="shadow" if row.total is not None and row.total.shadow else "enforce",
            clipped=False,
            values=(),
            usage=usage,
        )
    return _limit(
        tree,
        row.scope,
        row.rule,
        budget=row.budget,
        overrides=row.overrides,
        usage=usage,
        tip=_tip(resolver, row),
    )


def _limit(
    tree: PolicyTree,
    scope: str,
    limit: Limit,
    *,
    budget: bool,
    overrides: tuple[str, ...] = (),
    usage: UsageView | None = None,
    tip: str = "",
) -> LimitView:
    return LimitView(
        scope=scope,
        name=limit.name,
        overrides=overrides,
        budget=budget,
        size=amounts_text(limit),
        per=limit.per,
        slots=limit.max is not None,
        mode=limit.mode,
        clipped=bool(limit.clips),
        values=values_of(tree, limit, budget=budget),
        usage=usage,
        tip=tip,
    )


def _tip(resolver: Resolver, row: UsageRow) -> str:
    """Return attributes that the overrides of a row match, if they name exact values."""
    conditions = resolver.conditions.at(row.scope).conditions if row.overrides else ()
    given: dict[str, str] = {}
    for condition in conditions:
        if condition.via.ref in row.overrides:
            for name, matcher in condition.match.items():
                if matcher.exact:
                    given.setdefault(name, min(matcher.exact))
    return "".join(f" --attr {shlex.quote(f'{name}={value}')}" for name, value in given.items())


def _usage(total: LimitTotal, now: datetime) -> UsageView:
    # Agents of another version may report no rates, and records that are full leave trends out:
    # these are unknown then, not 0.
    known = bool(total.detailed)
    return UsageView(
        agents=total.agents,
        peak=total.peak,
        allowed=total.allowed,
        refused=total.refused,
        never=total.never,
        shadow_refused=total.shadow_refused,
        waited=total.waited,
        absent=total.absent,
        keys=None if total.is_unknown else total.keys,
        near_keys=total.near_keys if known and not total.is_unknown else None,
        rates=_rates(total.rates) if known else None,
        refused_rates=_rates(total.refused_rates) if known else None,
        trend=tuple(Minute(*minute) for minute in total.trend),
        busiest=tuple(_busiest(total)),
        most_refused=tuple(_refused(total.top_refused, total.refused_error)),
        shared=_sentence(shared_text(total, now)),
    )


def _sentence(text: str | None) -> str:
    return "" if text is None else f"{text[0].upper()}{text[1:]}."


def _rates(rates: Sequence[float]) -> Rates:
    latest, minute, quarter = rates[:3]
    return latest, minute, quarter


def _busiest(total: LimitTotal) -> Iterator[Key]:
    keys = sorted(total.busiest.values(), key=lambda busy: (-busy.requests, busy.key))
    for busy in keys[:_MOST_KEYS]:
        yield Key(busy.key, busy.requests, busy.error, busy.use)


def _refused(counts: Mapping[str, int], error: int) -> Iterator[Key]:
    keys = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    for key, number in keys[:_MOST_KEYS]:
        yield Key(key, number, min(error, number))
