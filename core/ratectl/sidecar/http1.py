"""Requests of HTTP/1, without a socket: bytes that arrive to bytes to send.

llhttp (through httptools) parses; it refuses what two parsers could read in two ways. The bounds
and the order of answers are here. Sources: RFC 9110, RFC 9112.
"""

from __future__ import annotations

import time
from collections import deque
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from ratectl.sidecar.http_head import MOST_FIELDS, Head, header_too_large, too_large
from ratectl.sidecar.replies import MOST_BYTES, MOST_HEADERS, Reply, Request, problem

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[[Request, "Answering"], None]

__all__ = ["Answering", "HttpConnection"]

_MOST_PIPELINED: Final = 16
"""Requests that may wait for the answer to the one before them."""
_MOST_UNSENT: Final = 1024 * 1024
"""Bytes of answers to requests that came at once, after which no more of them are looked at."""
_MOST_RAW: Final = MOST_HEADERS + 4 * MOST_BYTES
"""Bytes of a request with all that surrounds its chunks."""
_LONGEST_ARRIVAL: Final = 10.0
"""Seconds from the first byte of a request to its last."""
_LONGEST_CALL: Final = 90.0
_LONGEST_IDLE: Final = 120.0
"""Seconds between two requests: longer than Go's clients (90 s) keep an unused connection, so that
the client closes it and loses no request."""
_LONGEST_LINGER: Final = 2.0
"""Seconds in which a peer can read the last answer before the connection is closed."""
_LAST_MOMENT: Final = 0.5
"""Seconds in which idle peers may still ask when the server ends."""
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class Answering(NamedTuple):
    """A request that has arrived whole."""

    connection: HttpConnection

    @property
    def is_wanted(self) -> bool:
        """True if the peer still waits for the answer."""
        return not self.connection.is_over

    def __call__(self, reply: Reply) -> None:
        """Send the answer."""
        self.connection.answer(reply)


class _Enough(Exception):
    """The parser need not go on."""


class _Whole(NamedTuple):
    """A request that waits for its turn."""

    request: Request
    is_last: bool
    """True if the connection ends with its answer."""


