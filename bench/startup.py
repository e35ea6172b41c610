"""Time of ``ratectl --help`` as a process, compared with an interpreter that does nothing."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from bench.figures import show

ROUNDS = 15
RATECTL = str(Path(sys.executable).parent / "ratectl")
COMMANDS = {
    "python -c pass (floor)": [sys.executable, "-c", "pass"],
    "ratectl --help": [RATECTL, "--help"],
    "ratectl version": [RATECTL, "version"],
}


def run() -> dict[str, object]:
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(ROUNDS):
        for name, command in COMMANDS.items():
            started = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            taken[name].append((time.perf_counter() - started) * 1e3)
    return {name: show(name, ms) for name, ms in taken.items()}
