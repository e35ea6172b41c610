"""A real Valkey or Redis server for tests: on loopback, without a disk, stopped by its handle."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from etcd_server import _die_with_parent, free_port

__all__ = ["ValkeyServer"]

_START_SECONDS = 20.0


def _tool(kind: str) -> str:
    """Return the path of ``valkey-server`` or ``valkey-sentinel``, or of Redis's.

    Without it, skip the test, or fail it if RATECTL_REQUIRE_VALKEY=1.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    for name in (f"valkey-{kind}", f"redis-{kind}"):
        binary = shutil.which(name, path=path)
        if binary is not None:
            return binary
    reason = f"no valkey-{kind} is installed: `make .venv/valkey-ready`"
    if os.environ.get("RATECTL_REQUIRE_VALKEY") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@dataclass
class ValkeyServer:
    """One server process. Use :meth:`start`; every method may be called in any state."""

    kind: str
    args: tuple[str, ...]
    folder: Path
    port: int = field(default_factory=free_port)
    password: str | None = None
    _process: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(
        cls, *args: str, kind: str = "server", config: str = "", password: str | None = None
    ) -> ValkeyServer:
        """Start a server, or a sentinel with the lines of ``config``."""
        secret = () if password is None else ("--requirepass", password)
        server = cls(
            kind,
            (*args, *secret),
            Path(tempfile.mkdtemp(prefix="ratectl-valkey-")),
            password=password,
        )
        atexit.register(server.stop)
        if config:
            (server.folder / "server.conf").write_text(config)
        server.run()
        return server

    @property
    def url(self) -> str:
        """URL of the server, with its password."""
        user = "" if self.password is None else f":{self.password}@"
        return f"redis://{user}127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        assert self._process is not None
        return self._process.pid

    def run(self) -> None:
        """Start the process, empty, on the same port as before."""
        binary = _tool(self.kind)
        config = self.folder / "server.conf"
        given = [str(config)] if config.exists() else []
        saves = [] if self.kind == "sentinel" else ["--save", "", "--appendonly", "no"]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*_die_with_parent(), binary, *given, "--port", str(self.port), "--bind",
                 "127.0.0.1", "--dir", str(self.folder), *saves, *self.args],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(OSError):
                if self.command("PING") == b"+PONG":
                    return
            time.sleep(0.02)
        text = (self.folder / "server.log").read_text(errors="replace")[-2000:]
        raise RuntimeError(f"the server did not become ready:\n{text}")

    def command(self, *words: str) -> bytes:
        """Return the first line of the answer to a command, without the client of the library."""
        secret = [] if self.password is None else [("AUTH", self.password)]
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            file = connection.makefile("rb")
            for command in (*secret, words):
                parts = [word.encode() for word in command]
                text = b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
                connection.sendall(b"*%d\r\n%s" % (len(parts), text))
                line = file.readline().rstrip()
            return line

    def kill(self) -> None:
        """Kill the process; what it counted is lost."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def pause(self) -> None:
        """Stop the process: it takes connections, and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused process go on."""
        os.kill(self.pid, signal.SIGCONT)

    def stop(self) -> None:
        """End the server and remove its files. Safe to call twice."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
        atexit.unregister(self.stop)

    def client(self) -> Any:
        """Return a client for the test itself."""
        import redis

        return redis.Redis(port=self.port, password=self.password, socket_timeout=5)
