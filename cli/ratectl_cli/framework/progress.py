"""Progress bar on standard error for long work of known length."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from ratectl.runtime.wording import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ratectl_cli.framework.drawing import Bar
    from ratectl_cli.framework.session import Session
    from ratectl_cli.framework.terminal import Stream

__all__ = ["progress_bar"]

_PATIENCE: Final = 1.0
"""Seconds before the bar is shown."""


@contextmanager
def progress_bar(
    session: Session, doing: str, total: int | None
) -> Iterator[Callable[[int], None]]:
    """Yield a function that takes the size of each step; shows nothing without a terminal."""
    if not session.err.terminal or session.options.quiet:
        yield lambda _step: None
        return
    bar = _Bar(session.err, printable(doing), total)
    try:
        yield bar.step
    finally:
        bar.stop()


class _Bar:
    """A bar that is drawn once the work has taken a second."""

    def __init__(self, stream: Stream, doing: str, total: int | None) -> None:
        self._stream = stream
        self._doing = doing
        self._total = total
        self._done = 0
        self._shown_from = time.monotonic() + _PATIENCE
        self._bar: Bar | None = None

    def step(self, size: int) -> None:
        self._done += size
        if self._bar is not None:
            self._bar.update(self._done)
        elif time.monotonic() >= self._shown_from:
            from ratectl_cli.framework.drawing import Bar

            self._bar = Bar(self._stream, self._doing, self._total, self._done)

    def stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
