"""Assertions on a replay: ``refused < 1%``, ``refused[spike] < 5%``, ``shadow[/web] == 0``.

``<what>[<of>] <operator> <amount>``. *What* is ``refused``, ``admitted`` or ``shadow``. *Of* is a
scope (with the scopes below it), a limit, or a limit at a scope (``spike@/web``); default: all
requests. The amount is a number of requests, or a percentage of the requests that *of* selects.
"""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Final

from ratectl.errors import UsageError
from ratectl.policy.language.scopes import scope_problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from ratectl.simulate.report import Side

__all__ = ["Assertion", "Outcome"]

_FORM = re.compile(
    r"\s*(?P<what>[a-z]+)\s*(?:\[\s*(?P<of>[^\[\]\s]+)\s*\])?\s*"
    r"(?P<operator><=|>=|==|<|>)\s*(?P<amount>\d{1,15}(?:\.\d{1,9})?)\s*(?P<percent>%)?\s*",
    re.ASCII,
)
_WHAT: Final = ("refused", "admitted", "shadow")
_LIMIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.ASCII)
_OPERATORS: Final[dict[str, Callable[[Fraction, Fraction], bool]]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of an assertion. ``total``: number of requests that it is about."""

    text: str
    holds: bool
    count: int
    total: int
    measured: str
    """Measured value, as text."""


@dataclass(frozen=True, slots=True)
class Assertion:
    """Condition on a report; ``parse`` creates it."""

    text: str
    what: str
    scope: str | None
    limit: str | None
    operator: str
    amount: Fraction
    percent: bool

    @classmethod
    def parse(cls, text: str) -> Assertion:
        """Read the written form.

        :raises UsageError: it is no assertion; the message says what to write.
        """
        match = _FORM.fullmatch(text) if len(text) <= 300 else None
        if match is None:
            raise UsageError(
                f"{text[:100]!r} is not an assertion: write refused < 1%, or shadow[/web] == 0"
            )
        if match["what"] not in _WHAT:
            raise UsageError(
                f"{text!r}: {match['what']!r} is not known; use refused, admitted or shadow"
            )
        limit, scope = _selected(text, match["of"])
        percent = match["percent"] is not None
        amount = Fraction(match["amount"])
        if percent and amount > 100:
            raise UsageError(f"{text!r}: a share is at most 100%")
        if not percent and amount.denominator != 1:
            raise UsageError(f"{text!r}: write a whole number of requests, or a share in %")
        return cls(
            " ".join(text.split()), match["what"], scope, limit, match["operator"], amount, percent
        )

    def judge(self, side: Side) -> Outcome:
        """Return the outcome for one side; an assertion about no request does not hold."""
        count, total = self._counted(side)
        if not total:
            return Outcome(self.text, False, 0, 0, self._nothing(side))
        value = Fraction(100 * count, total) if self.percent else Fraction(count)
        holds = _OPERATORS[self.operator](value, self.amount)
        share = f"{float(Fraction(100 * count, total)):.4g}%"
        return Outcome(self.text, holds, count, total, f"{share} ({count} of {total} requests)")

    def _counted(self, side: Side) -> tuple[int, int]:
        """Return the number of counted requests, and of all that the assertion is about."""
        if self.limit is None:
            rows = [row for row in side.scopes if self._within(row.scope)]
            total = sum(row.requests for row in rows)
            return sum(getattr(row, self.what) for row in rows), total
        name = "shadow_refused" if self.what == "shadow" else self.what
        limits = [
            count
            for count in side.limits
            if count.limit == self.limit and (self.scope is None or count.scope == self.scope)
        ]
        total = sum(count.decided for count in limits)
        return sum(getattr(count, name) for count in limits), total

    def _within(self, scope: str | None) -> bool:
        if self.scope is None:
            return True
        if scope is None:
            return False
        return scope == self.scope or scope.startswith(self.scope.rstrip("/") + "/")

    def _nothing(self, side: Side) -> str:
        if self.limit is None:
            there = ", ".join(row.scope for row in side.scopes if row.scope is not None)
            return f"no request at {self.scope or 'all'}; requests met: {there or 'no scope'}"
        at = f" at {self.scope}" if self.scope else ""
        there = ", ".join(sorted({count.limit for count in side.limits if count.decided}))
        return f"no request met a limit {self.limit}{at}; requests met: {there or 'no limit'}"


def _selected(text: str, of: str | None) -> tuple[str | None, str | None]:
    """Return the limit and the scope that the brackets name."""
    if of is None:
        return None, None
    limit, at, scope = of.partition("@")
    if not at and of.startswith("/"):
        limit, scope = "", of
    if limit and not _LIMIT.fullmatch(limit):
        raise UsageError(f"{text!r}: {limit!r} is neither a limit nor a scope, like /web")
    problem = scope_problem(scope) if scope or at else None
    if problem or (at and not limit):
        raise UsageError(f"{text!r}: {of!r} is not a limit at a scope, like spike@/web")
    return limit or None, scope or None
