"""The ideal bucket: one for each fixed request and limit, which migrates in place.

It is charged by its own request alone, never evicted, exact, forgets nothing, and never leaves: a
publication only changes its rule. An engine that refuses what every ideal bucket admits is
*stricter*: because other requests share the bucket, or because of what a request carries along.

Change of rule: a token bucket keeps min(tokens, burst); windows and quotas keep the log of all
requests; a slot is free after its old time or, if that is sooner, after the new `hold` from the
change on. From one algorithm to another, what is missing (the debt, which no burst clips) is
missing, as if admitted now. A cost
settled upwards is charged; a refund is not known here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from engine.publications.rules import Quota, Rule, Slots, Tokens, Window

if TYPE_CHECKING:
    from engine.publications.promise import Charge, Time


@dataclass
class Counted:
    """One entry of the log: what was admitted, when, and until when it takes a slot."""

    at: Time
    cost: int
    until: float
    charge: Charge | None = None


class Ideal:
    def __init__(self) -> None:
        self.now: Time | None = None
        self.current: Rule | None = None
        self.tokens = Fraction(0)
        self.debt = Fraction(0)
        """What was charged and is not refilled yet, whatever the burst was since."""
        self.log: list[Counted] = []

    def rule(self, rule: Rule | None, at: Time) -> None:
        """Change the rule; after a time without one, begin full."""
        self._pass(at)
        before, self.current = self.current, rule
        if isinstance(rule, Tokens) and isinstance(before, Tokens):
            self.tokens = min(self.tokens, Fraction(rule.capacity))
        elif rule is not None and (before is None or type(before) is not type(rule)):
            missing = self._missing(before, at)
            self.tokens, self.debt = rule.capacity - missing, missing
            self.log = [Counted(at, math.ceil(missing), math.inf)]
        if isinstance(rule, Slots):
            for counted in self.log:
                counted.until = min(counted.until, at.passed + rule.hold)

    def admits(self, cost: int, at: Time) -> bool:
        """Return True if the bucket admits a cost now; without a rule it admits everything."""
        self._pass(at)
        rule = self.current
        if rule is None:
            return True
        blocked = isinstance(rule, Tokens) and not rule.rate and cost
        return not blocked and self._left(rule, at) >= cost

    def charge(self, charge: Charge | None, cost: int, at: Time) -> None:
        self._pass(at)
        self.tokens -= cost
        self.debt += cost
        hold = self.current.hold if isinstance(self.current, Slots) else math.inf
        self.log.append(Counted(at, cost, at.passed + hold, charge))

    def _missing(self, rule: Rule | None, now: Time) -> Fraction:
        if rule is None or isinstance(rule, Tokens):
            return Fraction(0) if rule is None else self.debt
        return rule.capacity - self._left(rule, now)

    def _left(self, rule: Rule, now: Time) -> Fraction:
        if isinstance(rule, Tokens):
            return self.tokens
        used = sum(each.cost for each in self.log if _counts(each, rule, now))
        return Fraction(rule.capacity - used)

    def _pass(self, at: Time) -> None:
        last, self.now = self.now, at
        if last is not None and isinstance(self.current, Tokens):
            refill = self.current.rate * (at.passed - last.passed)
            self.tokens = min(self.tokens + refill, Fraction(self.current.capacity))
            self.debt = max(self.debt - refill, Fraction(0))


def _counts(counted: Counted, rule: Window | Quota | Slots, now: Time) -> bool:
    if isinstance(rule, Window):
        return counted.at.passed > now.passed - rule.length
    if isinstance(rule, Quota):
        return rule.index(counted.at.furthest) == rule.index(now.furthest)
    released = counted.charge is not None and counted.charge.released
    return not released and now.passed < counted.until
