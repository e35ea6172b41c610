"""The tree of scopes, and the section of each scope."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from ratectl.page import numbers
from ratectl.page.html import EMPTY, Html, joined, shortened, tag
from ratectl.page.limits import COLUMNS, limit_rows, mention
from ratectl.page.pictures import bar

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ratectl.page.view import LimitView, ScopeView

__all__ = ["Room", "ScopeSections"]

_MOST_TEXT: Final = 400
_DEEPEST: Final = 64
"""Most nested lists; deeper scopes are in the last one."""
_AROUND: Final = 20
"""Bytes of the list around an entry."""
_HEADING: Final = 2_000
"""Bytes that are set aside for the heading of a section."""


class Room:
    """Bytes that are left on the page."""

    def __init__(self, left: int) -> None:
        self._left = left

    def take(self, markup: str, more: int = 0) -> bool:
        """Return True, and use the room, if the markup (and ``more`` bytes) still fits."""
        size = len(markup.encode()) + more
        if size > self._left:
            return False
        self._left -= size
        return True


class ScopeSections:
    """Sections of all scopes, as many limits as there is room for; the others are named.

    Limits that refuse come first, then the fullest ones.
    """

    def __init__(self, scopes: Sequence[ScopeView], room: int) -> None:
        self._scopes = scopes
        self._rows: dict[int, list[tuple[int, Html]]] = {}
        """Rows by the number of the scope, each with the number of its limit."""
        self._anchors: set[str] = set()
        self._listed = 0
        """Scopes in the tree."""
        self._room = Room(room * 7 // 10)
        self._rest = Room(room // 10)
        self._tree = Room(room // 10)
        self._fill()

    def _fill(self) -> None:
        limits = [
            (limit, number, position)
            for number, scope in enumerate(self._scopes)
            for position, limit in enumerate(scope.limits)
        ]
        limits.sort(key=lambda each: _importance(each[0]))
        for limit, number, position in limits:
            rows = limit_rows(limit, self._anchor(limit))
            if not self._room.take(rows, 0 if number in self._rows else _HEADING):
                break
            self._rows.setdefault(number, []).append((position, rows))

    def _anchor(self, limit: LimitView) -> str:
        """Return an id that is the same whenever the page is made."""
        names = repr((limit.scope, limit.name, limit.budget, limit.overrides))
        anchor = f"l{blake2b(names.encode(), digest_size=6).hexdigest()}"
        while anchor in self._anchors:  # one limit that counted two units
            anchor += "x"
        self._anchors.add(anchor)
        return anchor

    # Tree ---------------------------------------------------------------------------------------

    def tree(self) -> Html:
        """Return the scopes as nested lists."""
        rest = iter(range(len(self._scopes)))
        top, _ = self._branch("", next(rest, None), rest, 0)
        left_out = len(self._scopes) - self._listed
        more = tag("p", f"and {left_out:,} more scopes", class_="note") if left_out else EMPTY
        return joined([top, more])

    def _branch(
        self, above: str, number: int | None, rest: Iterator[int], depth: int
    ) -> tuple[Html, int | None]:
        """Return the scopes below ``above`` from a number on, and the number of the next scope."""
        items: list[Html] = []
        while number is not None and _is_below(self._scopes[number].scope, above):
            scope = self._scopes[number]
            entry = self._entry(number, scope, above)
            if not self._tree.take(entry, _AROUND):
                number = None
                break
            self._listed += 1
            number, inner = next(rest, None), EMPTY
            if depth < _DEEPEST:  # a report may name any scope
                inner, number = self._branch(scope.scope, number, rest, depth + 1)
            items.append(tag("li", entry, inner))
        return tag("ul", *items) if items else EMPTY, number

    def _entry(self, number: int, scope: ScopeView, above: str) -> Html:
        name = scope.scope if above in ("", "/") else scope.scope.removeprefix(f"{above}/")
        name = shortened(name, _MOST_TEXT)
        link = tag("a", name, href=f"#s{number}") if number in self._rows else tag("b", name)
        peak = worst(scope)
        counted = f"{len(scope.limits)} limit{'' if len(scope.limits) == 1 else 's'}"
        refuses = any(_refuses_now(limit) for limit in scope.limits)
        return tag(
            "span",
            link,
            tag("span", counted, class_="note"),
            tag("span", bar(peak), class_="track-of"),
            tag("span", numbers.percent(peak), class_="number"),
            tag("span", "refuses", class_="mark full") if refuses else EMPTY,
            class_="entry",
        )

    # Sections -----------------------------------------------------------------------------------

    def sections(self) -> Html:
        """Return the sections, and the names of the limits for which there was no room."""
        parts = [
            self._section(number, scope)
            for number, scope in enumerate(self._scopes)
            if number in self._rows
        ]
        return joined([*parts, self._left_out()])

    def _section(self, number: int, scope: ScopeView) -> Html:
        rows = [row for _, row in sorted(self._rows[number])]
        head = tag("tr", *(tag("th", column, scope="col") for column in COLUMNS))
        name = shortened(scope.scope, _MOST_TEXT)
        notes = []
        if scope.owner:
            notes.append(f"owner: {shortened(scope.owner, _MOST_TEXT)}")
        if not scope.declared:
            notes.append("the policies do not have this scope any more")
        if scope.budgets_above:
            budgets = shortened(", ".join(scope.budgets_above), _MOST_TEXT)
            notes.append(f"requests also draw from: {budgets}")
        left = len(scope.limits) - len(rows)
        if left:
            notes.append(f"{left:,} more limits: see the end of the page")
        return tag(
            "section",
            tag("h3", tag("code", name), id=f"s{number}"),
            tag("p", shortened(scope.description, _MOST_TEXT)) if scope.description else EMPTY,
            tag("p", " · ".join(notes), class_="note") if notes else EMPTY,
            tag("table", tag("caption", f"Limits of {name}", class_="hidden"),
                tag("thead", head), tag("tbody", *rows), class_="limits"),
            class_="card",
        )  # fmt: skip

    def _left_out(self) -> Html:
        items, unnamed = [], 0
        for number, scope in enumerate(self._scopes):
            shown = {position for position, _ in self._rows.get(number, ())}
            limits = [limit for at, limit in enumerate(scope.limits) if at not in shown]
            if not limits:
                continue
            name = tag("code", shortened(scope.scope, _MOST_TEXT))
            item = tag("li", name, tag("ul", *map(mention, limits)))
            if unnamed or not self._rest.take(item):
                unnamed += len(limits)
            else:
                items.append(item)
        if not items and not unnamed:
            return EMPTY
        return tag(
            "section",
            tag("h3", "Limits without details"),
            tag("p", "The page has a bounded size. Name a scope to see the details of its limits."),
            tag("ul", *items, class_="plain-list") if items else EMPTY,
            tag("p", f"{unnamed:,} more limits are left out.") if unnamed else EMPTY,
            class_="card",
        )


def worst(scope: ScopeView) -> float | None:
    """Return the use of the fullest limit of a scope; None if unknown."""
    uses = (limit.usage.peak for limit in scope.limits if limit.usage)
    return max((use for use in uses if use is not None), default=None)


def _is_below(scope: str, above: str) -> bool:
    return above == "" or scope.startswith(f"{above.rstrip('/')}/")


def _refuses_now(limit: LimitView) -> bool:
    usage = limit.usage
    return bool(
        usage and limit.mode == "enforce" and usage.refused_rates and usage.refused_rates[1]
    )


def _importance(limit: LimitView) -> tuple[float, float, bool]:
    usage = limit.usage
    if usage is None:
        return 0.0, 0.0, True
    refused = usage.refused_rates[2] if usage.refused_rates else 0.0
    return -refused, -(usage.peak or 0.0), False
