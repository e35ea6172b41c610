"""The sidecar's servers and a bare one of grpc-go, asked by h2load (Debian: nghttp2-client): rate,
latency, CPU. Then the same servers behind Envoy.

The rounds alternate; the figures are medians. The server has one core; h2load, and Envoy, another,
where there are two.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.grpc_go import built
from bench.rls_envoy import through_envoy
from bench.rls_rounds import ROUNDS, Rounds, measure, show_ratios, shown, started, started_by
from ratectl.sidecar.sidecar import servers_here

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.rls_rounds import Server

CALLS: Final = {"libnghttp2": 40_000, "ngh2": 40_000, "grpcio": 8_000, "grpc-go": 40_000}
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
PROGRAM: Final = """
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
    servers = {name: started(PROGRAM, name, POLICIES) for name in servers_here()}
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
