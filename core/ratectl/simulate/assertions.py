"""Assertions on a replay: ``refused < 1%``, ``refused[spike] < 5%``, ``shadow[/web] == 0``.

``<what>[<of>] <operator> <amount>``. *What* is ``refused``, ``admitted`` or ``shadow``. *Of* is a
scope (with all below it), a limit, or a limit at a scope: ``spike@/web``; all requests where it is
left out. The amount is a number of requests, or a share of those that *of* names.
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
    """How an assertion came out. ``total`` are the requests that it looks at."""

    text: str
    holds: bool
    count: int
    total: int
    measured: str
    """What was found, in words."""


@dataclass(frozen=True, slots=True)
class Assertion:
    """One assertion; ``parse`` makes it."""

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

        :raises UsageError: it is not one; the message says what to write.
        """
        match = _FORM.fullmatch(text) if len(text) <= 300 else None
        if match is None:
            raise UsageError(
                f"{text[:100]!r} is not an assertion: write refused < 1%, or shadow[/web] == 0"
            )
        if match["what"] not in _WHAT:
            raise UsageError(
                f"{text!r}: {match['what']!r} cannot be asserted; use refused, admitted or shadow"
            )
        limit, scope = _selected(text, match["of"])
        percent = match["percent"] is not None
        amount = Fraction(match["amount"])
        if percent and amount > 100:
            raise UsageError(f"{text!r}: a share is at most 100%")
        if not percent and amount.denominator != 1:
            raise UsageError(f"{text!r}: requests are counted whole; did you mean a share, in %?")
        return cls(
            " ".join(text.split()), match["what"], scope, limit, match["operator"], amount, percent
        )

    def judge(self, side: Side) -> Outcome:
        """Whether it holds. Never where nothing was measured: that is a mistake, not a success."""
        count, total = self._counted(side)
        if not total:
            return Outcome(self.text, False, 0, 0, self._nothing(side))
        found = Fraction(100 * count, total) if self.percent else Fraction(count)
        holds = _OPERATORS[self.operator](found, self.amount)
        share = f"{float(Fraction(100 * count, total)):.4g}%"
        return Outcome(self.text, holds, count, total, f"{share} ({count} of {total} requests)")

    def _counted(self, side: Side) -> tuple[int, int]:
        """Requests asserted of, and all that are looked at."""
        if self.limit is None:
            rows = [row for row in side.scopes if self._within(row.scope)]
            total = sum(row.requests for row in rows)
            return sum(getattr(row, self.what) for row in rows), total
        name = "shadow_refused" if self.what == "shadow" else self.what
        limits = [
            each
            for each in side.limits
            if each.limit == self.limit and (self.scope is None or each.scope == self.scope)
        ]
        total = sum(each.decided for each in limits)
        return sum(getattr(each, name) for each in limits), total

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
        there = ", ".join(sorted({each.limit for each in side.limits if each.decided}))
        return f"no request met a limit {self.limit}{at}; requests met: {there or 'no limit'}"


def _selected(text: str, of: str | None) -> tuple[str | None, str | None]:
    """The limit and the scope that the brackets name."""
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
