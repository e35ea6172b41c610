"""`ratectl validate --watch`: check policies again whenever their files change."""

from __future__ import annotations

import os
import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING, Final, NoReturn

from ratectl.errors import BundleError, NotFound, StoreError, UsageError
from ratectl.policy.loading.files import STDIN, find_sources
from ratectl.runtime.wording import printable
from ratectl_cli.errors import explain_error
from ratectl_cli.framework.text import plural
from ratectl_cli.render.failures import failure_blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ratectl_cli.framework.session import Session

__all__ = ["repeated_on_changes"]

_POLL_SECONDS: Final = 0.3
_SHARE: Final = 10
"""A look at the files of a large tree takes at most this part of the time."""

_FORMS: Final = ("full", "concise")
"""Formats of findings for people; the others are documents."""

_CLEAR: Final = "\x1b[H\x1b[2J\x1b[3J"


def repeated_on_changes(
    session: Session, paths: Sequence[str], form: str, check: Callable[[], object]
) -> NoReturn:
    """Check the policies at some paths now, and after each change of their files, until Ctrl-C.

    :raises UsageError: the paths cannot be watched, or the result is to be one document.
    """
    if STDIN in paths:
        raise UsageError("--watch looks at files: '-' is standard input")
    if not session.text or form not in _FORMS:
        raise UsageError("--watch prints one result after the other: only as --format full|concise")
    while True:
        seen = files, _ = _fingerprint(paths)
        if session.out.terminal:
            session.out.file.write(_CLEAR)
        try:
            check()
        except (StoreError, BundleError, NotFound) as error:  # the next change tries it again
            failure = explain_error(error, sys.argv)
            session.complain(failure_blocks(failure, session.err))
        watched = plural(files, "file") if files else ", ".join(map(printable, paths))
        session.say(f"{datetime.now():%H:%M:%S}: watching {watched}; Ctrl-C ends")  # noqa: DTZ005
        _wait_for_change(paths, seen)


def _wait_for_change(paths: Sequence[str], seen: object) -> None:
    pause = _POLL_SECONDS
    while True:
        time.sleep(pause)
        started = time.monotonic()
        if _fingerprint(paths) != seen:
            return
        pause = max(_POLL_SECONDS, _SHARE * (time.monotonic() - started))


def _fingerprint(paths: Sequence[str]) -> tuple[int, dict[str, object]]:
    """Return the number of files, and values that differ when files come, go or change, by file."""
    sources = find_sources(paths, None)
    found: dict[str, object] = {
        name: None if place is None else _state(place.path) for name, place in sources.paths.items()
    }
    missing = {finding.span.file: finding.message for finding in sources.diagnostics}
    return len(found), found | missing


def _state(path: str) -> object:
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError as error:
        return error.errno
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino
