"""docs/envoy.md: the steps of "Try it", as they are written, with a real Envoy on free ports."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from envoy_server import envoy_binary
from etcd_server import free_port, wait_for
from sidecar.meshes import DOCS
from support import once

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    once, pytest.mark.envoy, pytest.mark.xdist_group("envoy"),
    pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed"),
]  # fmt: skip

PAGE: Final = (DOCS.parent / "envoy.md").read_text("utf-8")
STEPS: Final = PAGE[PAGE.index("## Try it") : PAGE.index("## Configure Envoy")]
COMMAND: Final = re.compile(r"^\$ (.*)\n((?:(?!\$ |```).*\n)*)", re.MULTILINE)
LISTENING: Final = {"ratectl": "8081", "python3": "8000", "envoy": "10000"}
"""Ports of the programs that the page starts."""
ENVOY: Final = """#!/bin/sh
exec {envoy} --use-dynamic-base-id --disable-hot-restart --concurrency 1 "$@"
"""


class Shell:
    """A shell in which commands run one after another, as somebody types them."""

    def __init__(self, folder: Path) -> None:
        programs = folder / "bin"
        programs.mkdir()
        (programs / "envoy").write_text(ENVOY.format(envoy=envoy_binary()))
        (programs / "envoy").chmod(0o755)
        path = os.pathsep.join(map(str, [programs, Path(sys.executable).parent]))
        env = {**os.environ, "XDG_STATE_HOME": str(folder / "state")}
        self.log = folder / "shell.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                ["bash"], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                env=env | {"PATH": os.pathsep.join([path, os.environ["PATH"]])}, text=True,
            )  # fmt: skip
        self.run("trap 'kill $(jobs -p)' EXIT")

    def run(self, command: str) -> str:
        """Return what a command writes to standard output."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{command}\necho @@\n")
        self._process.stdin.flush()
        output = ""
        while not output.endswith("@@\n"):
            line = self._process.stdout.readline()
            assert line, f"the shell has ended: {self.log.read_text()}"
            output += line
        return output.removesuffix("@@\n")

    def close(self) -> None:
        """End the shell and what runs in it."""
        with suppress(subprocess.TimeoutExpired):
            self._process.communicate(timeout=30)
        self._process.kill()


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    found = Shell(tmp_path)
    yield found
    found.close()


def steady(text: str) -> str:
    """Return an output without times, rates and numbers that depend on them."""
    text = re.sub(r"^(date|content-length|x-envoy-\S+-time): .*", r"\1", text, flags=re.MULTILINE)
    text = re.sub(r", by (libnghttp2|ngh2|grpcio)$", "", text, flags=re.MULTILINE)
    text = re.sub(r"data \d s old|^\S+ [\d:,]{12} ", "TIME", text, flags=re.MULTILINE)
    text = re.sub(r"(retry-after: |[rt]=)\d+|saved [\d.]+ s", r"\1N", text)
    return re.sub(r" {2,}\d\.\d ", " RATE ", text).strip()


def test_the_steps_of_the_page(shell: Shell, tmp_path: Path) -> None:
    ports = {port: str(free_port()) for port in LISTENING.values()}
    (policy,) = re.findall(r"^```yaml\n(.*?)^```", STEPS, re.MULTILINE | re.DOTALL)
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "shop.yaml").write_text(policy)
    (tmp_path / "docs" / "envoy").mkdir(parents=True)
    config = with_ports((DOCS / "envoy.yaml").read_text("utf-8"), ports)
    # A busy machine may take longer than the file allows.
    config = config.replace("timeout: 0.1s", "timeout: 10s")
    (tmp_path / "docs" / "envoy" / "envoy.yaml").write_text(config)
    for command, shown in COMMAND.findall(STEPS):
        output = shell.run(with_ports(command, ports))
        if command.endswith(" &"):
            listens(shell, ports[LISTENING[command.split()[0]]])
        if command == "ratectl usage":  # agents report every five seconds
            wait_for(lambda: steady(shell.run("ratectl usage")) == steady(shown), "usage", 60, 0.5)  # noqa: B023
        elif command.startswith(("ratectl agent run", "kill")):
            for line in steady(with_ports(shown, ports)).splitlines():
                wait_for(lambda: line in steady(shell.log.read_text()), line, 60)  # noqa: B023
        elif "…" not in shown:
            assert steady(output) == steady(shown) or not shown, command


def listens(shell: Shell, port: str) -> None:
    """Wait until a program that the shell has started listens."""
    wait_for(lambda: shell.run(f"(</dev/tcp/127.0.0.1/{port}) 2> /dev/null && echo up"), port, 60)


def with_ports(text: str, ports: dict[str, str]) -> str:
    """Return a text with free ports in place of those of the page."""
    for known, free in ports.items():
        text = re.sub(rf"(?<=[: ]){known}\b", free, text)
    return text
