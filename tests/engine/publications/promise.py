"""The promise of DESIGN §3, for one fixed request and one limit, over every span.

*Admitted ≤ what the loosest parameters that were in force in that span admit.* A span runs from one
admission to another. In exact numbers, with the parameters that the request itself was under:

- token bucket throughout: the largest burst in force, plus the integral of the rate;
- window of one length throughout: the largest count in force, if the span is shorter than it;
- quota of one calendar throughout: the largest count in force, if both ends are in one window;
- concurrency throughout: of the slots not released and not past `hold` (the shortest that the
  table of changes allows), the largest `max` in force;
- anything else (a length, calendar or algorithm changed in the span): the larger of (a) what any
  one of the rules would have admitted, had it been in force for the whole span, and (b) the largest
  capacity, plus what each rule gave back while it was in force. Windows and quotas at the end of
  the span bound only what their last window saw, as by themselves;
- a span that was partly without the limit (absent, off, shadow, unlimited): nothing.

What a rule gives back in a time: rate · t; or n for each whole window, calendar boundary, `hold`.
Where clocks step back, time that passed is the sum of all steps forward, and a request counts in a
calendar window between the one that the clock read and the furthest that it has read: the reading
that excuses most is taken. Spans of several rules with a quota are not judged then.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from engine.publications.rules import Quota, Rule, Slots, Span, Tokens, Window

if TYPE_CHECKING:
    from collections.abc import Iterator
    from fractions import Fraction


class Time(NamedTuple):
    """An instant: time that passed, and the wall clock as read and at its furthest."""

    passed: int
    wall: int
    furthest: int
    stepped: bool
    """True if a clock has stepped back before."""


@dataclass
class Charge:
    """Cost that one request was admitted for, or that was settled later."""

    at: Time
    cost: int
    index: int = 0
    """Calendar window that a quota counted it in."""
    released: bool = False


@dataclass
class Stretch:
    """Time under one rule, until the next stretch begins."""

    rule: Rule | None
    at: Time
    charges: list[Charge] = field(default_factory=list)


class Excess(NamedTuple):
    """Proof that a span admitted too much."""

    total: int
    most: float
    first: Charge
    spans: list[Span]


class Ledger:
    """Everything that one request was admitted for, under one limit."""

    def __init__(self) -> None:
        self.stretches: list[Stretch] = []

    def rule(self, rule: Rule | None, at: Time) -> None:
        """Note the rule in force from now on."""
        if not self.stretches or self.stretches[-1].rule != rule:
            self.stretches.append(Stretch(rule, at))

    def admit(self, at: Time, cost: int) -> tuple[Charge, Excess | None]:
        """Note an admission; return the charge, and a span that it ends and that is too large."""
        charge = Charge(at, cost)
        stretch = self.stretches[-1]
        stretch.charges.append(charge)
        if stretch.rule is None:
            return charge, None
        if not isinstance(stretch.rule, Quota):
            return charge, self._excess(at)
        excess = None
        for charge.index in self._windows(stretch.rule, at):
            excess = self._excess(at)
            if excess is None:
                break
        return charge, excess

    def settle(self, charge: Charge, actual: int, at: Time) -> None:
        """Note what the request cost in truth: less was less at once, more counts from now on."""
        if actual < charge.cost:
            charge.cost = actual
        elif actual > charge.cost:
            index = max(charge.index, self._latest_index())
            self.stretches[-1].charges.append(Charge(at, actual - charge.cost, index))

    def _windows(self, rule: Quota, at: Time) -> Iterator[int]:
        """Yield calendar windows that the newest charge may count in, the earliest first."""
        earliest, latest = rule.index(at.wall), rule.index(at.furthest)
        before = self.stretches[-1].charges[:-1]
        if not before and len(self.stretches) > 1:
            last = self.stretches[-2]
            before = last.charges if last.rule and last.rule.shape == rule.shape else []
        if before:
            earliest = max(earliest, before[-1].index)
        yield from range(min(earliest, latest), min(latest, earliest + 1) + 1)

    def _latest_index(self) -> int:
        charges = self.stretches[-1].charges
        return charges[-1].index if charges else 0

    def _excess(self, now: Time) -> Excess | None:
        newest = self.stretches[-1].charges[-1]
        last = self.stretches[-1].rule
        if isinstance(last, Tokens) and not last.rate and newest.cost:
            return Excess(newest.cost, 0, newest, [])
        total, end, later = 0, now, list[Span]()
        free_at = math.inf  # instant at which a slot taken in the stretch has become free
        for stretch in reversed(self.stretches):
            rule = stretch.rule
            if rule is None:
                return None
            for charge in reversed(stretch.charges):
                if not charge.released and not self._free(charge, rule, free_at, now):
                    total += charge.cost
                spans = [_span(rule, charge.at, end), *later]
                most = _most(spans, charge, newest)
                if total > most:
                    return Excess(total, float(most), charge, spans)
            later.insert(0, _span(rule, stretch.at, end))
            end = stretch.at
            if isinstance(rule, Slots):
                free_at = min(free_at, stretch.at.passed + rule.hold)
        return None

    @staticmethod
    def _free(charge: Charge, rule: Rule, later: float, now: Time) -> bool:
        own = charge.at.passed + rule.hold if isinstance(rule, Slots) else math.inf
        return now.passed >= min(own, later)


def _span(rule: Rule, start: Time, end: Time) -> Span:
    return Span(rule, start.passed, end.passed, start.furthest, end.furthest)


def _most(spans: list[Span], first: Charge, newest: Charge) -> Fraction | float:
    """Return the most that may be admitted from one charge to another."""
    last = spans[-1].rule
    capacity = max(span.rule.capacity for span in spans)
    whole = Span(last, spans[0].start, spans[-1].end, spans[0].wall, spans[-1].wall_end)
    shapes = {span.rule.shape for span in spans}
    if isinstance(last, Window) and whole.elapsed >= last.length:
        return math.inf
    if len(shapes) > 1 and _forgotten(spans):
        return math.inf
    if len(shapes) == 1:
        if isinstance(last, Tokens):
            return capacity + sum(span.rule.refill(span) for span in spans)
        same_window = not isinstance(last, Quota) or first.index == newest.index
        return capacity if same_window else math.inf
    if all(isinstance(span.rule, Slots) for span in spans):
        return capacity
    if isinstance(last, Quota) and last.index(whole.wall) != last.index(whole.wall_end):
        return math.inf
    if newest.at.stepped and any(isinstance(span.rule, Quota) for span in spans):
        return math.inf
    alone = max(
        span.rule.capacity + span.rule.refill(Span(span.rule, *_ends(whole))) for span in spans
    )
    return max(alone, capacity + _given_back(spans))


def _forgotten(spans: list[Span]) -> bool:
    """Return True if a shorter window forgot, on the way, what the first charge counted."""
    since = spans[0].start
    for span in spans:
        rule = span.rule
        if isinstance(rule, Quota) and rule.index(span.wall) != rule.index(span.wall_end):
            return True
        if not isinstance(rule, Window):
            since = span.end  # another algorithm counts it as of the change
        elif span.end - since >= rule.length:
            return True
    return False


def _given_back(spans: list[Span]) -> Fraction | int:
    """Return what the rules gave back, one after the other; equal windows count as one stretch."""
    total: Fraction | int = 0
    for shape, same in groupby(spans, key=lambda span: span.rule.shape):
        run = list(same)
        if shape == "tokens":
            total += sum(span.rule.refill(span) for span in run)
        else:
            loosest = max(run, key=lambda span: span.rule.capacity).rule
            whole = Span(loosest, run[0].start, run[-1].end, run[0].wall, run[-1].wall_end)
            total += loosest.refill(whole)
    return total


def _ends(span: Span) -> tuple[int, int, int, int]:
    return (span.start, span.end, span.wall, span.wall_end)
