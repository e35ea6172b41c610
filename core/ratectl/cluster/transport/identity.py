"""Proofs of who a peer is: users of this machine, certificates, private folders of sockets."""

from __future__ import annotations

import errno
import os
import socket
import ssl
import stat
import struct
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from ratectl.errors import UsageError
from ratectl.runtime.files import CLOSED, make_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "Tls", "TlsContexts", "certificate_names", "check_tls", "locked_folder", "why_wrong_user",
]  # fmt: skip

_LINUX: Final = struct.Struct("=iII")
"""``struct ucred``: process, user, group."""
_MACOS: Final = struct.Struct("=II")
"""Begin of ``struct xucred``: version, effective user."""
_MACOS_SIZE: Final = 76
_SOL_LOCAL: Final = 0
_LOCAL_PEERCRED: Final = 1
"""Level and option of macOS, which has no SO_PEERCRED."""


class Tls(Protocol):
    """TLS contexts of one member. Each side must show a certificate that the other side trusts."""

    @property
    def server(self) -> ssl.SSLContext:
        """Context for the next peer that connects."""

    @property
    def client(self) -> ssl.SSLContext:
        """Context for the next peer to connect to.

        If it checks host names, certificates must name the hosts or IP addresses as well.
        """


class TlsContexts(NamedTuple):
    """Contexts that stay the same."""

    server: ssl.SSLContext
    client: ssl.SSLContext


def check_tls(tls: Tls) -> None:
    """Check that both sides must show a certificate.

    :raises UsageError: a context accepts a peer without one, or is for the other side.
    """
    sides = {"server": ssl.PROTOCOL_TLS_SERVER, "client": ssl.PROTOCOL_TLS_CLIENT}
    for side, protocol in sides.items():
        context = getattr(tls, side, None)
        if not isinstance(context, ssl.SSLContext) or context.protocol != protocol:
            raise UsageError(
                f"the TLS context of the {side} side is made by ssl.SSLContext(ssl.{protocol.name})"
            )
        if context.verify_mode != ssl.CERT_REQUIRED:
            raise UsageError(
                f"the TLS context of the {side} side accepts peers without a certificate: set its "
                "verify_mode to ssl.CERT_REQUIRED"
            )


def certificate_names(connection: ssl.SSLSocket | ssl.SSLObject) -> frozenset[str]:
    """Return the names in the certificate of a peer: DNS names and URIs, else the common name."""
    certificate = connection.getpeercert() or {}
    others = certificate.get("subjectAltName", ())
    names = frozenset(str(entry[1]) for entry in others if entry[0] in ("DNS", "URI"))
    if names:
        return names
    subject: Any = certificate.get("subject", ())
    return frozenset(value for part in subject for name, value in part if name == "commonName")


def why_wrong_user(connection: socket.socket) -> str | None:
    """Return why the user at the other end of a Unix socket is refused; None if it may talk.

    The user of this process may, and root. The kernel says who it was when it connected.
    """
    try:
        user = _user_of(connection)
    except OSError as error:
        return f"the user of the peer is not known: {error.strerror or error}"
    if user in (0, os.geteuid()):
        return None
    return f"the peer runs as user {user}, and this member as user {os.geteuid()}"


def _user_of(connection: socket.socket) -> int:
    if hasattr(socket, "SO_PEERCRED"):
        data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _LINUX.size)
        return int(_LINUX.unpack(data)[1])
    data = connection.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, _MACOS_SIZE)
    version, user = _MACOS.unpack_from(data)
    if version != 0:
        raise OSError(errno.EPROTO, f"the kernel answers in version {version}")
    return int(user)


@contextmanager
def locked_folder(path: str) -> Iterator[None]:
    """Create the folder of a socket if it is missing, check it, and keep other members out of it.

    Without the lock, two members that begin at once could both replace a stale socket.

    :raises UsageError: other users may enter the folder, or it cannot be used.
    """
    import fcntl  # not on Windows

    folder = Path(path).parent
    try:
        make_folder(folder, CLOSED)
        file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise UsageError(
            f"the folder {folder} of the socket cannot be used: {error.strerror or error}"
        ) from None
    try:
        status = os.fstat(file)
        if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) != CLOSED:
            raise UsageError(
                f"the folder {folder} of the socket must belong to user {os.geteuid()} alone: it "
                f"has the owner {status.st_uid} and the mode {stat.S_IMODE(status.st_mode):04o}, "
                f"not {CLOSED:04o}"
            )
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)
