"""A real Envoy for tests: on loopback, configured by a file, stopped by its handle."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import yaml

from etcd_server import _die_with_parent, free_port, wait_for

__all__ = ["EnvoyServer", "envoy_binary"]


def envoy_binary() -> str:
    """Return the path of Envoy. Without it, skip, or fail if RATECTL_REQUIRE_ENVOY=1."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    binary = shutil.which("envoy", path=path)
    if binary is not None:
        return binary
    reason = "no envoy is installed: `make .venv/envoy-ready`"
    if os.environ.get("RATECTL_REQUIRE_ENVOY") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


class EnvoyServer:
    """One process."""

    def __init__(self, config: dict[str, Any], folder: Path) -> None:
        """Start with a configuration, whose admin endpoint is added, and wait until it is ready."""
        self.admin = free_port()
        admin = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": self.admin}}}
        file = folder / "envoy.yaml"
        file.write_text(yaml.safe_dump({**config, "admin": admin}))
        self._log = folder / "envoy.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*_die_with_parent(), envoy_binary(), "-c", str(file), "--use-dynamic-base-id",
                 "--concurrency", "1", "--log-level", "warning", "--disable-hot-restart",
                 "--file-flush-interval-msec", "200"],  # of the access log; usually ten seconds
                stdout=log, stderr=log,
            )  # fmt: skip
        atexit.register(self.stop)
        wait_for(self._is_ready, "Envoy", 60)

    def _is_ready(self) -> bool:
        if self._process.poll() is not None:
            pytest.fail(f"Envoy ended: {self._log.read_text()[-2000:]}")
        try:
            return bool(self.get("/ready") == "LIVE\n")
        except OSError:
            return False

    def get(self, path: str) -> str:
        """Return a page of the admin endpoint."""
        with urlopen(f"http://127.0.0.1:{self.admin}{path}", timeout=10) as answer:
            text: str = answer.read().decode()
        return text

    def counters(self, part: str) -> dict[str, int]:
        """Return the counters whose names contain a text."""
        stats = json.loads(self.get(f"/stats?format=json&filter={part}"))["stats"]
        return {each["name"]: each["value"] for each in stats if "value" in each}

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
