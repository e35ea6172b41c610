"""Limits, edits and requests that state machines draw, in few draws (each is slower than a check).

A batch of requests is drawn as bytes, two for each: Hypothesis can still shrink it, byte by byte.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from hypothesis import strategies as st

from engine.model import Limit
from engine.rules import SECOND, Quota, Slots, Tokens, Wall, Window
from ratectl.engine.algorithms.quota import WallOffset

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from engine.model import Cost, Published
    from engine.rules import Rule

SCOPES = ("/", "/a", "/a/b")
NAMES = ("l", "m")
PERS = ((), ("tenant",), ("route",), ("tenant", "route"))

WALL, OFFSET = Wall(), WallOffset()
"""The wall clock of every drawn quota, for the oracle and for engines."""


def set_wall(ns: int, now: int | None = None) -> None:
    """Set the wall clock's offset; ``now``: in the middle of a run, so that it may step back."""
    if now is None:
        WALL.__init__()  # type: ignore[misc]
        OFFSET.__init__()  # type: ignore[misc]
    WALL.move(ns, now or 0)
    OFFSET.move(ns, now or 0)


MOST = (3, 5, 4, 2, 6, 8, 3, 5, 12, 4, 1, 7, 0)
"""Weighted: buckets are sometimes empty, and seldom refuse all requests."""

tokens = st.builds(
    Tokens,
    st.sampled_from((1, 2, 3, 10, 7, 1, 2, 0, 1_000)),
    st.sampled_from((SECOND, 11 * SECOND, 60 * SECOND, 3_600 * SECOND, 1, 7)),
    st.sampled_from(MOST),
)
LENGTHS = (SECOND, 10 * SECOND, 60 * SECOND, 61 * SECOND, 3_600 * SECOND, 1, 14, 15, 16)
windows = st.builds(
    lambda most, length: Window(most, length, blocked=not most),
    st.sampled_from(MOST),
    st.sampled_from(LENGTHS),
)
UNITS = (("min", 0), ("h", 0), ("day", 0), ("day", 150))
"""Start of days: midnight, and 2:30, a time that is skipped once and repeated once a year."""
quotas = st.sampled_from([Quota(most, unit, WALL, at) for most in MOST for unit, at in UNITS])
HOLDS = (10 * SECOND, SECOND, 60 * SECOND, 1)
slots = st.sampled_from([Slots(most, hold) for most in MOST for hold in HOLDS])
rules = tokens | windows | quotas | slots
limits = st.tuples(rules, st.sampled_from(PERS), st.sampled_from((False, False, False, True)))


class Request(NamedTuple):
    scope: str
    attributes: dict[str, str]
    cost: Cost

    def scaled(self, scale: int) -> Request:
        """Return the request with a larger cost."""
        cost = self.cost
        if isinstance(cost, int):
            return self._replace(cost=cost * scale)
        named = {"requests": 1, **cost} if scale > 1 else cost
        return self._replace(cost={unit: each * scale for unit, each in named.items()})


class Crowd:
    """A batch of requests: one byte of each gives the scope and the cost, the other the key."""

    def __init__(
        self,
        scopes: Sequence[str] = ("/a/b", "/", "/a", "/a", "/a/b", "/a/b/c", "/", "/z"),
        costs: Sequence[Cost] = (1, 0, 1, 1, 2, 1, 1, 3, 1, 1, 2, 1, 5, 1, 0, 12),
        tenants: Sequence[str | None] = ("x", "y", "", None),
        routes: Sequence[str | None] = ("x", None),
    ) -> None:
        self._where = [(scope, cost) for cost in costs for scope in scopes]
        self._who = [
            {
                name: value
                for name, value in (("tenant", tenant), ("route", route))
                if value is not None
            }
            for route in routes
            for tenant in tenants
        ]

    def requests(self, batch: bytes) -> Iterator[Request]:
        for where, who in zip(batch[::2], batch[1::2], strict=False):
            scope, cost = self._where[where % len(self._where)]
            yield Request(scope, self._who[who % len(self._who)], cost)


class Edit(NamedTuple):
    """One difference of the next generation; ``pick`` chooses the limit.

    ``kind`` chooses among the kinds of edits of the example.
    """

    kind: int
    pick: int
    rule: Rule
    per: tuple[str, ...]
    shadow: bool
    unit: str = "requests"


def edits(of: st.SearchStrategy[tuple[Rule, tuple[str, ...], bool]]) -> st.SearchStrategy[Edit]:
    return st.builds(
        lambda where, limit: Edit(where // 6, where % 6, *limit), st.integers(0, 12 * 6 - 1), of
    )


def edited(published: Published, kind: str, edit: Edit) -> Published:
    """Return ``published`` with one difference."""
    scope, name = SCOPES[edit.pick % len(SCOPES)], NAMES[edit.pick % len(NAMES)]
    here = list(published.get(scope, ()))
    if kind == "remove":
        return {at: those for at, those in published.items() if at != scope}
    if scope not in published and kind != "declare":
        return published
    budget = kind == "budget"
    name = "b" if budget else name
    at = next((n for n, one in enumerate(here) if (one.name, one.budget) == (name, budget)), None)
    fresh = Limit(scope, name, edit.rule, edit.per, edit.shadow, budget, edit.unit)
    if at is None:
        here.append(fresh)
    elif kind == "drop" or (budget and edit.shadow):
        del here[at]
    else:
        here[at] = _changed(here[at], kind, edit, fresh)
    return {**published, scope: tuple(here)}


def _changed(limit: Limit, kind: str, edit: Edit, fresh: Limit) -> Limit:
    if kind == "rule":
        return replace(limit, rule=edit.rule)
    if kind == "per":
        return replace(limit, per=edit.per)
    if kind == "shadow":
        return replace(limit, shadow=not limit.shadow)
    if kind == "unit":
        return replace(limit, unit=edit.unit)
    if kind == "absent":
        return replace(limit, skips=not limit.skips and not limit.budget)
    return fresh