class HttpConnection:
    """One connection of a server. Not for several threads."""

    def __init__(self, run: Run, *, is_local: bool = False) -> None:
        """Begin.

        :param run: answers a request, perhaps later.
        :param is_local: requests must name this machine (see ``Head.problem``).
        """
        self._run = run
        self._is_local = is_local
        self._parser = HttpRequestParser(self)
        self._head = Head()
        self._body = bytearray()
        self._keeps = False
        """True if the peer may ask again after the request that arrives."""
        self._raw = 0
        """Bytes of the request that arrives."""
        self._refused: Reply | None = None
        self._resumes = False
        """True while the parser reads the head that was written for it (see ``_resume``)."""
        self._reads = True
        """False if what arrives is not looked at: the last request is here."""
        self._waiting: deque[_Whole] = deque()
        self._answered: _Whole | None = None
        """The request that is being answered."""
        self._is_next = False
        self._out = bytearray()
        self._is_draining = False
        self._has_left = False
        """True if the peer sends no more."""
        self.is_mute = False
        """True if the last answer is written. The peer may still send: to close at once could
        take the answer from it."""
        self.ended = 0
        """Requests that were answered."""
        self.is_over = False
        """True if the connection should be closed, after the bytes are sent."""

    # What the server looks at -------------------------------------------------------------------

    @property
    def calls(self) -> int:
        """Requests that are open."""
        return len(self._waiting) + (self._answered is not None) + (self._raw > 0)

    @property
    def patience(self) -> float:
        """Seconds that the connection may stay as it is."""
        if self.is_mute:
            return _LONGEST_LINGER
        if self._answered is not None:
            return _LONGEST_CALL
        if self._raw:
            return _LONGEST_ARRIVAL
        return _LAST_MOMENT if self._is_draining else _LONGEST_IDLE

    @property
    def state(self) -> tuple[object, ...]:
        """Value that changes with every progress."""
        return (
            self.ended,
            self.is_mute,
            self._answered is not None,
            self._raw > 0,
            self._is_draining,
        )

    # Bytes --------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Take bytes that have arrived; answer the requests that are complete.

        The peer's bytes may be wrong in any way: then it gets an error, and the connection ends.
        """
        if not self._reads:
            return
        self._raw += len(data)
        self._parse(data)
        if self._reads and self._raw > (_MOST_RAW if self._head.is_whole else MOST_HEADERS):
            self._refuse(too_large() if self._head.is_whole else header_too_large())

    def _parse(self, data: bytes) -> None:
        while data and self._reads:
            try:
                self._parser.feed_data(data)
                return
            except HttpParserUpgrade as upgrade:  # HTTP/1 goes on: an upgrade is an offer
                data = data[upgrade.args[0] :]
                self._resume()
            except HttpParserError as error:
                told = f"these bytes are no request of HTTP/1: {error}"
                self._refuse(self._refused or problem(HTTPStatus.BAD_REQUEST, told))

    def _resume(self) -> None:
        """Go on after the header of a request that offers another protocol.

        httptools takes what follows for that protocol. Java's clients offer HTTP/2 and send a body.
        """
        if not self._head.has_body or not self._head.is_whole:
            return
        self._parser = HttpRequestParser(self)
        self._resumes = True
        self._parser.feed_data(b"POST / HTTP/1.1\r\n" + self._head.framing() + b"\r\n\r\n")
        self._resumes = False

    def to_send(self) -> bytes:
        """Return the bytes to send."""
        data = bytes(self._out)
        self._out.clear()
        return data

    def end_of_input(self) -> bool:
        """Take note that the peer sends no more. Return True if answers are still to come."""
        self._reads = False
        self._raw = 0
        self._has_left = True
        if self._answered is None:
            self.is_over = True
        return self._answered is not None

    def drain(self) -> None:
        """Answer what was asked, and let the peer ask elsewhere afterwards."""
        self._is_draining = True

    # Calls of the parser ------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if not self._reads:
            raise _Enough
        if not self._resumes:
            self._head, self._body = Head(), bytearray()
            self._raw = self._raw or 1

    def on_url(self, url: bytes) -> None:
        if not self._resumes:
            self._head.url += url
            self._measure(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._resumes:
            return
        head = self._head
        head.fields += 1
        self._measure(len(name) + len(value) + 4)
        if not head.is_whole:  # otherwise it is a trailer, which means nothing here
            head.add(name, value)

    def _measure(self, size: int) -> None:
        head = self._head
        head.size += size
        if head.size > MOST_HEADERS or head.fields > MOST_FIELDS:
            self._stop(header_too_large())

    def on_headers_complete(self) -> None:
        if self._resumes:
            return
        self._head.is_whole = True
        version = self._parser.get_http_version()
        self._keeps = self._parser.should_keep_alive() and version == "1.1"
        refused = self._head.problem(version, is_local=self._is_local)
        if refused is not None:
            self._stop(refused)
        if self._head.expects and self._head.has_body and self._answered is None:
            self._out += _CONTINUE

    def on_body(self, data: bytes) -> None:
        self._body += data
        if len(self._body) > MOST_BYTES:
            self._stop(too_large())

    def on_message_complete(self) -> None:
        head = self._head
        if self._parser.should_upgrade() and head.has_body:
            return  # httptools ends it before its body: see `_resume`
        self._raw = 0
        method = self._parser.get_method()
        request = Request(
            method.decode(), head.path(), head.kind.decode("latin-1"), bytes(self._body)
        )
        full = len(self._waiting) >= _MOST_PIPELINED or len(self._out) > _MOST_UNSENT
        if full or method == b"CONNECT":
            self._keeps = False  # the peer sees that what it sent afterwards was not looked at
        self._reads = self._keeps
        self._waiting.append(_Whole(request, not self._keeps))
        self._next()

    def _stop(self, reply: Reply) -> None:
        """Stop the parser.

        :raises _Enough: always.
        """
        self._refused = reply
        raise _Enough

    # Answers ------------------------------------------------------------------------------------

    def _refuse(self, reply: Reply) -> None:
        """End the connection with an error, after the answers to the requests before it."""
        if not self._reads:
            return  # the last request is here, and this comes after it
        self._reads = False
        self._raw = 0
        self._waiting.append(_Whole(Request("", "", "", b"", reply), True))
        self._next()

    def _next(self) -> None:
        """Begin to answer what waits for its turn."""
        if self._is_next:
            return  # an answer was given at once, below
        self._is_next = True
        while self._waiting and self._answered is None and not self.is_over:
            self._answered = whole = self._waiting.popleft()
            if whole.request.refusal is not None:
                self.answer(whole.request.refusal)
            else:
                self._run(whole.request, Answering(self))
        self._is_next = False

    def answer(self, reply: Reply) -> None:
        """Answer the request whose turn it is."""
        whole = self._answered
        if whole is None or self.is_over:
            return
        ends = whole.is_last or (not self._reads and not self._waiting)
        ends = ends or (self._is_draining and not self._waiting and not self._raw)
        self._out += _encoded(reply, ends=ends, bare=whole.request.method == "HEAD")
        self._answered = None
        self.ended += 1
        if ends:
            self._reads = False
            self._raw = 0
            self.is_mute, self.is_over = not self._has_left, self._has_left
        self._next()


def _encoded(reply: Reply, *, ends: bool, bare: bool) -> bytes:
    """Return the bytes of an answer.

    :param ends: True if it is the last one of the connection.
    :param bare: True if its body is left out.
    """
    lines = [_status_line(reply.status), _date(int(time.time()))]
    if reply.status != HTTPStatus.NO_CONTENT:
        lines += [f"content-type: {reply.type}", f"content-length: {len(reply.body)}"]
    lines += [f"{name.lower()}: {value}" for name, value in reply.headers]
    if ends:
        lines.append("connection: close")
    head = "\r\n".join(lines).encode("latin-1", "replace")
    return head + b"\r\n\r\n" + (b"" if bare else reply.body)


@lru_cache(64)
def _status_line(status: int) -> str:
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncache-control: no-store"


@lru_cache(2)
def _date(now: int) -> str:
    return f"date: {formatdate(now, usegmt=True)}"
