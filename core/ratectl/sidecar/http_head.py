"""The header of a request of HTTP/1: what is looked at, and what is refused."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from ratectl.runtime.address import names_this_machine
from ratectl.sidecar.replies import MOST_BYTES, MOST_HEADERS, problem

if TYPE_CHECKING:
    from ratectl.sidecar.replies import Reply

__all__ = ["MOST_FIELDS", "Head", "header_too_large", "too_large"]

MOST_FIELDS: Final = 100
"""Most fields of a header."""


class Head:
    """First line and header of a request, as far as they are looked at."""

    __slots__ = (
        "coding",
        "expects",
        "fields",
        "host",
        "hosts",
        "is_whole",
        "kind",
        "length",
        "size",
        "url",
    )

    def __init__(self) -> None:
        self.url = b""
        self.size = 0
        self.fields = 0
        self.host = ""
        self.hosts = 0
        self.kind = b""
        self.length: bytes | None = None
        self.coding: bytes | None = None
        self.expects = b""
        self.is_whole = False

    def add(self, name: bytes, value: bytes) -> None:
        """Take a field."""
        name = name.lower()
        if name == b"host":
            self.host, self.hosts = value.strip().decode("latin-1"), self.hosts + 1
        elif name == b"content-type":
            self.kind = value
        elif name == b"content-length":
            self.length = value.strip()
        elif name == b"transfer-encoding":
            self.coding = value.strip().lower()
        elif name == b"expect":
            self.expects = value.strip().lower()

    @property
    def has_body(self) -> bool:
        return self.coding is not None or (self.length or b"0").strip(b"0") != b""

    def path(self) -> str:
        """Return the path that is asked for. The line may name the whole URL."""
        target = self.url.partition(b"?")[0]
        if target.startswith((b"http://", b"https://")):
            target = b"/" + target.partition(b"://")[2].partition(b"/")[2]
        return target.decode("latin-1")

    def framing(self) -> bytes:
        """Return the field that says where the body ends."""
        if self.coding is not None:
            return b"Transfer-Encoding: chunked"
        return b"Content-Length: " + (self.length or b"0")

    def problem(self, version: str, *, is_local: bool = False) -> Reply | None:
        """Return the answer to a request whose body need not be read; None if it must be.

        :param is_local: the caller must name this machine. A page of a foreign site, whose name
            was made to lead here, does not.
        """
        if version == "1.0":
            self.expects = b""
        if version not in ("1.0", "1.1"):
            told = f"HTTP/{version} is not spoken here: ask with HTTP/1.1"
            return problem(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, told)
        if self.hosts != 1 and (self.hosts or version == "1.1"):
            return problem(HTTPStatus.BAD_REQUEST, "a request has one Host header")
        if is_local and self.hosts and not names_this_machine(self.host):
            told = "the Host header names another machine: ask 127.0.0.1, [::1] or localhost"
            return problem(HTTPStatus.MISDIRECTED_REQUEST, told)
        if self.coding is not None and (self.coding != b"chunked" or version == "1.0"):
            told = "the only transfer coding is chunked, in HTTP/1.1"
            return problem(HTTPStatus.NOT_IMPLEMENTED, told)
        if self.expects not in (b"", b"100-continue"):
            told = "the only expectation is 100-continue"
            return problem(HTTPStatus.EXPECTATION_FAILED, told)
        return too_large() if int(self.length or b"0") > MOST_BYTES else None


def too_large() -> Reply:
    """Return the answer to a body that is too large."""
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    return problem(status, f"a body has {MOST_BYTES} bytes at most")


def header_too_large() -> Reply:
    """Return the answer to a header that is too large."""
    status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    return problem(status, f"the header has {MOST_HEADERS} bytes and {MOST_FIELDS} fields at most")
