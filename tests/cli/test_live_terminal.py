"""``--watch`` on a real terminal: keys, sizes, a store that goes away, every way to end."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cli_support import MemoryStream, report_agent
from live_support import LiveTerminal, detailed

from ratectl.stores import open_store
from ratectl_cli.framework.keyboard import Keyboard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cli_support import Cli

    Live = Callable[..., LiveTerminal]

EVIL = "evil\x1b]0;owned\x07key"
BROKEN = """
import ratectl_cli.prompts.live.{module} as module
def broken(*_, **__): raise RuntimeError("a bug")
module.{name} = broken
from ratectl_cli.app import main
main()
"""

OWN_TERMINAL = """
import fcntl, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from ratectl_cli.app import main
main()
"""
"""The command line, which gets the signals of its terminal."""


@pytest.fixture(autouse=True)
def reported(published: str) -> str:
    """Usage of two agents, one of which is silent."""
    report(published)
    report_agent(published, id="edge-2")
    with open_store(published) as store:
        store.delete("usage/edge-2")
    return published


@pytest.fixture
def live() -> Iterator[Live]:
    """Starts a view; every process ends with its test."""
    with contextlib.ExitStack() as running:

        def start(*words: str, **options: Any) -> LiveTerminal:
            terminal = LiveTerminal(*words, **options)
            running.callback(terminal.kill)
            return terminal

        yield start


def report(url: str, **changes: Any) -> None:
    limits = [
        detailed("/", "spike", peak=0.2, refused=0, top_refused=[]),
        detailed("/shop", "spike", peak=0.5, **changes),
        detailed("/shop", "steady", peak=0.93, busiest=[(EVIL, 9999, 0, 0.5)]),
        detailed("/shop/cart", "probe", peak=1.0, recent_allowed=60_000),
    ]
    report_agent(url, limits=limits, usage_reported=datetime.now(UTC).isoformat())


def selected(lines: list[str]) -> str:
    return next((line for line in lines if line.startswith("> ")), "")


def test_a_view_of_all_limits(live: Live) -> None:
    terminal = live("usage", "--watch")
    lines = terminal.until("q quit")
    assert "1/2 agents" in lines[0]
    assert lines[1] == "no report from edge-2"
    assert selected(lines).split()[1] == "spike"
    assert len(lines) == 24
    assert lines[-2] == "1-4 of 4 limits · sort scope"
    assert terminal.end("q") == 0


def test_new_usage_is_shown(live: Live, reported: str) -> None:
    terminal = live("usage", "/shop", "--watch")
    terminal.until("600")
    report(reported, refused=4321)
    terminal.until("4321")
    assert terminal.end("q") == 0


def test_the_age_grows_without_news(live: Live) -> None:
    terminal = live("usage", "--watch")
    ages = re.compile(r"data (\d+) s old")
    (first,) = ages.findall(terminal.until("sort scope")[0])
    terminal.until(lambda lines: int(ages.findall(lines[0])[0]) > int(first) + 1)
    assert terminal.end("q") == 0


def test_sort_filter_open_and_close(live: Live) -> None:
    terminal = live("usage", "--watch")
    terminal.until("sort scope")
    terminal.type("s")
    lines = terminal.until("sort used")
    assert "probe" in selected(lines)
    terminal.type("/steady")
    terminal.until("filter: steady_")
    terminal.type("\r")
    lines = terminal.until("1-1 of 1 limits · sort used · filter steady")
    terminal.type("\r")
    lines = terminal.until(lambda lines: lines and lines[0].startswith("/shop · "))
    terminal.until("sort used")
    terminal.type("\x1b")
    terminal.until(lambda lines: lines[0].startswith("/ · "))
    assert terminal.end("q") == 0


def test_arrows_and_keys_of_a_limit(live: Live) -> None:
    terminal = live("usage", "/shop", "--watch")
    terminal.until("sort scope")
    terminal.type("\x1b[B")
    lines = terminal.until(lambda lines: selected(lines).split()[1:2] == ["steady"])
    terminal.type("\x1bOA\x1b[B\r")
    lines = terminal.until("1-3 of 3 keys of steady · sort requests")
    assert r"evil\x1b]0;owned" in selected(lines)
    assert "\x1b]0;" not in terminal.seen
    terminal.type("\x7f")
    terminal.until("limits · sort scope")
    assert terminal.end("q") == 0


def test_help(live: Live) -> None:
    terminal = live("top", "--watch")
    terminal.until("sort requests")
    terminal.type("h")
    terminal.until("type a part of a scope, limit or key")
    terminal.type("h")
    terminal.until("sort requests")
    assert terminal.end("q") == 0


def test_other_sizes(live: Live) -> None:
    terminal = live("usage", "--watch", width=120, height=30)
    assert any("RULE" in line for line in terminal.until("sort scope"))
    terminal.resize(60, 12)
    lines = terminal.until(lambda lines: len(lines) == 12 and "q quit" in lines[-1])
    assert max(map(len, lines)) <= 60
    assert any(line.strip().startswith("hidden: ") for line in lines)
    terminal.resize(200, 6)
    lines = terminal.until(lambda lines: len(lines) == 6 and "q quit" in lines[-1])
    assert "of 4 limits" in lines[-2]
    assert selected(lines)
    assert terminal.end("q") == 0


def test_a_store_that_goes_away_and_comes_back(live: Live, reported: str) -> None:
    path = Path(reported.removeprefix("sqlite:///"))
    terminal = live("usage", "--watch")
    terminal.until("sort scope")
    away = path.with_suffix(".away")
    path.rename(away)
    lines = terminal.until("the store cannot be read: ")
    assert selected(lines), "the last usage is still shown"
    terminal.type("s")
    terminal.until("sort used")
    away.rename(path)
    terminal.until(lambda lines: not any("cannot be read" in line for line in lines))
    assert terminal.end("q") == 0


def test_warnings_are_in_the_view(live: Live, reported: str) -> None:
    with open_store(reported) as store:
        store.put("usage/ghost", b"{}")
    terminal = live("usage", "--watch")
    terminal.until("warning: usage/ghost is left out")
    assert terminal.end("q") == 0


# Ends -------------------------------------------------------------------------------------------


def test_ctrl_c_ends_with_130(live: Live) -> None:
    terminal = live("usage", "--watch", program=[sys.executable, "-c", OWN_TERMINAL])
    terminal.until("sort scope")
    assert terminal.end("\x03") == 130
    assert "interrupted" in terminal.seen


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_end_it(live: Live, number: signal.Signals) -> None:
    terminal = live("usage", "--watch")
    terminal.until("sort scope")
    terminal.process.send_signal(number)
    assert terminal.end() == 128 + number


def test_keys_that_would_stop_the_process_do_nothing(live: Live) -> None:
    terminal = live("usage", "--watch")
    terminal.until("sort scope")
    terminal.type("\x1a\x1c\x04s")
    terminal.until("sort used")
    assert terminal.end("q") == 0


def test_a_time_limit(live: Live) -> None:
    terminal = live("usage", "--watch", "--timeout", "3")
    terminal.until("sort scope")
    assert terminal.end() == 124


@pytest.mark.parametrize(
    ("module", "name"), [("loop", "drawn"), ("reader", "explain_error"), ("state", "_sort")]
)
def test_a_bug_restores_the_terminal(live: Live, module: str, name: str, reported: str) -> None:
    code = BROKEN.format(module=module, name=name)
    if module == "state":
        code = code.replace("module._sort = broken", 'module._CHANGES["s"] = broken')
    terminal = live("usage", "--watch", program=[sys.executable, "-c", code])
    if module != "loop":
        terminal.until("sort scope")
    if module == "reader":
        path = Path(reported.removeprefix("sqlite:///"))
        path.rename(path.with_suffix(".away"))
    assert terminal.end("s" if module == "state" else "") == 70
    assert "a bug" in terminal.seen or "internal error" in terminal.seen


def test_a_terminal_that_is_closed(live: Live) -> None:
    terminal = live("usage", "--watch")
    terminal.until("sort scope")
    os.close(terminal.screen)
    # Told by the signal, or by what it cannot write any more: whichever comes first.
    assert terminal.process.wait(10) in (0, 69, 128 + signal.SIGHUP)


def test_a_closed_keyboard() -> None:
    here, there = os.pipe()
    os.close(there)
    keys = Keyboard(here)
    assert keys.keys(1.0) == []
    assert keys.closed
    os.close(here)


def test_an_escape_alone_and_a_sequence_in_two_parts() -> None:
    here, there = os.pipe()
    keys = Keyboard(here)
    os.write(there, b"\x1b")
    assert keys.keys(1.0) == []
    assert keys.keys(1.0) == ["escape"]
    os.write(there, b"\x1b[")
    assert keys.keys(1.0) == []
    os.write(there, b"A\xc3")
    assert keys.keys(1.0) == ["up"]
    os.write(there, b"\xa9")
    assert keys.keys(1.0) == ["é"]
    os.close(here)
    os.close(there)


# Without a terminal -----------------------------------------------------------------------------


@pytest.mark.parametrize(("command", "what"), [("usage", "usage"), ("top", "keys")])
def test_without_a_terminal_it_is_a_usage_error(cli: Cli, command: str, what: str) -> None:
    run = cli(command, "--watch")
    assert (run.code, run.out) == (64, "")
    assert run.err == (
        f"error: --watch needs a terminal\n  hint: leave out --watch to print the {what} once\n"
    )
    run = cli(command, "--watch", "-o", "json", tty=True)
    assert run.code == 64
    assert "--watch shows a live view: leave out -o" in run.document["message"]


def test_output_to_a_pipe_or_input_from_one(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", MemoryStream(b""))
    monkeypatch.setenv("TERM", "dumb")
    assert cli("usage", "--watch", tty=True).code == 64


@pytest.mark.parametrize("words", [("--fail-near",), ("--top", "3")])
def test_options_that_need_an_end(cli: Cli, words: tuple[str, ...]) -> None:
    run = cli("usage", "--watch", *words, tty=True)
    assert run.code == 64
    assert "--watch" in run.err


def test_a_live_view_of_keys_shows_all_of_them(cli: Cli) -> None:
    run = cli("top", "--watch", "-n", "5", tty=True)
    assert run.code == 64
    assert "--watch shows all keys: leave out -n" in run.err


def test_an_unreachable_store_is_an_error_before_the_view(live: Live) -> None:
    terminal = live("usage", "--watch", "--store", "etcd://127.0.0.1:1/test")
    assert terminal.end() == 69
    assert "\x1b[?1049h" not in terminal.seen
