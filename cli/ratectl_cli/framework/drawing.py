"""Bars and spinners that Rich draws on a terminal: imported only where one is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from rich.status import Status

    from ratectl_cli.framework.terminal import Stream

__all__ = ["Bar", "start_spinner"]


class Bar:
    """Progress bar of work whose size is known."""

    def __init__(self, stream: Stream, doing: str, total: int | None, done: int) -> None:
        console = Console(
            file=stream.file,
            force_terminal=True,
            no_color=not stream.colour,
            width=stream.width,
        )
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task: TaskID = self._progress.add_task(escape(doing), total=total, completed=done)
        self._progress.start()

    def update(self, done: int) -> None:
        """Show how much is done."""
        self._progress.update(self._task, completed=done)

    def stop(self) -> None:
        """Remove the bar."""
        self._progress.stop()


def start_spinner(stream: Stream, text: str) -> Status:
    """Show a spinner; the caller stops it."""
    console = Console(file=stream.file, force_terminal=True, no_color=not stream.colour)
    status = console.status(text)
    status.start()
    return status
