"""Lines of live views at many sizes, without a terminal."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from cli_support import NOW, MemoryStream
from live_support import detailed
from rich.cells import cell_len
from test_live_state import REPORT, press, usage

from fleet.reports import agent
from ratectl.health.usage_report import UsageRow
from ratectl_cli.framework.screen import Size
from ratectl_cli.framework.terminal import Stream
from ratectl_cli.prompts.live.reader import Reading
from ratectl_cli.prompts.live.state import State
from ratectl_cli.prompts.live.view import drawn

if TYPE_CHECKING:
    from ratectl.health.usage_report import UsageReport

EVIL = "evil\x1b[2J\u202ekey\n"
MANY = usage(
    *(
        detailed(
            f"/team-{at // 10:02}/{'service' * (at % 3 + 1)}", f"limit-{at:04}", peak=at / 1000,
            busiest=[(f"tenant-{at}", at, at % 7, None), (EVIL, 3, 0, 0.5)],
        )
        for at in range(1000)
    )
)  # fmt: skip


def view(
    state: State,
    report: UsageReport = REPORT,
    *,
    width: int = 80,
    height: int = 24,
    encoding: str = "utf-8",
    problem: str | None = None,
    warnings: tuple[str, ...] = (),
    colour: str = "never",
) -> list[str]:
    out = MemoryStream(tty=True, encoding=encoding)
    stream = replace(Stream.of(out, colour), columns=width)
    reading = Reading(report, state.scope, warnings, problem)
    return drawn(state, reading, stream, Size(width, height), NOW).lines


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120, 200])
@pytest.mark.parametrize("shows", ["limits", "keys"])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_every_view_fits(width: int, shows: str, encoding: str) -> None:
    state = press(State(), *"k" * (shows == "keys"))
    for keys in ((), ("pagedown",), ("end",), ("s",), ("h",), ("/", *"cart")):
        for height in (1, 2, 3, 4, 5, 8, 12, 24, 60):
            assert_fits(press(state, *keys), REPORT, width, height, encoding)


@pytest.mark.parametrize("shows", ["limits", "keys"])
def test_a_view_of_a_thousand_limits_fits(shows: str) -> None:
    state = press(State(), *"k" * (shows == "keys"))
    for keys in (("end",), ("pagedown", "s"), ("/", *"-099")):
        for width, height in ((60, 5), (80, 24), (200, 60)):
            assert_fits(press(state, *keys, report=MANY), MANY, width, height, "utf-8")


def assert_fits(state: State, report: UsageReport, width: int, height: int, encoding: str) -> None:
    lines = view(state, report, width=width, height=height, encoding=encoding)
    assert len(lines) == height
    assert [line for line in lines if cell_len(line) > width] == []
    assert all(line.isprintable() for line in lines)
    assert encoding == "utf-8" or all(line.isascii() for line in lines)
    if height > 3 and not state.help:
        assert sum(line.startswith("> ") for line in lines) == 1, "the selected row"


def test_rows_are_below_their_scope_also_where_its_first_row_is_not_shown() -> None:
    state = press(State(), *["down"] * 35, report=MANY)
    lines = view(state, MANY, height=12)
    at = next(number for number, line in enumerate(lines) if line.startswith("> "))
    scopes = [line.strip() for line in lines[:at] if line.startswith("  /")]
    (chosen,) = (row for row in MANY.rows if row.name == lines[at].split()[1])
    assert scopes[-1] == chosen.scope
    first = next(number for number, line in enumerate(lines) if "limit-" in line)
    assert lines[first - 1].startswith("  /team-")


def test_the_rows_that_are_shown_are_counted() -> None:
    lines = view(press(State(), "end", report=MANY), MANY, height=20)
    status = lines[-2]
    assert status.endswith("of 1000 limits · sort scope")
    first, last = map(int, status.split(" ")[0].split("-"))
    assert last == 1000
    assert last - first + 1 == sum("limit-" in line for line in lines)
    assert lines[-1].startswith("q quit")


def test_a_thousand_limits_are_drawn_fast() -> None:
    view(State(), MANY)
    started = time.process_time()
    view(press(State(), "end", report=MANY), MANY)
    assert time.process_time() - started < 2


def test_columns_are_as_wide_as_all_rows_need() -> None:
    top, bottom = (view(press(State(), key, report=MANY), MANY) for key in ("home", "end"))
    assert [line for line in top if "LIMIT" in line] == [line for line in bottom if "LIMIT" in line]


def test_problems_are_shown_and_the_age_grows() -> None:
    lines = view(State(), problem="it is\nlocked", warnings=("one", "two"))
    assert "data 0 s old" in lines[0]
    assert lines[1] == r"the store cannot be read: it is\nlocked"
    assert lines[2] == "warning: one (and 1 more)"
    old = replace(REPORT, totals=replace(REPORT.totals, oldest="2026-11-23T11:59:01Z"))
    assert "data 59 s old" in view(State(), old)[0]
    for oldest, age in ((None, "no data"), ("yesterday", "data of unknown age")):
        unknown = replace(REPORT, totals=replace(REPORT.totals, oldest=oldest))
        assert view(State(), unknown)[0].endswith(f" agents · {age}")


def test_agents_without_a_report_are_named() -> None:
    agents = [agent(f"edge-{at}") for at in range(5)]
    report = replace(REPORT, agents=agents, silent=tuple(each.id for each in agents[1:]))
    lines = view(State(), report)
    assert "1/5 agents" in lines[0]
    assert lines[1] == "no report from edge-1, edge-2, edge-3 and 1 more"


def test_what_an_empty_view_lacks() -> None:
    empty = usage()
    assert "no agent reports a limit here" in view(State(), empty)[1]
    assert "no agent reports a key of these limits" in view(State(shows="keys"), empty)[1]
    limit = UsageRow("/shop", "spike", False, None, None, ("gold@/shop",))
    of_one = view(State(shows="keys", scope="/shop", limit=limit), empty)
    assert "no agent reports a key of spike [gold]" in of_one
    assert "no row matches the filter" in view(State(filter="xyz"))[1]
    assert "no limit was used 95% or more" in view(State(near=0.95))[1]


def test_the_filter_and_near_are_named() -> None:
    lines = view(State(filter="shop", near=0.5))
    assert lines[-2] == "1-2 of 2 limits · sort scope · near 50% · filter shop"
    assert view(press(State(), "/", "a"))[-1] == "filter: a_"
    keys = press(State(scope="/shop", sort="used"), "home", "enter")
    assert view(keys)[-2] == "1-2 of 2 keys of spike · sort requests"


def test_another_scope_is_opened() -> None:
    out = MemoryStream(tty=True)
    stream = replace(Stream.of(out, "never"), columns=80)
    lines = drawn(State(scope="/shop"), Reading(REPORT, None), stream, Size(80, 24), NOW).lines
    assert lines[1] == "opening /shop …"


def test_colours_only_where_they_are_wanted() -> None:
    assert any("\x1b[" in line for line in view(State(), colour="always"))


def test_help_names_the_keys() -> None:
    text = "\n".join(view(press(State(), "h")))
    for word in ("Enter", "Esc", "sort", "filter", "quit"):
        assert word in text
