"""The sidecar's servers, asked by h2load (Debian: nghttp2-client): rate, latency, CPU.

The rounds alternate; the figures are medians. The server has one core and h2load another, where
there are two.
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

if TYPE_CHECKING:
    from collections.abc import Sequence

ROUNDS: Final = 5
CALLS: Final = {"ngh2": 40_000, "grpcio": 8_000}
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
    servers = {name: started(SERVER, name, POLICIES) for name in CALLS}
    rounds = {(load, name): Rounds() for load in LOADS for name in CALLS}
    try:
        for load, shape in LOADS.items():
            for _ in range(ROUNDS):
                for name, (process, address) in servers.items():
                    calls = CALLS[name] if shape != (1, 1) else CALLS[name] // 4
                    url = f"http://{address}{METHOD}"
                    measure(
                        h2load, process.pid, url, ASKED, OPTIONS, calls, shape, rounds[load, name]
                    )
    finally:
        for process, _ in servers.values():
            process.communicate()
    return {f"{load}, {name}": shown(load, name, found) for (load, name), found in rounds.items()}


def started(program: str, *arguments: str) -> tuple[subprocess.Popen[str], str]:
    """Start a server, which prints its address; return its process and the address."""
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def measure(
    h2load: str,
    pid: int,
    url: str,
    asked: bytes,
    options: Sequence[str],
    calls: int,
    shape: tuple[int, int],
    rounds: Rounds,
) -> None:
    """Send calls, and add the figures."""
    with tempfile.TemporaryDirectory() as folder:
        body, log = Path(folder, "body"), Path(folder, "log")
        body.write_bytes(asked)
        command = [
            h2load, "-n", str(calls), "-c", str(shape[0]), "-m", str(shape[1]), "-d", str(body),
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
