"""Rounds of h2load against a server: rate, latency, and CPU of the server for each call."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.figures import percentile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["ROUNDS", "Rounds", "Server", "measure", "show_ratios", "shown", "started", "started_by"]

Server = tuple[subprocess.Popen[str], str]
"""Process of a server, and its address."""

ROUNDS: Final = 5


@dataclass
class Rounds:
    """Figures of one server under one load."""

    rates: list[float] = field(default_factory=list)
    p99_us: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)


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
    """Return the CPU that the threads of a process have used, in microseconds."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((each / "schedstat").read_text().split()[0]) for each in threads) / 1e3


def shown(load: str, name: str, rounds: Rounds) -> dict[str, float]:
    """Print the medians, and return them."""
    rate, p99, cpu = map(statistics.median, (rounds.rates, rounds.p99_us, rounds.cpu_us))
    print(f"    {load:20} {name:10} {rate:>9,.0f}/s   p99 {p99:>6,.0f} µs   {cpu:6.1f} µs of CPU")
    return {"per_second": rate, "p99_us": p99, "cpu_us": cpu}


def show_ratios(figures: Mapping[str, Mapping[str, float]]) -> None:
    """Print our figures as shares of grpc-go's."""
    if "grpc-go" in figures:
        go = figures["grpc-go"]
        for server in [name for name in ("libnghttp2", "ngh2") if name in figures]:
            rate, cpu = (figures[server][name] / go[name] for name in ("per_second", "cpu_us"))
            print(f"    {server} beside grpc-go: {rate:.2f} of its rate, {cpu:.2f} of its CPU")
