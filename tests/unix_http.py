"""HTTP for tests: requests over TCP or a Unix socket."""

from __future__ import annotations

import http.client
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ratectl.runtime.address import Address

__all__ = ["UnixConnection", "ask"]


class UnixConnection(http.client.HTTPConnection):
    """A connection to the server at a path."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=10)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(self.path)


def ask(
    address: Address | None, path: str, method: str = "GET", **headers: str
) -> tuple[int, str, http.client.HTTPMessage]:
    """Return the status, the body and the headers of an answer."""
    assert address is not None
    connection: http.client.HTTPConnection = (
        UnixConnection(address.path)
        if address.path
        else http.client.HTTPConnection(address.host, address.port, timeout=10)
    )
    connection.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})
    response = connection.getresponse()
    body = response.read().decode()
    connection.close()
    return response.status, body, response.headers
