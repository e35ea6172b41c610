"""Show a live view until the user quits."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ratectl.errors import UsageError
from ratectl_cli.framework import clock
from ratectl_cli.framework.keyboard import keyboard
from ratectl_cli.framework.screen import full_screen
from ratectl_cli.framework.signals import ended_by_signals
from ratectl_cli.prompts.live.reader import Reader, read
from ratectl_cli.prompts.live.state import SORTS, State, after, other, rows_of
from ratectl_cli.prompts.live.view import drawn

if TYPE_CHECKING:
    from ratectl_cli.framework.keyboard import Keyboard
    from ratectl_cli.framework.screen import Screen
    from ratectl_cli.framework.session import Session
    from ratectl_cli.prompts.live.state import Shows
    from ratectl_cli.prompts.usage import Wanted

__all__ = ["watch_usage"]

_TURN: Final = 0.1
"""Seconds of one wait for a key: then the size of the terminal and the store are looked at."""

_REDRAW: Final = 1.0
"""Seconds after which the view is drawn again: the age of the data grows."""


def watch_usage(session: Session, wanted: Wanted, shows: Shows) -> int:
    """Show the usage live; return the exit code.

    :raises UsageError: there is no terminal.
    """
    _check_terminal(session, shows)
    state = State(
        home=shows, shows=shows, scope=wanted.scope, sort=wanted.sort,
        other_sort=SORTS[other(shows)][0], near=wanted.near, minutes=wanted.minutes,
    )  # fmt: skip
    with session.store() as store:
        with session.busy("reading usage"):
            first = read(store, wanted.scope, wanted.minutes)
        with (
            ended_by_signals(),
            Reader(store, first) as reader,
            keyboard(sys.stdin) as keys,
            full_screen(session.out) as screen,
        ):
            while not (state.done or keys.closed or screen.closed):
                state = _turn(session, state, reader, keys, screen)
    return 0


def _turn(session: Session, state: State, reader: Reader, keys: Keyboard, screen: Screen) -> State:
    """Draw the view once, and wait until something changes it."""
    reader.want(state.scope)
    reading, size = reader.reading, screen.size
    view = drawn(state, reading, session.out, size, clock.now())
    screen.draw(view.lines, size)
    state = replace(state, page=view.page)
    until = time.monotonic() + _REDRAW
    while time.monotonic() < until and reader.reading is reading and screen.size == size:
        pressed = keys.keys(_TURN)
        for key in pressed:
            state = after(state, key, rows_of(state, reading.report))
        if pressed or keys.closed:
            break
    return state


def _check_terminal(session: Session, shows: Shows) -> None:
    if not session.text:
        raise UsageError("--watch shows a live view: leave out -o")
    if not (session.out.terminal and sys.stdin.isatty()):
        error = UsageError("--watch needs a terminal")
        what = "keys" if shows == "keys" else "usage"
        error.add_note(f"leave out --watch to print the {what} once")
        raise error
