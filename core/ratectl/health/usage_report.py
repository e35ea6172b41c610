"""Join what agents report of limits with the limits of the live generation."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ratectl.cluster.entries import read_hints
from ratectl.fleet.usage import read_agents, read_usage, totals
from ratectl.history.generations import read_live
from ratectl.history.trees import tree_to_compare
from ratectl.kill_switch.switches import known_switches
from ratectl.policy.language.model import PolicyTree
from ratectl.policy.language.scopes import checked_scope
from ratectl.policy.resolution.resolver import Resolver
from ratectl.runtime.closest import closest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ratectl.fleet.usage import LimitTotal, Totals
    from ratectl.history.generations import Live
    from ratectl.kill_switch.switches import Switches
    from ratectl.policy.resolution.effective_limit import Limit
    from ratectl.policy.resolution.resolver import Resolved
    from ratectl.records import AgentRecord
    from ratectl.stores.base import Store

__all__ = ["UsageReport", "UsageRow", "read_usage_report"]


@dataclass(frozen=True, slots=True)
class UsageRow:
    """One limit or budget, as some overrides select its buckets."""

    scope: str
    name: str
    budget: bool
    rule: Limit | None
    """The limit in force; None if the live generation does not have it."""
    total: LimitTotal | None
    """Usage over all agents; None if none reports it."""
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class UsageReport:
    """Usage of the limits at and below a scope, and of the budgets above it."""

    scope: str
    """Scope whose buckets are used: the nearest declared one, if ``asked`` is not declared."""
    asked: str
    generation: int
    """The live generation; 0 if there is none."""
    agents: Sequence[AgentRecord]
    switches: Switches
    totals: Totals
    rows: Sequence[UsageRow]
    silent: tuple[str, ...] = ()
    """Agents whose usage is unknown: they live, and have written no readable usage record."""
    minutes: int = 1
    """The span of ``LimitTotal.recent``."""
    sort: str = "scope"
    """Order of the rows; see ``usage_selection.SORTS``."""
    near: float | None = None
    """Only limits whose recent peak is at least this (0 to 1) are in ``rows``; None for all."""
    below: int = 0
    """Limits that are left out because their peak is below ``near``."""
    unknown: int = 0
    """Limits that are left out because their peak is unknown."""
    covered: bool = True
    """False if no policy is at, above or below ``asked`` in the live policies."""
    tree: PolicyTree = field(default_factory=lambda: PolicyTree({}))
    """Live policies; empty if there are none, or none that can be read."""
    resolver: Resolver = field(default_factory=lambda: Resolver(PolicyTree({})))
    """Resolver of ``tree``, with the exceptions that are in force."""

    @property
    def uncovered(self) -> str | None:
        """Return a sentence if no policy covers the scope, with the scope that was meant."""
        if self.covered:
            return None
        meant = closest(self.asked, self.tree.policies)
        return f"no policy covers {self.asked}" + (f": did you mean {meant}?" if meant else "")


def read_usage_report(
    store: Store,
    scope: str | None,
    warn: Callable[[str], None],
    now_ns: int | None = None,
    minutes: int = 1,
    live: Live | None = None,
) -> UsageReport:
    """Return the usage at and below a scope, and of the budgets above it; None for all.

    A named scope also lists its limits that no agent reports. ``warn`` is called for unreadable
    records. ``now_ns``: the time by which exceptions are in force (since 1970; default: now).
    ``minutes``: the span of ``LimitTotal.recent``, 1 to 15. ``live``: the head, if it is read
    already.

    :raises UsageError: ``scope`` is not a scope.
    """
    asked = "/" if scope is None else checked_scope(scope)
    live = read_live(store) if live is None else live
    policies = tree_to_compare(store, live, warn)
    records, agents = read_usage(store, warn), read_agents(store, warn)
    switches = known_switches(store, warn)
    tree = PolicyTree({}) if policies is None else policies.tree
    resolver = Resolver(tree, time.time_ns() if now_ns is None else now_ns)
    here = resolver.at(asked)
    top = asked if here is None or _declares_below(tree, asked) else here.scope
    drawn = frozenset((owner, budget.name) for owner, budget in (here.budgets if here else ()))
    total = totals(records, top, drawn, minutes, _owners(store))
    rows = [_row(tree, resolver, each) for each in total.limits]
    if scope is not None and here is not None:
        rows += _unreported(here, rows)
    reporting = {record.id for record in records}
    return UsageReport(
        top, asked, live.generation, agents, switches, total, rows,
        silent=tuple(agent.id for agent in agents if agent.id not in reporting),
        minutes=minutes,
        covered=not tree.policies or here is not None or _declares_below(tree, asked),
        tree=tree, resolver=resolver,
    )  # fmt: skip


def _owners(store: Store) -> frozenset[str]:
    """Return the owners of limits across the cluster that the store names."""
    hints, _ = read_hints(store)
    return frozenset(hint.owner.owner for hint in hints.values() if hint.owner is not None)


def _row(tree: PolicyTree, resolver: Resolver, total: LimitTotal) -> UsageRow:
    rule = _rule_of(resolver, total) if total.scope in tree.policies else None
    return UsageRow(total.scope, total.limit, total.budget, rule, total, total.overrides)


def _unreported(here: Resolved, rows: Sequence[UsageRow]) -> list[UsageRow]:
    """Return rows for the limits of a scope, and the budgets above it, that no agent reports."""
    known = {(row.scope, row.name, row.budget) for row in rows if not row.overrides}
    declared = [(here.scope, limit, False) for limit in here.limits.values()]
    declared += [(owner, budget, True) for owner, budget in here.budgets]
    return [
        UsageRow(scope, limit.name, budget, limit, None)
        for scope, limit, budget in declared
        if (scope, limit.name, budget) not in known
    ]


def _rule_of(resolver: Resolver, total: LimitTotal) -> Limit | None:
    """Return the limit or budget that a total counts; None if the tree has no such buckets.

    The overrides that select a bucket are all that set its parameters. So the parameters are those
    of requests that match just these overrides.
    """
    conditions = resolver.conditions.at(total.scope).conditions
    bits = {each.via.ref: 1 << position for position, each in enumerate(conditions)}
    matched = sum(bits.get(ref, 0) for ref in total.overrides)
    find = resolver.budget if total.budget else resolver.limit
    found = find(total.scope, total.limit, matched)
    if found is None or (found.touched, found.unit) != (total.overrides, total.unit):
        return None
    return found


def _declares_below(tree: PolicyTree, scope: str) -> bool:
    below = scope.rstrip("/") + "/"
    return any(each == scope or each.startswith(below) for each in tree.policies)
