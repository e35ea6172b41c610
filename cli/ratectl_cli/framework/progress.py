"""A bar on standard error for what is long and of known length."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from ratectl_cli.framework.terminal import safe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ratectl_cli.framework.session import Session
    from ratectl_cli.framework.terminal import Stream

__all__ = ["progress_bar"]

_PATIENCE: Final = 1.0
"""Seconds before it is shown."""


@contextmanager
def progress_bar(
    session: Session, doing: str, total: int | None
) -> Iterator[Callable[[int], None]]:
    """Gives a function to be told of each step's size; shows nothing where nobody looks."""
    if not session.err.terminal or session.options.quiet:
        yield lambda _step: None
        return
    bar = _Bar(session.err, safe(doing), total)
    try:
        yield bar.step
    finally:
        bar.stop()


class _Bar:
    def __init__(self, stream: Stream, doing: str, total: int | None) -> None:
        self._stream = stream
        self._doing = doing
        self._total = total
        self._done = 0
        self._shown_from = time.monotonic() + _PATIENCE
        self._progress: Any = None
        self._task: Any = None

    def step(self, size: int) -> None:
        self._done += size
        if self._progress is not None:
            self._progress.update(self._task, completed=self._done)
        elif time.monotonic() >= self._shown_from:
            self._show()

    def _show(self) -> None:
        from rich.console import Console
        from rich.markup import escape
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(
            file=self._stream.file,
            force_terminal=True,
            no_color=not self._stream.colour,
            width=self._stream.width,
        )
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task = self._progress.add_task(
            escape(self._doing), total=self._total, completed=self._done
        )
        self._progress.start()

    def stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()
