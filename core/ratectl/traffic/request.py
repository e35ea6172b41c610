"""Request of web traffic, and its form as a line of an access log."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import TextIO

__all__ = ["NS", "Request", "format_line", "route_of", "write_log"]

NS: Final = 1_000_000_000

MONTHS: Final = (
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
)  # fmt: skip


class Request(NamedTuple):
    """Request with the attributes that policies use.

    ``attributes`` may have ``client`` (address or host name), ``method``, ``path`` (without its
    query), ``route`` (see ``route_of``), ``status`` and ``agent``. A value that was not
    recorded is absent, never empty or ``-``.
    """

    at_ns: int
    """Time of the request, in nanoseconds since 1970 (UTC)."""
    attributes: Mapping[str, str]
    size: int = 0
    """Size of the body of the answer, in bytes."""


def route_of(path: str) -> str:
    """Return the first segment of a path: ``/files`` of ``/files/a/b.zip``, ``/`` of ``/``."""
    end = path.find("/", 1)
    return path if end < 0 else path[:end]


def format_line(request: Request) -> str:
    """Return the request as a line of Apache's *combined* format, to the second, in UTC."""
    attributes = request.attributes
    at = datetime.fromtimestamp(request.at_ns // NS, UTC)
    stamp = f"{at.day:02d}/{MONTHS[at.month - 1]}/{at.year:04d}:{at:%H:%M:%S} +0000"
    method, path = attributes.get("method"), attributes.get("path")
    asked = "-" if method is None or path is None else f"{method} {path} HTTP/1.1"
    agent = attributes.get("agent", "-")
    return (
        f'{attributes.get("client", "-")} - - [{stamp}] "{_escape(asked)}" '
        f"{attributes.get('status', '-')} "
        f'{request.size} "-" "{_escape(agent)}"'
    )


def write_log(requests: Iterable[Request], file: TextIO) -> int:
    """Write requests as lines of the combined format; return their number."""
    count = 0
    for request in requests:
        file.write(format_line(request) + "\n")
        count += 1
    return count


def _escape(text: str) -> str:
    """Escape quotes, backslashes and control characters as Apache does."""
    if text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return "".join(_escaped(letter) for letter in text)


def _escaped(letter: str) -> str:
    if letter in '"\\':
        return "\\" + letter
    if letter.isprintable():
        return letter
    return "".join(f"\\x{byte:02x}" for byte in letter.encode("utf-8", "replace"))
