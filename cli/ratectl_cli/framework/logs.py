"""Logs of the library on standard error."""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import TYPE_CHECKING

from ratectl.runtime.wording import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratectl_cli.framework.options import Options

__all__ = ["level_of", "logged", "logging_to_stderr"]


class _Safe(logging.Formatter):
    """Formatter that makes each record one safe line: records may quote untrusted text."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        lines = text.split("\n") if record.exc_info else [text]
        return "\n".join(printable(line) for line in lines)


def level_of(options: Options) -> int:
    """Return the level of a command that runs until it is stopped, and logs what it does."""
    if options.verbose:
        return logging.DEBUG
    return logging.WARNING if options.quiet else logging.INFO


@contextlib.contextmanager
def logging_to_stderr(level: int) -> Iterator[logging.Logger]:
    """Log to standard error while the body runs."""
    log = logging.getLogger("ratectl")
    if any(isinstance(handler.formatter, _Safe) for handler in log.handlers):
        yield log  # it is logged already
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Safe("%(asctime)s %(levelname)-7s %(message)s"))
    before = log.level
    log.setLevel(level)
    log.addHandler(handler)
    try:
        yield log
    finally:
        log.removeHandler(handler)
        log.setLevel(before)


@contextlib.contextmanager
def logged(options: Options) -> Iterator[None]:
    """Log while a command runs, if ``-vv`` is given."""
    if options.verbose < 2:
        # Without a handler, Python would print warnings, and these may quote untrusted text.
        log = logging.getLogger("ratectl")
        silent = logging.NullHandler()
        log.addHandler(silent)
        try:
            yield
        finally:
            log.removeHandler(silent)
        return
    with logging_to_stderr(logging.DEBUG):
        yield
