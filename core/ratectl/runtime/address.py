"""Addresses that an endpoint listens on: ``host:port``, or ``unix:/path``."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ratectl.errors import UsageError
from ratectl.runtime.urls import shown

__all__ = ["Address", "is_loopback", "names_this_machine", "parse_address", "remove_socket"]

_FORMS: Final = "127.0.0.1:9464, [::1]:9464, 0.0.0.0:9464 (all interfaces) or unix:/run/app.sock"
_BACKLOG: Final = 64


@dataclass(frozen=True, slots=True)
class Address:
    """An address to listen on."""

    host: str
    """Name or IP address; empty for a Unix socket."""
    port: int
    """0 for a free one."""
    path: str = ""
    """Path of a Unix socket; empty for TCP."""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def listen(self) -> socket.socket:
        """Return a listening socket. A Unix socket has mode 0600.

        :raises UsageError: the address cannot be used.
        """
        try:
            return self._unix() if self.path else self._tcp()
        except OSError as error:
            refused = UsageError(f"cannot listen on {self}: {error.strerror or error}")
            if (hint := self._hint(error)) is not None:
                refused.add_note(hint)
            raise refused from None
        except UnicodeError:
            raise UsageError(f"cannot listen on {self}: this is no name of a host") from None

    def _hint(self, error: OSError) -> str | None:
        """Return how to mend an address that cannot be listened on; None if it is not known."""
        if error.errno == errno.EADDRINUSE:
            return "another process listens there: stop it, or name another port"
        if error.errno == errno.EADDRNOTAVAIL:
            return "no interface of this machine has this address"
        if self.path and error.errno == errno.ENOENT:
            return f"create the folder {Path(self.path).parent}, or name another path"
        return None

    def _tcp(self) -> socket.socket:
        family, kind, protocol, _, where = socket.getaddrinfo(
            self.host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(where)
            listener.listen(_BACKLOG)
        except BaseException:
            listener.close()
            raise
        return listener

    def _unix(self) -> socket.socket:
        _remove_stale(self.path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(self.path)
            Path(self.path).chmod(0o600)  # nobody can connect before `listen`
            listener.listen(_BACKLOG)
        except BaseException:
            listener.close()
            raise
        return listener


def remove_socket(path: str, own: os.stat_result) -> None:
    """Remove the file of a Unix socket, unless another one has its name by now. Never raises."""
    with suppress(OSError):
        found = os.lstat(path)
        if stat.S_ISSOCK(found.st_mode) and found.st_ino == own.st_ino:
            Path(path).unlink()


def _remove_stale(path: str) -> None:
    """Remove the socket of a process that has ended.

    :raises OSError: something else is there, or a process listens on it.
    """
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise FileExistsError(None, "a file that is no socket is there")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            with suppress(FileNotFoundError):
                Path(path).unlink()
            return
    raise OSError(None, "another process listens there")


def parse_address(text: str) -> Address:
    """Return the address in a text.

    :raises UsageError: it has another form.
    """
    if not isinstance(text, str):
        raise UsageError(f"an address is a text such as {_FORMS}, not {text!r}")
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path or "\0" in path:
            raise UsageError(f"{shown(text)!r} names no path: write unix:/run/app.sock")
        return Address("", 0, path)
    host, colon, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    problem = _problem(host, bare, colon, port)
    if problem:
        raise UsageError(f"{shown(text)!r} is no address: {problem}; write {_FORMS}")
    return Address(bare, int(port))


def _problem(host: str, bare: str, colon: str, port: str) -> str | None:
    if not colon:
        return "it has no port"
    if not bare:
        return "it has no host"
    if ":" in bare and bare == host:
        return "an IPv6 address needs brackets"
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65_535):
        return "its port is no number from 0 to 65535"
    return None


def names_this_machine(host: str) -> bool:
    """Return True if a name or an IP address, perhaps with a port, is one of loopback."""
    name, _, port = host.rpartition(":")
    return _is_loopback_name(host) or (port.isdigit() and _is_loopback_name(name))


def _is_loopback_name(name: str) -> bool:
    name = name.lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return False


def is_loopback(listener: socket.socket) -> bool:
    """Return True if only this machine can reach a listening socket."""
    if listener.family == socket.AF_UNIX:
        return True
    return ipaddress.ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback
