"""Real servers for tests: uvicorn and gunicorn with an agent in each of their processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import gunicorn
import pytest

from etcd_server import free_port, wait_for
from ratectl.engine import engine_type
from soak import scaled
from support import CRASHING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["ROUNDS", "Service", "witnessed"]

ROUNDS: Final = scaled(1, 10)
"""Factor for loops: the long ones run with ``RATECTL_SOAK=1``."""

witnessed = pytest.mark.skipif(
    engine_type().name == "pure", reason="the pure engine has no crash witness"
)

APP = """
import json, os
import ratectl

STAMP = {stamp}
agent = ratectl.Agent(os.environ["STORE"], state_dir=os.environ["STATE"], report_interval=0.2)
if "GENERATION" in os.environ:
    agent.wait_for_generation(int(os.environ["GENERATION"]), 10)


def decided():
    decision, status = agent.check("/", {{"tenant": "acme"}}), agent.status
    return json.dumps({{
        "stamp": STAMP, "pid": os.getpid(), "generation": decision.generation,
        "reason": decision.reason, "rejected": status.rejected, "problems": dict(status.problems),
    }})


def note():
    with open(os.environ["JOURNAL"], "a") as journal:
        journal.write(decided() + "\\n")


note()
os.register_at_fork(after_in_child=note)


async def asgi(scope, receive, send):
    head = [(b"content-type", b"application/json")]
    await send({{"type": "http.response.start", "status": 200, "headers": head}})
    await send({{"type": "http.response.body", "body": decided().encode()}})


def wsgi(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    return [decided().encode()]
"""


class Service:
    """A service in its own folder, with its code, its agents' state, and a journal.

    Each process writes its first decision to the journal.
    """

    def __init__(self, folder: Path, store_url: str) -> None:
        self.folder = folder
        self.state = folder / "state"
        self._journal = folder / "journal"
        self._port = free_port()
        self.env = {
            **CRASHING,
            "STORE": store_url,
            "STATE": str(self.state),
            "JOURNAL": str(self._journal),
            # A worker must not read bytecode of the previous code.
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        folder.mkdir(exist_ok=True)
        self.save(0)

    def save(self, stamp: int, app: str = APP) -> None:
        """Write the code, as an editor does; ``stamp`` is in every answer."""
        (self.folder / "service.py").write_text(app.format(stamp=stamp))

    @contextmanager
    def uvicorn(self, *options: str) -> Iterator[subprocess.Popen[bytes]]:
        address = ["--host", "127.0.0.1", "--port", str(self._port), "--lifespan", "off"]
        with self._running("uvicorn", "service:asgi", *address, *options) as process:
            yield process

    @contextmanager
    def hypercorn(self, *options: str) -> Iterator[subprocess.Popen[bytes]]:
        address = ["--bind", f"127.0.0.1:{self._port}", "--graceful-timeout", "3"]
        with self._running("hypercorn", "service:asgi", *address, *options) as process:
            yield process

    @contextmanager
    def gunicorn(self, *options: str) -> Iterator[subprocess.Popen[bytes]]:
        # A worker that was just forked misses SIGTERM: the master kills it after this time.
        address = ["--bind", f"127.0.0.1:{self._port}", "--graceful-timeout", "3"]
        if gunicorn.version_info >= (25, 1):
            address.append("--no-control-socket")  # it would lie in the user's home
        with self._running("gunicorn", "service:wsgi", *address, *options) as process:
            yield process

    @contextmanager
    def _running(self, *words: str) -> Iterator[subprocess.Popen[bytes]]:
        log = self.folder / "log"
        with (
            log.open("ab") as output,
            subprocess.Popen(
                [sys.executable, "-m", *words],
                cwd=self.folder,
                env=self.env,
                stdout=output,
                stderr=output,
                start_new_session=True,
            ) as process,
        ):
            try:
                yield process
                if process.poll() is None:
                    process.send_signal(signal.SIGTERM)
                process.wait(20)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)

    def journal(self) -> list[dict[str, Any]]:
        """Return the first decisions of all processes so far, oldest first."""
        if not self._journal.exists():
            return []
        return [json.loads(line) for line in self._journal.read_text().splitlines()]

    def until_started(self, processes: int) -> list[dict[str, Any]]:
        """Wait until that many processes have decided, and return their first decisions."""
        return wait_for(
            lambda: found if len(found := self.journal()) >= processes else None,
            f"{processes} processes",
            20,
        )

    def ask(self) -> Mapping[str, Any]:
        """Return the running server's answer to a request."""
        return wait_for(self._answer, "an answer", 20)

    def _answer(self) -> Mapping[str, Any] | None:
        url = f"http://127.0.0.1:{self._port}/"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                found: Mapping[str, Any] = json.load(answer)
                return found
        except OSError:  # not yet up, or restarting
            return None
