"""Keys of live views: state and key to state, without a terminal."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from live_support import detailed

from fleet.test_recent import record
from ratectl.fleet.usage import totals
from ratectl.health.hot_keys import HotKey
from ratectl.health.usage_report import UsageReport, UsageRow
from ratectl.kill_switch.switches import Switches
from ratectl_cli.framework.keyboard import split_keys
from ratectl_cli.prompts.live.state import State, after, position, rows_of

if TYPE_CHECKING:
    from ratectl.records import LimitReport


def usage(*limits: LimitReport) -> UsageReport:
    total = totals([record(*limits)])
    rows = [
        UsageRow(each.scope, each.limit, each.budget, None, each, each.overrides)
        for each in total.limits
    ]
    return UsageReport("/", "/", 1, [], Switches(), total, rows)


REPORT = usage(
    detailed("/", "spike", peak=0.2),
    detailed("/shop", "spike", peak=0.9, recent_allowed=10, refused=0, top_refused=[]),
    detailed("/shop", "steady", peak=0.5, busiest=[("bob", 9999, 0, 0.1)]),
    detailed("/shop/cart", "probe", peak=None, recent_allowed=5000),
)


def press(state: State, *keys: str, report: UsageReport = REPORT) -> State:
    for key in keys:
        state = after(state, key, rows_of(state, report))
    return state


def names(state: State, report: UsageReport = REPORT) -> list[str]:
    rows = rows_of(state, report)
    return [
        f"{row.row.name}:{row.key}" if isinstance(row, HotKey) else f"{row.scope} {row.name}"
        for row in rows
    ]


def chosen(state: State, report: UsageReport = REPORT) -> str:
    return names(state, report)[position(state, rows_of(state, report))]


def test_sort_cycles_through_the_orders() -> None:
    state, orders = State(), []
    for _ in range(4):
        orders.append((state.sort, names(state)[0]))
        state = press(state, "s")
    assert orders == [
        ("scope", "/ spike"), ("used", "/shop spike"), ("rate", "/shop/cart probe"),
        ("refused", "/ spike"),
    ]  # fmt: skip
    assert state == State()
    keys = press(State(), "k")
    assert [press(keys, *"s" * times).sort for times in range(4)] == [
        "requests", "refused", "used", "requests"
    ]  # fmt: skip


def test_moves_stay_inside_the_rows() -> None:
    state = State(page=2)
    assert chosen(press(state, "up")) == "/ spike"
    assert chosen(press(state, "down")) == "/shop spike"
    assert chosen(press(state, "pagedown")) == "/shop steady"
    assert chosen(press(state, "end")) == "/shop/cart probe"
    assert chosen(press(state, "end", "down", "pagedown")) == "/shop/cart probe"
    assert chosen(press(state, "end", "pageup", "up")) == "/ spike"
    assert chosen(press(state, "end", "home")) == "/ spike"


def test_the_selected_row_is_followed_when_rows_move() -> None:
    state = press(State(sort="used"), "down")
    assert chosen(state) == "/shop steady"
    fuller = usage(
        detailed("/", "spike", peak=0.2),
        detailed("/shop", "spike", peak=0.3),
        detailed("/shop", "steady", peak=1.0),
    )
    assert chosen(state, fuller) == "/shop steady"
    gone = usage(detailed("/", "spike", peak=0.2))
    assert chosen(state, gone) == "/ spike"


def test_filter_is_typed_kept_and_closed() -> None:
    state = press(State(cursor=3), "/", *"CArt")
    assert (state.filter, state.typing, names(state)) == ("CArt", True, ["/shop/cart probe"])
    assert press(state, "q").filter == "CArtq", "a letter, not a command"
    assert press(state, "up", "pagedown") == state
    state = press(state, "enter")
    assert (state.typing, names(state)) == (False, ["/shop/cart probe"])
    assert press(state, "escape").filter == ""
    assert names(press(State(), "/", *"xyz")) == []
    assert press(State(), "/", *"xyz", "backspace", "escape") == replace(State(), typing=False)


def test_keys_on_an_empty_view_do_nothing() -> None:
    empty = State(filter="nothing")
    for key in ("down", "end", "enter", "pageup", "left"):
        assert position(press(empty, key), []) == 0
    assert rows_of(State(), None) == []


def test_a_scope_is_opened_and_closed() -> None:
    state = press(State(), "end", "enter")
    assert (state.scope, state.cursor) == ("/shop/cart", 0)
    state = press(state, "escape")
    assert state.scope == "/shop"
    assert press(state, "backspace").scope is None
    assert press(State(), "left") == State(), "nothing is above all scopes"
    assert press(State(scope="/"), "left").scope is None


def test_the_keys_of_a_limit_in_the_open_scope() -> None:
    state = press(State(scope="/shop", sort="used"), "home", "enter")
    assert (state.shows, state.filter, state.sort) == ("keys", "", "requests")
    assert names(state) == ["spike:acme", "spike:zeta"]
    assert press(state, "escape") == State(scope="/shop", sort="used")
    keys = State(scope="/shop/cart", shows="keys", home="keys", sort="requests", other_sort="scope")
    assert press(keys, "home", "enter").scope == "/shop"


def test_only_the_keys_of_the_opened_limit_are_shown() -> None:
    """Neither those of limits whose names begin alike, nor of its buckets for overrides."""
    report = usage(
        detailed("/shop", "spike", busiest=[("acme", 5, 0, 0.1)], top_refused=[]),
        detailed("/shop", "spike-2", busiest=[("other limit", 9, 0, 0.1)], top_refused=[]),
        detailed(
            "/shop", "spike", overrides=["gold@/shop"], busiest=[("override", 9, 0, 0.1)],
            top_refused=[],
        ),
        detailed("/shop/cart", "steady", busiest=[("spike", 9, 0, 0.1)], top_refused=[]),
    )  # fmt: skip
    state = press(State(scope="/shop"), "home", "enter", report=report)
    assert names(state, report) == ["spike:acme"]
    assert names(press(state, "/", *"zeta", report=report), report) == []
    filtered = press(state, "/", *"acm", "enter", report=report)
    assert names(filtered, report) == ["spike:acme"]
    assert press(filtered, "escape", report=report) == state, "the filter is closed first"
    assert press(filtered, "escape", "escape", report=report) == State(scope="/shop")
    everything = press(state, "k", "k", report=report)
    assert len(names(everything, report)) == 4, "k shows the keys of all limits"


def test_keys_of_a_limit_are_left_for_the_limits_also_where_keys_were_shown_first() -> None:
    home = State(home="keys", shows="keys", scope="/shop", sort="used", other_sort="scope")
    limits = press(home, "k", "s")
    state = press(limits, "home", "enter")
    assert (state.shows, len(names(state))) == ("keys", 2)
    assert press(state, "escape") == limits
    assert press(state, "escape", "escape") == replace(home, other_sort="used")


def test_orders_of_limits_and_of_keys_are_remembered() -> None:
    state = press(State(), "s", "k", "s", "s")
    assert (state.shows, state.sort) == ("keys", "used")
    state = press(state, "k")
    assert (state.shows, state.sort) == ("limits", "used")
    state = press(state, "k")
    assert (state.shows, state.sort) == ("keys", "used")
    assert press(state, "escape").sort == "used"


def test_keys_by_filter_of_key_limit_and_scope() -> None:
    state = press(State(), "k")
    assert names(state)[0] == "steady:bob"
    assert names(press(state, "/", *"bob")) == ["steady:bob"]
    assert set(names(press(state, "/", *"/cart"))) == {"probe:acme", "probe:zeta"}
    assert press(state, "k").shows == "limits"


def test_help_is_closed_before_anything_else() -> None:
    state = press(State(scope="/shop"), "h")
    assert state.help
    assert press(state, "enter") == state
    assert press(state, "escape") == press(state, "h") == State(scope="/shop")


def test_near_limits_only() -> None:
    assert names(State(near=0.5)) == ["/shop spike", "/shop steady"]


def test_quit() -> None:
    assert press(State(), "q").done
    assert press(State(), "x", "Q", "é", "tab") == State()


@pytest.mark.parametrize(
    ("text", "keys", "rest"),
    [
        ("sq", ["s", "q"], ""),
        ("\x1b[A\x1b[B\x1bOC\x1bOD", ["up", "down", "right", "left"], ""),
        ("\x1b[5~\x1b[6~\x1b[H\x1b[F", ["pageup", "pagedown", "home", "end"], ""),
        ("\x1b[1~\x1bOF", ["home", "end"], ""),
        ("A\x7f\r\n\b", ["A", "backspace", "enter", "enter", "backspace"], ""),
        ("a\x1b", ["a"], "\x1b"),
        ("a\x1b[", ["a"], "\x1b["),
        ("\x1b[1;5", [], "\x1b[1;5"),
        ("\x1b[1;5Ax", ["x"], ""),
        ("\x1bx", ["escape", "x"], ""),
        ("\x00\x01ü租", ["ü", "租"], ""),
        ("\x1b[200~", [], ""),
    ],
)  # fmt: skip
def test_keys_of_a_terminal(text: str, keys: list[str], rest: str) -> None:
    assert split_keys(text) == (keys, rest)
