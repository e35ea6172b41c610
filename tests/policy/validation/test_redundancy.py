"""What lint calls pointless never refuses alone: measured on the engine's own arithmetic."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import assume, event, given
from hypothesis import strategies as st

from policy.trees import tree
from ratectl.compiler.plans import compile_tree
from ratectl.policy.resolution.resolver import resolve
from ratectl.policy.validation.redundancy import outdone

if TYPE_CHECKING:
    from ratectl.engine.limit_plan import LimitPlan
    from ratectl.policy.resolution.effective_limit import Limit

S = 10**9
DAY = 86_400 * S
START = 1_792_000_000 * S

buckets = st.fixed_dictionaries(
    {"rate": st.sampled_from(("1/s", "2/s", "3/s", "30/min", "90/min"))},
    optional={"burst": st.integers(1, 12)},
)
windows = st.fixed_dictionaries({
    "algorithm": st.just("sliding-window"),
    "rate": st.builds("{}/{}s".format, st.integers(1, 30), st.sampled_from((1, 2, 4, 5, 9))),
})  # fmt: skip
quotas = st.fixed_dictionaries({
    "algorithm": st.just("quota"), "rate": st.builds("{}/min".format, st.integers(1, 240)),
})  # fmt: skip
fields = st.one_of(buckets, windows, quotas)
gaps = st.sampled_from((0, 1, S // 15, S // 3, S // 2, S, 2 * S, 5 * S, 20 * S, 61 * S, DAY))
steps = st.tuples(gaps, st.integers(1, 3), st.booleans())


def pair(one: dict[str, object], other: dict[str, object]) -> tuple[Limit, Limit]:
    resolved = resolve(tree({"/": {"limits": {"spike": one}, "budgets": {"all": other}}}), "/")
    assert resolved is not None
    return resolved.limits["spike"], resolved.budgets[0][1]


@given(fields, fields, st.lists(steps, min_size=20, max_size=120))
def test_what_is_outdone_never_refuses_alone(
    one: dict[str, object], other: dict[str, object], traffic: list[tuple[int, int, bool]]
) -> None:
    """``traffic``: gap, cost, and whether only the budget sees the request."""
    limit, budget = pair(one, other)
    assume(outdone(limit, budget))
    event(f"{limit.algorithm} by {budget.algorithm}")
    plans = compile_tree(
        tree({"/": {"limits": {"spike": one}, "budgets": {"all": other}}}), 1
    ).scopes["/"].limits  # fmt: skip
    mine, theirs = plans
    now = START
    states = {plan: plan.algorithm.full(now) for plan in (mine, theirs)}
    for gap, cost, elsewhere in traffic:
        now += gap
        waits = {plan: plan.algorithm.attempt(states[plan], cost, now)[0] for plan in states}
        if not elsewhere:
            assert not waits[mine] or waits[theirs], (now - START, cost)
        asked = [theirs] if elsewhere else [mine, theirs]
        if not any(waits[plan] for plan in asked):
            for plan in asked:
                _, states[plan], _, _ = plan.algorithm.attempt(states[plan], cost, now)


def greedy(one: dict[str, object], other: dict[str, object]) -> bool:
    """Whether the limit refuses alone while somebody takes all that both give."""
    plans: tuple[LimitPlan, ...] = compile_tree(
        tree({"/": {"limits": {"spike": one}, "budgets": {"all": other}}}), 1
    ).scopes["/"].limits  # fmt: skip
    states = {plan: plan.algorithm.full(START) for plan in plans}
    for at in range(START, START + 120 * S, S // 20):
        waits = [plan.algorithm.attempt(states[plan], 1, at)[0] for plan in plans]
        if waits[0] and not waits[1]:
            return True
        if not any(waits):
            for plan in plans:
                _, states[plan], _, _ = plan.algorithm.attempt(states[plan], 1, at)
    return False


@given(buckets, buckets)
def test_between_buckets_nothing_is_missed(
    one: dict[str, object], other: dict[str, object]
) -> None:
    """A bucket that never refuses alone, however greedy the client, is said to be outdone."""
    limit, budget = pair(one, other)
    assert greedy(one, other) is not outdone(limit, budget)
