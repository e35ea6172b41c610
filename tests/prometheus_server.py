"""A real Prometheus for tests: it scrapes, evaluates rules and answers queries.

It listens on loopback, keeps its data in a temporary folder, and is stopped by its process handle.
"""

from __future__ import annotations

import atexit
import contextlib
import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from etcd_server import _die_with_parent, free_port, wait_for

__all__ = ["PrometheusServer", "Sample", "promtool", "require_tool"]

_START_SECONDS = 30.0

Sample = tuple[dict[str, str], float]
"""Labels of a series, and its value."""


def require_tool(name: str) -> str:
    """Return the path of ``prometheus`` or ``promtool``.

    Without it, skip the test, or fail it if RATECTL_REQUIRE_PROMETHEUS=1.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    binary = shutil.which(name, path=path)
    if binary is None:
        reason = f"no {name} is installed: `make .venv/prometheus`"
        if os.environ.get("RATECTL_REQUIRE_PROMETHEUS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return binary


def promtool(*arguments: str | Path) -> str:
    """Run promtool, assert that it succeeds, and return its output."""
    ran = subprocess.run(
        [require_tool("promtool"), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    output = ran.stdout + ran.stderr
    assert ran.returncode == 0, output
    return output


@dataclass
class PrometheusServer:
    """One Prometheus process. Use :meth:`start`."""

    binary: str
    folder: Path
    port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(cls, config: dict[str, Any], *, scrape_itself: bool = False) -> PrometheusServer:
        """Start a server with these settings (skips the test if Prometheus is not installed).

        Relative paths in ``config`` start at the server's folder, which is temporary.
        ``scrape_itself``: add a job ``prometheus`` with the server as its target.
        """
        binary = require_tool("prometheus")
        for attempt in range(5):
            server = cls(binary, Path(tempfile.mkdtemp(prefix="ratectl-prometheus-")))
            atexit.register(server.stop)
            server._configure(config, scrape_itself=scrape_itself)
            try:
                server._run()
                return server
            except (
                RuntimeError
            ):  # another process took the port meanwhile, or the settings are wrong
                server.stop()
                if attempt == 4:
                    raise
        raise AssertionError("unreachable")

    @property
    def address(self) -> str:
        """``127.0.0.1:PORT``."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        assert self._process is not None
        return self._process.pid

    def query(self, expression: str) -> list[Sample]:
        """Return the series of an instant query; a scalar has no labels.

        :raises ValueError: Prometheus does not accept the expression.
        """
        result = self.get("/api/v1/query", query=expression)
        if result["resultType"] in {"scalar", "string"}:
            return [({}, float(result["result"][1]))]
        if result["resultType"] == "matrix":
            return [(each["metric"], float(each["values"][-1][1])) for each in result["result"]]
        return [(each["metric"], float(each["value"][1])) for each in result["result"]]

    def wait_for(self, expression: str, seconds: float = 30.0) -> list[Sample]:
        """Return the series of a query as soon as there are some; fail after ``seconds``."""
        return wait_for(lambda: self.query(expression), expression, seconds, pause=0.1)

    def alerts(self) -> list[dict[str, Any]]:
        """Return the alerts that are pending or firing, with ``labels`` and ``state``."""
        alerts: list[dict[str, Any]] = self.get("/api/v1/alerts")["alerts"]
        return alerts

    def get(self, path: str, **parameters: str) -> Any:
        """Return the data of an answer of the HTTP API.

        :raises ValueError: the answer is an error.
        """
        status, text = self._request(f"{path}?{urlencode(parameters)}")
        answer = json.loads(text)
        if status != 200 or answer["status"] != "success":
            raise ValueError(answer.get("error", text))
        return answer["data"]

    def stop(self) -> None:
        """End the server and remove its data. Safe to call twice."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
        atexit.unregister(self.stop)

    def _configure(self, config: dict[str, Any], *, scrape_itself: bool) -> None:
        if scrape_itself:
            own = {"job_name": "prometheus", "static_configs": [{"targets": [self.address]}]}
            config = config | {"scrape_configs": [*config.get("scrape_configs", ()), own]}
        text = json.dumps(config)  # every YAML reader takes JSON
        (self.folder / "prometheus.yaml").write_text(text, encoding="utf-8")

    def _run(self) -> None:
        with (self.folder / "prometheus.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *_die_with_parent(),
                    self.binary,
                    f"--config.file={self.folder / 'prometheus.yaml'}",
                    f"--storage.tsdb.path={self.folder / 'data'}",
                    f"--web.listen-address={self.address}",
                    "--log.level=warn",
                ],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self._request("/-/ready")[0] == 200:
                    return
            time.sleep(0.05)
        log_text = (self.folder / "prometheus.log").read_text(errors="replace")[-2000:]
        raise RuntimeError(f"Prometheus did not become ready:\n{log_text}")

    def _request(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
