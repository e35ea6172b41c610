"""Asks a sidecar over HTTP, and holds each answer against the OpenAPI document."""

from __future__ import annotations

import http.client
import json
import socket
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple

import jsonschema

from ratectl.sidecar.openapi import document

if TYPE_CHECKING:
    from ratectl.runtime.address import Address

__all__ = ["DOCUMENT", "Got", "ask", "check_answer", "connected", "encoded", "post"]

DOCUMENT: dict[str, Any] = json.loads(document())


class Got(NamedTuple):
    """An answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def detail(self) -> str:
        found: str = self.json["detail"]
        return found


class _Unix(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=20)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(self._path)


def connected(address: Address) -> socket.socket:
    """Return a connection."""
    return socket.create_connection((address.host, address.port), timeout=20)


def encoded(body: object) -> bytes:
    """Return a POST to /v1/check."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return (
        b"POST /v1/check HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(data), data)
    )


def ask(address: Address, method: str, path: str, body: bytes = b"", **headers: str) -> Got:
    """Ask, and check the answer."""
    connection = (
        _Unix(address.path)
        if address.path
        else http.client.HTTPConnection(address.host, address.port, timeout=20)
    )
    with closing(connection):
        connection.request(method, path, body or None, headers)
        answer = connection.getresponse()
        got = Got(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
    check_answer(method, path, got)
    return got


def post(address: Address, path: str, body: object) -> Got:
    """Ask with JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return ask(address, "POST", path, data, **{"Content-Type": "application/json"})


def check_answer(method: str, path: str, got: Got) -> None:
    """Hold an answer to a known operation against the document."""
    operation = DOCUMENT["paths"].get(path, {}).get(method.lower())
    if operation is None:
        assert got.status in (404, 405)
        return
    declared = operation["responses"][str(got.status)]
    if "content" not in declared:
        assert got.body == b""
        return
    kind = got.headers["content-type"].partition(";")[0]
    schema = declared["content"][kind]["schema"]
    data = got.body.decode() if kind == "text/plain" else got.json
    whole = {**schema, "components": DOCUMENT["components"]}
    jsonschema.Draft202012Validator(whole).validate(data)
