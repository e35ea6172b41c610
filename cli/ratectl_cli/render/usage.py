"""Usage of limits: rules in force, how full, how fast, and who is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ratectl_cli.framework.text import Column, Styled, Table, bold, dim
from ratectl_cli.render import times
from ratectl_cli.render.labels import bucket_label

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ratectl.fleet.usage import LimitTotal, Totals
    from ratectl.policy.language.model import PolicyTree
    from ratectl.policy.resolution.effective_limit import Limit
    from ratectl.policy.resolution.resolver import Resolver
    from ratectl.records import UsageRecord
    from ratectl_cli.framework.terminal import Stream
    from ratectl_cli.framework.text import Block, Line

__all__ = ["Report", "usage_blocks", "usage_data"]

_NEAR: Final = 0.8
_BAR: Final = 10
_TOP_LIMITS: Final = 5
_TOP_KEYS: Final = 3


@dataclass(frozen=True, slots=True)
class _Row:
    scope: str
    name: str
    budget: bool
    rule: Limit | None
    """In force by the live generation; None where that does not have it."""
    total: LimitTotal | None
    """None where no agent reports it."""
    overrides: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        label = bucket_label(self.name, self.scope, self.overrides)
        return f"budget {label}" if self.budget else label


@dataclass(frozen=True, slots=True)
class Report:
    """What `ratectl usage` shows."""

    scope: str
    asked: str
    generation: int
    agents: int
    totals: Totals
    rows: Sequence[_Row]

    @classmethod
    def of(
        cls,
        records: list[UsageRecord],
        agents: int,
        generation: int,
        tree: PolicyTree | None,
        asked: str,
        *,
        listed: bool,
    ) -> Report:
        """Join reports and rules; ``listed``: include limits of the scope that none reports."""
        from ratectl.fleet.usage import totals
        from ratectl.policy.language.model import PolicyTree as Tree
        from ratectl.policy.resolution.resolver import Resolver

        resolver = Resolver(tree or Tree({}), times.now_ns())
        here = resolver.at(asked)
        scope = asked
        if here is not None and not _declares_below(tree, asked):
            scope = here.scope  # whose buckets an undeclared scope uses
        total = totals(records, scope)
        rows = []
        for each in total.limits:
            declared = tree is not None and each.scope in tree.policies
            rule = _rule_of(resolver, each) if declared else None
            rows.append(_Row(each.scope, each.limit, each.budget, rule, each, each.overrides))
        if listed and here is not None:
            known = {(row.scope, row.name, row.budget) for row in rows if not row.overrides}
            silent = [(here.scope, limit, False) for limit in here.limits.values()]
            silent += [(owner, budget, True) for owner, budget in here.budgets]
            rows += [
                _Row(owner, limit.name, budget, limit, None)
                for owner, limit, budget in silent
                if (owner, limit.name, budget) not in known
            ]
        return cls(scope, asked, generation, agents, total, rows)


def _rule_of(resolver: Resolver, total: LimitTotal) -> Limit | None:
    """The limit or budget that a total counts; None where the tree has no such buckets (any more).

    What selects a bucket is all that has a say in its parameters, so they are those of requests
    for which nothing else holds.
    """
    conditions = resolver.conditions.at(total.scope).conditions
    bits = {each.via.ref: 1 << position for position, each in enumerate(conditions)}
    matched = sum(bits.get(ref, 0) for ref in total.overrides)
    found = None
    if not total.budget:
        found = resolver.limit(total.scope, total.limit, matched)
    else:
        resolved = resolver.where(total.scope, matched)
        named = (total.scope, total.limit)
        budgets = resolved.budgets if resolved else ()
        found = next((each for owner, each in budgets if (owner, each.name) == named), None)
    return found if found is not None and found.touched == total.overrides else None


def usage_data(report: Report) -> dict[str, Any]:
    """Raw numbers; null is unknown."""
    totals = report.totals
    return {
        "scope": report.scope,
        "generation": report.generation or None,
        "agents": report.agents,
        "reporting": totals.reporting,
        "newest": totals.newest,
        "oldest": totals.oldest,
        "no_policy": totals.no_policy,
        "errors": totals.errors,
        "omitted": totals.omitted,
        "limits": [_row_data(row) for row in report.rows],
    }


def usage_blocks(report: Report, stream: Stream) -> Iterator[Block]:
    """Title, table, and what else there is to know."""
    totals = report.totals
    age = None if totals.oldest is None else times.seconds_since(totals.oldest, times.now())
    old = "?" if age is None else times.span(max(0.0, age))
    reporting = f"{totals.reporting}/{report.agents} agents"
    title = f" · generation {report.generation or '?'} · {reporting} · data {old} old"
    yield [bold(report.scope), title]
    if report.scope != report.asked:
        yield dim(f"{report.asked} is not declared: it uses the buckets of {report.scope}")
    if not report.rows:
        return
    titles = (
        "SCOPE", "LIMIT", "RULE", "USED", "RATE/S", "ALLOWED", "REFUSED", "SHADOW", "KEYS"
    )  # fmt: skip
    left = ("SCOPE", "LIMIT", "RULE")
    table = Table([Column(title, title not in left, title == "RULE") for title in titles])
    table.rows.extend(_cells(row, stream) for row in report.rows)
    yield table
    yield from _refused(report.rows)
    if totals.no_policy or totals.errors:
        yield f"covered by no policy: {totals.no_policy} · answered by on_error: {totals.errors}"
    if totals.omitted:
        yield f"{totals.omitted} less active limits are not in the reports"


def _declares_below(tree: PolicyTree | None, scope: str) -> bool:
    below = scope.rstrip("/") + "/"
    return any(each == scope or each.startswith(below) for each in (tree.policies if tree else ()))


def _row_data(row: _Row) -> dict[str, Any]:
    rule, total = row.rule, row.total
    return {
        "scope": row.scope,
        "limit": row.name,
        "overrides": list(row.overrides),
        "budget": row.budget,
        "rule": None
        if rule is None
        else {
            "algorithm": rule.algorithm,
            "rate": None if rule.rate is None else str(rule.rate),
            "burst": rule.burst,
            "max": rule.max,
            "hold": None if rule.hold is None else str(rule.hold),
            "per": list(rule.per),
            "mode": rule.mode,
            "clipped": bool(rule.clips),
        },
        "agents": total.agents if total else 0,
        "used": total.peak if total else None,
        "rate_per_second": round(total.recent_per_second, 6) if total else None,
        "allowed": total.allowed if total else None,
        "refused": total.refused if total else None,
        "never": total.never if total else None,
        "shadow_refused": total.shadow_refused if total else None,
        "keys": total.keys if total else None,
        "top_refused": [
            {"key": key, "refused": count} for key, count in total.top_refused.most_common(10)
        ]
        if total
        else [],
    }


def _cells(row: _Row, stream: Stream) -> Sequence[Line]:
    total = row.total
    names: list[Line] = [row.scope, bold(row.label), _rule(row.rule)]
    if total is None:
        return [*names, "?", "?", "?", "?", "?", "?"]
    refused = total.refused + total.never
    return [
        *names,
        _used(total.peak, stream),
        f"{total.recent_per_second:.1f}",
        str(total.allowed),
        Styled(str(refused), "red" if refused else ""),
        str(total.shadow_refused) if total.shadow or total.shadow_refused else "-",
        str(total.keys),
    ]


def _rule(rule: Limit | None) -> Line:
    if rule is None:
        return "?"
    text = f"max {rule.max} hold {rule.hold}" if rule.rate is None else str(rule.rate)
    if rule.burst is not None:
        text += f" burst {rule.burst}"
    if rule.per:
        text += f" per {', '.join(rule.per)}"
    parts: list[str | Styled] = [text]
    if rule.clips:
        parts.append(Styled(" ✂ cap", "yellow"))
    if rule.mode != "enforce":
        parts.append(bold(f" {rule.mode.upper()}", "yellow"))
    return parts


def _used(peak: float | None, stream: Stream) -> Line:
    if peak is None:
        return "?"
    colour = "red" if peak >= 1 else "yellow" if peak >= _NEAR else "green"
    percent = f"{peak:.0%}"
    if not stream.terminal:
        return Styled(percent, colour)
    full = int(peak * _BAR)  # full only when it is
    return [Styled("█" * full + "░" * (_BAR - full), colour), f" {percent:>4}"]


def _refused(rows: Sequence[_Row]) -> Iterator[Block]:
    found = [(row, row.total) for row in rows if row.total is not None and row.total.top_refused]
    found.sort(key=lambda each: -(each[1].refused + each[1].never))
    for row, total in found[:_TOP_LIMITS]:
        keys = " · ".join(
            f"{key} {count}" for key, count in total.top_refused.most_common(_TOP_KEYS)
        )
        yield [dim(f"most refused by {row.label} @ {row.scope} (approximate): "), keys]
