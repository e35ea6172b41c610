"""The sidecar's servers and a bare one of grpc-go, asked by h2load (Debian: nghttp2-client): rate,
latency, CPU. Then the same servers behind Envoy.

The rounds alternate; the figures are medians. The server has one core; h2load, and Envoy, another,
where there are two.
"""

from __future__ import annotations

import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.figures import percentile
from bench.grpc_go import built

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Server = tuple[subprocess.Popen[str], str]
"""Process of a server, and its address."""

ROUNDS: Final = 5
CALLS: Final = {"ngh2": 40_000, "grpcio": 8_000, "grpc-go": 40_000}
LOADS: Final = {"1 connection x 32": (1, 32), "4 connections x 8": (4, 8), "1 x 1": (1, 1)}
"""Connections, and calls of each that are open at once."""
ASKED: Final = bytes.fromhex("0000000026") + (
    b"\x0a\x04shop\x12\x1e\x0a\x1c\x0a\x06client\x12\x12customer-0000-4711"
)
"""A message of gRPC: one descriptor with one entry."""
METHOD: Final = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"
OPTIONS: Final = ("-H", "content-type: application/grpc", "-H", "te: trailers")

POLICIES: Final = """
apiVersion: ratectl/v1
scope: /shop
limits:
  each: {rate: 9_000_000/s, per: client}
"""
SERVER: Final = """
import os, sys
cores = os.sched_getaffinity(0)
if len(cores) > 1:
    os.sched_setaffinity(0, {min(cores)})
from ratectl import Agent
from ratectl.sidecar import Sidecar
with (
    Agent.from_policies(sys.argv[2]) as agent,
    Sidecar(agent, "127.0.0.1:0", server=sys.argv[1]) as sidecar,
):
    print(sidecar.rls, flush=True)
    sys.stdin.read()
"""


@dataclass
class Rounds:
    """Figures of one server under one load."""

    rates: list[float] = field(default_factory=list)
    p99_us: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)


def run() -> dict[str, object]:
    """Measure each server under each load."""
    h2load = shutil.which("h2load")
    if h2load is None:
        print("    skipped: h2load is not installed (Debian: nghttp2-client)")
        return {}
    with tempfile.TemporaryDirectory() as folder:
        servers = _servers(Path(folder))
        try:
            found = _directly(h2load, servers)
            return found | through_envoy(h2load, servers, Path(folder))
        finally:
            for process, _ in servers.values():
                process.communicate()


def _servers(folder: Path) -> dict[str, Server]:
    servers = {name: started(SERVER, name, POLICIES) for name in ("ngh2", "grpcio")}
    go = built(folder)
    if go is None:
        print("    without grpc-go: Debian's golang-go, golang-google-grpc-dev and")
        print("    golang-golang-x-time-dev are not installed")
        return servers
    core = str(min(os.sched_getaffinity(0)))
    return servers | {"grpc-go": started_by(["taskset", "-c", core, str(go)])}


def _directly(h2load: str, servers: Mapping[str, Server]) -> dict[str, object]:
    rounds = {(load, name): Rounds() for load in LOADS for name in servers}
    for load, shape in LOADS.items():
        for _ in range(ROUNDS):
            for name, (process, address) in servers.items():
                calls = CALLS[name] if shape != (1, 1) else CALLS[name] // 4
                url = f"http://{address}{METHOD}"
                measure(h2load, process.pid, url, ASKED, OPTIONS, calls, shape, rounds[load, name])
    found: dict[str, object] = {}
    for load in LOADS:
        figures = {name: shown(load, name, rounds[load, name]) for name in servers}
        found |= {f"{load}, {name}": each for name, each in figures.items()}
        show_ratios(figures)
    return found


def show_ratios(figures: Mapping[str, Mapping[str, float]]) -> None:
    """Print our figures as shares of grpc-go's."""
    if "grpc-go" in figures:
        ours, go = figures["ngh2"], figures["grpc-go"]
        rate, cpu = (ours[name] / go[name] for name in ("per_second", "cpu_us"))
        print(f"    ngh2 beside grpc-go: {rate:.2f} of its rate, {cpu:.2f} of its CPU for a call")


def started(program: str, *arguments: str) -> Server:
    """Start a program of Python as a server (see ``started_by``)."""
    return started_by([sys.executable, "-c", program, *arguments])


def started_by(command: Sequence[str]) -> Server:
    """Start a server, which prints its address; return its process and the address."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def measure(
    h2load: str,
    pid: int,
    url: str,
    asked: bytes | None,
    options: Sequence[str],
    calls: int,
    shape: tuple[int, int],
    rounds: Rounds,
) -> None:
    """Send calls, and add the figures."""
    with tempfile.TemporaryDirectory() as folder:
        body, log = Path(folder, "body"), Path(folder, "log")
        sent = [] if asked is None else ["-d", str(body)]
        body.write_bytes(asked or b"")
        command = [
            h2load, "-n", str(calls), "-c", str(shape[0]), "-m", str(shape[1]), *sent,
            *options, f"--log-file={log}", url,
        ]  # fmt: skip
        cores = os.sched_getaffinity(0)
        before = _cpu_us(pid)
        out = subprocess.run(
            ["taskset", "-c", str(max(cores)), *command], capture_output=True, text=True, check=True
        ).stdout
        spent = _cpu_us(pid) - before
        assert f"{calls} succeeded" in out, out
        found = re.search(r"([\d.]+) req/s", out)
        assert found, out
        rounds.rates.append(float(found[1]))
        rounds.cpu_us.append(spent / calls)
        took = [int(line.split("\t")[2]) for line in log.read_text().splitlines()]
        rounds.p99_us.append(percentile(took, 0.99))


def _cpu_us(pid: int) -> float:
    """Return the CPU that a process has used, in microseconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1e6 / os.sysconf("SC_CLK_TCK")


def shown(load: str, name: str, rounds: Rounds) -> dict[str, float]:
    """Print the medians, and return them."""
    rate, p99, cpu = map(statistics.median, (rounds.rates, rounds.p99_us, rounds.cpu_us))
    print(f"    {load:20} {name:8} {rate:>9,.0f}/s   p99 {p99:>6,.0f} µs   {cpu:6.1f} µs of CPU")
    return {"per_second": rate, "p99_us": p99, "cpu_us": cpu}
