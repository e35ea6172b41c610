"""The socket on which a member waits for its peers."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ratectl.cluster.transport.identity import locked_folder
from ratectl.errors import UsageError
from ratectl.runtime.address import Address

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from ratectl.cluster.transport.identity import Tls

__all__ = ["Listener", "most_connections"]

_BACKLOG: Final = 1_024
_AT_ONCE: Final = 64
"""Most connections that are accepted in one round."""
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


def most_connections(wanted: int) -> int:
    """Return how many connections a process may have: half of its descriptors stay free."""
    import resource  # not on Windows

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if soft == resource.RLIM_INFINITY else max(1, min(wanted, soft // 2))


class Listener:
    """Listening socket. A Unix socket stands in a folder of its user alone.

    :raises UsageError: the address cannot be used, or TCP has no TLS.
    """

    def __init__(self, address: Address, tls: Tls | None) -> None:
        self._file: os.stat_result | None = None
        if address.path:
            with locked_folder(address.path):
                self.socket = address.listen()
                self._file = os.lstat(address.path)
        elif tls is None:
            raise UsageError(f"{address} needs TLS: give the contexts, or listen on unix:/…")
        else:
            self.socket = address.listen()
            address = Address(address.host, self.socket.getsockname()[1])
        self.address = address
        self.socket.listen(_BACKLOG)
        self.socket.setblocking(False)

    def accept(self) -> Iterator[socket.socket]:
        """Yield connections that wait, not too many at once.

        :raises OSError: the process or the system has no descriptor or memory left.
        """
        for _ in range(_AT_ONCE):
            try:
                connection, _ = self.socket.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    raise
                continue  # the peer has gone already
            connection.setblocking(False)
            yield connection

    def close(self) -> None:
        """Stop listening, and remove the Unix socket, unless it is another's by now."""
        self.socket.close()
        if self._file is None:
            return
        with suppress(OSError):
            found = os.lstat(self.address.path)
            is_same = (found.st_ino, found.st_dev) == (self._file.st_ino, self._file.st_dev)
            if stat.S_ISSOCK(found.st_mode) and is_same:
                Path(self.address.path).unlink()
        self._file = None

    def after_fork(self) -> None:
        """Leave the address to the parent."""
        self._file = None
        self.socket.close()
