"""Policies of the tests of explanations, and what these share."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ratectl import Agent, Decision, Explanation, LimitExplanation

TEXT = """\
apiVersion: ratectl/v1
scope: /payments
on_error: deny
limits:
  spike: {rate: 1/min, burst: 2, per: tenant}
  steady: {algorithm: sliding-window, rate: 1500/min, per: [tenant, route]}
  slots: {algorithm: concurrency, max: 5, per: tenant}
  llm: {rate: 60/min, burst: 60, unit: tokens}
budgets:
  fleet: {rate: 5000/s, burst: 10000}
overrides:
  - name: gold
    match: {tier: gold}
    limits: {spike: {rate: 2/min}}
"""
ACME = {"tenant": "acme"}
REFUSED = """\
refused: /payments/checkout, by the policy of /payments, generation 1
  spike @ /payments         0 of 2 requests left for tenant=acme, retry after 60 s      \
<policies>:5:17   <- refuses
  steady @ /payments        1498 of 1500 requests left for tenant=acme, route=(absent)  \
<policies>:6:45
  llm @ /payments           60 of 60 tokens left                                        \
<policies>:8:15   not consulted
  budget fleet @ /payments  9998 of 10000 requests left                                 \
<policies>:10:17
  slots @ /payments         3 of 5 requests left for tenant=acme                        \
<policies>:7:40"""


def refused(agent: Agent, attributes: dict[str, str] | None = None) -> Decision:
    given = ACME if attributes is None else attributes
    decisions = [agent.check("/payments/checkout", given) for _ in range(3)]
    assert not decisions[-1]
    return decisions[-1]


def by_name(explanation: Explanation) -> dict[str, LimitExplanation]:
    return {limit.name: limit for limit in explanation.limits}
