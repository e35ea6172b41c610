"""Access logs of Apache and nginx, in the *common* and *combined* formats, plain or gzipped.

A line that cannot be read is counted and skipped. A request that is not HTTP (``"-"``, a TLS
greeting on the plain port) lacks ``method`` and ``path``. More fields at the end of a line are
ignored.

Requests come in the order of the lines: ``ratectl.traffic.ordering`` sorts them by time.
"""

from __future__ import annotations

import gzip
import re
import zlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from ratectl.traffic.request import MONTHS, NS, Request, route_of

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

__all__ = ["AccessLog", "LogReport", "parse_line"]

_BLOCK: Final = 1 << 18
_MAX_LINE: Final = 1 << 16
_EXAMPLES: Final = 5
_QUOTED: Final = r'"([^"\\]*(?:\\.[^"\\]*)*)"'

# client ident user [time] "request" status size, then "referrer" "agent", then any more
_LINE = re.compile(
    rf"(\S+) \S+ [^\[]*\[(\d\d/[A-Z][a-z]{{2}}/\d{{4}}:\d\d:\d\d):(\d\d) ([+-]\d{{4}})\] "
    rf"{_QUOTED} (\d{{3}}) (\d{{1,18}}|-)(?: {_QUOTED} {_QUOTED}(?: .*)?|(?: [^\"].*)?)\r?",
    re.ASCII | re.DOTALL,
)
_ASKED = re.compile(r"([A-Za-z][A-Za-z_-]{0,31}) (\S+)(?: HTTP/\d(?:\.\d)?)?", re.ASCII)
_ESCAPE = re.compile(r"((?:\\x[0-9A-Fa-f]{2})+)|\\(.)", re.DOTALL)
_CONTROLS: Final = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "v": "\v", "f": "\f"}


@dataclass(slots=True)
class LogReport:
    """Counts and problems of reading a log, up to now."""

    lines: int = 0
    malformed: int = 0
    examples: list[tuple[int, str]] = field(default_factory=list)
    """The first few malformed lines: number and (shortened) text."""
    damaged: str | None = None
    """Reason why reading ended early: a truncated or corrupt gzip file."""

    def reject(self, text: str) -> None:
        self.malformed += 1
        if len(self.examples) < _EXAMPLES:
            self.examples.append((self.lines, text[:200]))


class AccessLog:
    """Requests of one log file; each iteration starts at the beginning of the file.

    ``report`` is about the latest iteration, and complete when that has ended.

    :raises OSError: the file cannot be opened or read (on iteration).
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.report = LogReport()

    def __iter__(self) -> Iterator[Request]:
        report = self.report = LogReport()
        with _open(self.path) as file:
            for line in _lines(file, report):
                if not line or line.isspace():
                    continue
                report.lines += 1
                request = parse_line(line)
                if request is None:
                    report.reject(line)
                else:
                    yield request


def parse_line(line: str) -> Request | None:
    """Return the request of one line without its line break; None if it is malformed."""
    match = _LINE.fullmatch(line) if len(line) <= _MAX_LINE else None
    if match is None:
        return None
    client, minute, second, zone, asked, status, size, _, agent = match.groups()
    try:
        at = _minute_ns(minute, zone) + int(second) * NS
    except ValueError:
        return None
    if second > "60":  # 60 is a leap second
        return None
    attributes = {"client": client, "status": status}
    request = _ASKED.fullmatch(asked if "\\" not in asked else _unescape(asked))
    if request is not None:
        path = _path(request[2])
        attributes["method"] = request[1]
        attributes["path"] = path
        attributes["route"] = route_of(path)
    if agent and agent != "-":
        attributes["agent"] = agent if "\\" not in agent else _unescape(agent)
    return Request(at, attributes, 0 if size == "-" else int(size))


@lru_cache(maxsize=4096)
def _minute_ns(minute: str, zone: str) -> int:
    """Return the start of a minute like ``17/May/2015:10:05``, cached: many lines share one.

    :raises ValueError: no such date, time or zone.
    """
    day, month, rest = minute.split("/")
    year, hour, minutes = rest.split(":")
    offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[3:]))
    if int(zone[3:]) > 59:
        raise ValueError("an hour has 60 minutes")
    at = datetime(
        int(year), MONTHS.index(month) + 1, int(day), int(hour), int(minutes),
        tzinfo=timezone(-offset if zone[0] == "-" else offset),
    )  # fmt: skip
    since = at - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * NS


def _path(target: str) -> str:
    """Return the path of the target of a request, without a query or a host."""
    path = target.partition("?")[0].partition("#")[0]
    if "://" in path:
        path = "/" + path.partition("://")[2].partition("/")[2]
    return path or "/"


def _unescape(text: str) -> str:
    return _ESCAPE.sub(_unescaped, text)


def _unescaped(match: re.Match[str]) -> str:
    if match[1]:
        return bytes.fromhex(match[1].replace("\\x", "")).decode("utf-8", "replace")
    return _CONTROLS.get(match[2], match[2])


def _open(path: Path) -> BinaryIO:
    """Open a log; gzip is recognised by its first bytes, not by the file name."""
    file = path.open("rb")
    try:
        magic = file.read(2)
        file.seek(0)
    except OSError:
        file.close()
        raise
    if magic != b"\x1f\x8b":
        return file
    file.close()
    return cast("BinaryIO", gzip.open(path, "rb"))


def _lines(file: BinaryIO, report: LogReport) -> Iterator[str]:
    """Yield decoded lines; only the start of a line that is too long is kept."""
    rest = b""
    while True:
        block = _read(file, report)
        if not block:
            break
        *whole, rest = (rest + block).split(b"\n")
        for line in whole:
            yield line.decode("utf-8", "replace")
        if len(rest) > _MAX_LINE:
            rest = rest[: _MAX_LINE + 1]
    if rest:
        yield rest.decode("utf-8", "replace")


def _read(file: BinaryIO, report: LogReport) -> bytes:
    try:
        return file.read(_BLOCK)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        report.damaged = str(error) or type(error).__name__
        return b""
