"""Tables, bars and spinners that Rich draws on a terminal: imported only where one is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table as RichTable
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.status import Status

    from ratectl_cli.framework.pieces import Column, Styled
    from ratectl_cli.framework.terminal import Stream

__all__ = ["Bar", "draw_table", "start_spinner"]


def draw_table(
    stream: Stream, columns: Sequence[Column], rows: Iterable[Sequence[Sequence[Styled]]]
) -> None:
    """Draw a table whose cells are safe pieces of text."""
    console = Console(
        file=stream.file,
        force_terminal=True,
        no_color=not stream.colour,
        color_system="standard" if stream.colour else None,
        highlight=False,
        width=stream.width,
    )
    drawn = RichTable(
        box=box.SIMPLE_HEAD if stream.symbols else box.ASCII2,
        header_style="bold",
        pad_edge=False,
        show_edge=False,
    )
    for column in columns:
        drawn.add_column(
            column.title,
            justify="right" if column.right else "left",
            overflow="fold",
            no_wrap=not column.wraps,
        )
    for row in rows:
        drawn.add_row(*(Text.assemble(*cell) for cell in row))
    console.print(drawn)


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
