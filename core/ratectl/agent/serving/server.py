"""A small HTTP server for operators and monitoring: few requests, answered by threads.

It is bounded: so many connections at once, so long for one, so much read. Each connection has one
request, and only GET and HEAD are answered.
"""

from __future__ import annotations

import hmac
import os
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlsplit

from ratectl.agent.log import log
from ratectl.runtime.address import Address, names_this_machine, remove_socket

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ratectl.agent.serving.certificate import FileCertificate

__all__ = ["Answer", "Endpoint", "Page", "Server"]

_MOST_CONNECTIONS: Final = 64
_LONGEST: Final = 15.0
"""Seconds that a connection may last."""

_LONGEST_SILENCE: Final = 5.0
"""Seconds until a connection must have sent its request."""

_MOST_FIELDS: Final = 200
"""Most fields of a query."""

TEXT: Final = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of HTTP."""

    body: bytes
    type: str = TEXT
    status: int = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, as far as pages look at it."""

    query: list[tuple[str, str]]
    accept: str


Page = "Callable[[Asked], Answer]"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Pages of one address."""

    pages: Mapping[str, Callable[[Asked], Answer]]
    """By path."""
    token: str | None = None
    """Bearer token that requests must carry."""
    own_host: bool = False
    """True if the Host header must name this machine: a page of a browser could name another one
    that resolves to this machine (DNS rebinding)."""


class Server(ThreadingMixIn, HTTPServer):
    """Serves one endpoint from a thread of its own."""

    daemon_threads = True
    block_on_close = False

    def __init__(
        self,
        endpoint: Endpoint,
        address: Address,
        listener: socket.socket,
        certificate: FileCertificate | None,
    ) -> None:
        super().__init__(("", 0), _Handler, bind_and_activate=False)
        self.socket.close()
        self.endpoint = endpoint
        self.socket = listener
        self.server_name, self.server_port = address.host, address.port
        self._certificate = certificate
        self._open: dict[socket.socket, float] = {}
        """Connections, the oldest first, and when each began."""
        self._silent: dict[socket.socket, None] = {}
        """Connections that have not sent their request yet."""
        self._opening = threading.Lock()
        self._file: os.stat_result | None = None
        self.address = address
        if address.path:
            self._file = os.lstat(address.path)
        elif not address.port:
            self.address = Address(address.host, listener.getsockname()[1])
        self._thread = threading.Thread(
            target=self.serve_forever, args=(0.25,), name="ratectl-http", daemon=True
        )
        self._thread.start()

    # Connections --------------------------------------------------------------------------------

    def get_request(self) -> tuple[Any, Any]:
        connection, peer = self.socket.accept()
        connection.settimeout(_LONGEST)
        if self._certificate is not None:  # the handshake is the handler's first step
            self._certificate.has_changed()
            connection = self._certificate.context.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        return connection, peer or ("local", 0)

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002
        with self._opening:
            if len(self._open) >= _MOST_CONNECTIONS:
                if not self._silent:
                    return False
                oldest = next(iter(self._silent))
                _end(oldest)  # a probe must not wait for who says nothing
                del self._open[oldest], self._silent[oldest]
            self._open[request] = time.monotonic()
            self._silent[request] = None
            return True

    def has_asked(self, request: Any) -> None:
        """Take note that a connection has sent its request."""
        with self._opening:
            self._silent.pop(request, None)

    def service_actions(self) -> None:
        """End connections that last too long: a slow reader or writer must not keep a thread."""
        now = time.monotonic()
        with self._opening:
            late = [
                connection
                for connection, since in self._open.items()
                if now - since > (_LONGEST_SILENCE if connection in self._silent else _LONGEST)
            ]
        for connection in late:
            _end(connection)

    def shutdown_request(self, request: Any) -> None:
        with self._opening:
            self._open.pop(request, None)
            self._silent.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        log.debug("a request over HTTP failed", exc_info=True)

    # Ends ---------------------------------------------------------------------------------------

    def close(self) -> None:
        """Stop listening. Safe to repeat."""
        if self._thread.is_alive():
            self.shutdown()
        self.socket.close()
        if self._file is not None:
            remove_socket(self.address.path, self._file)
            self._file = None

    def in_child(self) -> None:
        """Leave the address to the parent."""
        self.socket.close()
        self._file = None


def _end(connection: socket.socket) -> None:
    """End a connection; its thread sees that at once."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    """Handler of one connection."""

    server: Server
    protocol_version = "HTTP/1.0"
    error_message_format = "%(message)s\n"
    error_content_type = TEXT
    server_version = "ratectl"
    sys_version = ""

    def do_GET(self) -> None:
        self._answer(self._answered())

    def do_HEAD(self) -> None:
        self._answer(self._answered(), body=False)

    def _answered(self) -> Answer:
        self.server.has_asked(self.connection)
        endpoint = self.server.endpoint
        if endpoint.own_host and not self._host_is_own():
            return _problem(HTTPStatus.FORBIDDEN, "the Host header names another machine")
        if endpoint.token is not None and not self._knows(endpoint.token):
            needed = {"WWW-Authenticate": "Bearer"}
            return _problem(HTTPStatus.UNAUTHORIZED, "a bearer token is needed", needed)
        try:
            parts = urlsplit(self.path)
        except ValueError:
            return _problem(HTTPStatus.BAD_REQUEST, "the request names no page")
        page = endpoint.pages.get(parts.path)
        if page is None:
            paths = ", ".join(endpoint.pages)
            return _problem(HTTPStatus.NOT_FOUND, f"there is no such page: there are {paths}")
        try:
            query = parse_qsl(parts.query, keep_blank_values=True, max_num_fields=_MOST_FIELDS)
        except ValueError:
            return _problem(HTTPStatus.BAD_REQUEST, f"more than {_MOST_FIELDS} fields of a query")
        try:
            return page(Asked(query, self.headers.get("Accept", "")))
        except Exception:  # noqa: BLE001  one page must not end the thread without an answer
            log.exception("the page %s failed", parts.path)
            return _problem(HTTPStatus.INTERNAL_SERVER_ERROR, "the page failed: see the log")

    def _host_is_own(self) -> bool:
        hosts = self.headers.get_all("Host") or []
        return len(hosts) == 1 and names_this_machine(hosts[0])

    def _knows(self, token: str) -> bool:
        given = self.headers.get("Authorization", "")
        kind, _, value = given.partition(" ")
        same = hmac.compare_digest(value.strip().encode(), token.encode())
        return same and kind.lower() == "bearer"

    def _answer(self, answer: Answer, *, body: bool = True) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(answer.body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Log nothing: requests name keys."""


def _problem(status: HTTPStatus, text: str, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(f"{text}\n".encode(), TEXT, status, headers or {})
