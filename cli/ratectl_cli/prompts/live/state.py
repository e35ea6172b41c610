"""State of a live view, and how keys change it. No terminal, no store, no clock."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

from ratectl.health import hot_keys, usage_selection
from ratectl.health.hot_keys import HotKey
from ratectl_cli.render.labels import row_label

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ratectl.health.usage_report import UsageReport, UsageRow

__all__ = ["KEYS", "SORTS", "Shows", "State", "after", "other", "position", "rows_of"]

Shows = Literal["limits", "keys"]

SORTS: Final[Mapping[Shows, Sequence[str]]] = {
    "limits": usage_selection.SORTS,
    "keys": hot_keys.SORTS,
}
"""Orders of each kind of rows, the usual one first."""

KEYS: Final = (
    ("↑ ↓ PgUp PgDn Home End", "move"),
    ("Enter", "open the scope of the row; of a limit in the open scope: show its keys"),
    ("Esc, Backspace", "close: this help, the filter, keys of limits; then go up one scope"),
    ("s", "sort by the next number"),
    ("/", "filter: type a part of a scope, limit or key, then Enter"),
    ("k", "show keys, or limits"),
    ("h", "show or close this help"),
    ("q", "quit"),
)
"""Keys and what they do."""


@dataclass(frozen=True, slots=True)
class State:
    """Contents of a live view, and the selected row."""

    home: Shows = "limits"
    """Kind of the rows that it showed first."""
    shows: Shows = "limits"
    scope: str | None = None
    """The open scope; None for all scopes."""
    limit: UsageRow | None = None
    """The limit whose keys are shown; None for the keys of all limits."""
    sort: str = "scope"
    other_sort: str = "requests"
    """Order of the rows of the other kind, for when they are shown again."""
    near: float | None = None
    minutes: int = 1
    filter: str = ""
    typing: bool = False
    """True while the filter is typed."""
    help: bool = False
    cursor: int = 0
    """Position of the selected row when it was selected."""
    chosen: tuple[object, ...] | None = None
    """Identity of the selected row, which may move; None for the row at ``cursor``."""
    page: int = 10
    """Rows to move by PgUp and PgDn."""
    done: bool = False


def rows_of(state: State, report: UsageReport | None) -> Sequence[UsageRow] | Sequence[HotKey]:
    """Return the rows of the view: those that match the filter, in their order."""
    if report is None:
        return []
    text = state.filter.casefold()
    if state.shows == "keys":
        limits = report.rows
        if state.limit is not None:
            limits = [row for row in limits if _limit(row) == _limit(state.limit)]
        keys = hot_keys.hot_keys(limits, state.sort)
        return [key for key in keys if text in f"{_place(key.row)} {key.key}".casefold()]
    chosen = usage_selection.selected(report, state.sort, state.near)
    return [row for row in chosen.rows if text in _place(row).casefold()]


def other(shows: Shows) -> Shows:
    """Return the other kind of rows."""
    return "limits" if shows == "keys" else "keys"


def position(state: State, rows: Sequence[object]) -> int:
    """Return the position of the selected row."""
    if state.chosen is not None:
        for at, row in enumerate(rows):
            if _identity(row) == state.chosen:
                return at
    return max(0, min(state.cursor, len(rows) - 1))


def after(state: State, key: str, rows: Sequence[object]) -> State:
    """Return the state after a key was pressed; ``rows``: the rows that the view shows."""
    if state.typing:
        return _after_typing(state, key)
    move = _MOVES.get(key)
    if move is not None:
        return _selected(state, rows, move(state, position(state, rows), len(rows)))
    change = _CHANGES.get(key)
    return state if change is None else change(state, rows)


def _after_typing(state: State, key: str) -> State:
    if key == "enter":
        return replace(state, typing=False)
    if key == "escape":
        return _first(replace(state, typing=False, filter=""))
    if key == "backspace":
        return _first(replace(state, filter=state.filter[:-1]))
    return _first(replace(state, filter=state.filter + key)) if len(key) == 1 else state


def _selected(state: State, rows: Sequence[object], at: int) -> State:
    at = max(0, min(at, len(rows) - 1))
    return replace(state, cursor=at, chosen=_identity(rows[at]) if rows else None)


def _first(state: State) -> State:
    """Return the state with the first row selected."""
    return replace(state, cursor=0, chosen=None)


def _open(state: State, rows: Sequence[object]) -> State:
    if not rows or state.help:
        return state
    row = rows[position(state, rows)]
    scope = _row(row).scope
    if scope != state.scope:
        return _first(replace(state, scope=scope, filter=""))
    if state.shows == "limits":
        return replace(_toggle(state, rows), limit=_row(row), filter="")
    return state


def _close(state: State, rows: Sequence[object]) -> State:
    if state.help:
        return replace(state, help=False)
    if state.filter:
        return _first(replace(state, filter=""))
    if state.limit is not None or state.shows != state.home:
        return _toggle(state, rows)
    if state.scope is None:
        return state
    above = state.scope.rpartition("/")[0] or None
    return _first(replace(state, scope=above))


def _toggle(state: State, _rows: Sequence[object]) -> State:
    """Return the state with the rows of the other kind, in the order that they had before."""
    shows = other(state.shows)
    state = replace(state, shows=shows, limit=None, sort=state.other_sort, other_sort=state.sort)
    return _first(state)


def _sort(state: State, _rows: Sequence[object]) -> State:
    sorts = SORTS[state.shows]
    return _first(replace(state, sort=sorts[(sorts.index(state.sort) + 1) % len(sorts)]))


_MOVES: Final[Mapping[str, Callable[[State, int, int], int]]] = {
    "up": lambda _state, at, _count: at - 1,
    "down": lambda _state, at, _count: at + 1,
    "pageup": lambda state, at, _count: at - state.page,
    "pagedown": lambda state, at, _count: at + state.page,
    "home": lambda _state, _at, _count: 0,
    "end": lambda _state, _at, count: count - 1,
}

_CHANGES: Final[Mapping[str, Callable[[State, Sequence[object]], State]]] = {
    "enter": _open,
    "right": _open,
    "escape": _close,
    "backspace": _close,
    "left": _close,
    "s": _sort,
    "k": _toggle,
    "/": lambda state, _rows: replace(state, typing=True, help=False),
    "h": lambda state, _rows: replace(state, help=not state.help),
    "?": lambda state, _rows: replace(state, help=not state.help),
    "q": lambda state, _rows: replace(state, done=True),
}


def _row(row: object) -> UsageRow:
    return row.row if isinstance(row, HotKey) else row  # type: ignore[return-value]


def _place(row: UsageRow) -> str:
    return f"{row.scope} {row_label(row)}"


def _identity(row: object) -> tuple[object, ...]:
    of = _row(row)
    unit = of.total.unit if of.total else ""
    key = row.key if isinstance(row, HotKey) else None
    return *_limit(of), unit, key


def _limit(row: UsageRow) -> tuple[object, ...]:
    """Return the identity of a limit and the overrides that select its buckets."""
    return row.scope, row.name, row.overrides, row.budget
