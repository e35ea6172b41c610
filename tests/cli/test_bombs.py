"""Malicious files cause an error in less than a second and 200 MB."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from bombs import BOMBS

MAX_SECONDS = 1.0
MAX_MB = 200

_MEASURED = """
import re, resource, sys
from pathlib import Path
from ratectl_cli.app import run

resource.setrlimit(resource.RLIMIT_AS, (1024**3,) * 2)  # what fails here must not take the machine
resource.setrlimit(resource.RLIMIT_CPU, (30, 30))
code = run(sys.argv[1:])
usage = resource.getrusage(resource.RUSAGE_SELF)
status = Path("/proc/self/status")
if status.exists():  # ru_maxrss counts the parent's memory from before the exec as well
    peak = int(re.search(r"VmHWM:\\s+(\\d+)", status.read_text())[1]) // 1024
else:
    peak = usage.ru_maxrss // 1024**2
print(usage.ru_utime + usage.ru_stime, peak, file=sys.stderr)
sys.exit(code)
"""


def validate(path: Path) -> tuple[subprocess.CompletedProcess[str], float, int]:
    """Validate a file in a separate process; return CPU seconds and peak memory in MB."""
    run = subprocess.run(
        [sys.executable, "-c", _MEASURED, "validate", str(path), "--format", "concise"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    seconds, peak = run.stderr.splitlines()[-1].split()
    return run, float(seconds), int(peak)


@cache
def start_up() -> float:
    """Return the CPU seconds to validate a tiny file."""
    path = Path("small.yaml")
    path.write_text("a: b\n")
    return min(validate(path)[1] for _ in range(3))


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_end_in_an_error_at_once(name: str, clean_place: Path) -> None:
    bomb = BOMBS[name]
    path = clean_place / "bomb.yaml"
    path.write_text(bomb.text())
    seconds = []
    for _ in range(3):  # a neighbour's noise passes, a bomb that goes off does so each time
        run, used, peak = validate(path)
        seconds.append(used - start_up())
        if seconds[-1] < MAX_SECONDS:
            break
    place = f"bomb.yaml:{bomb.place}: " if bomb.place else "bomb.yaml: "
    assert run.returncode == 1, run.stderr
    assert re.search(rf"{place}error\[{bomb.code}\]", run.stdout)
    assert "Traceback" not in run.stderr
    assert min(seconds) < MAX_SECONDS
    assert peak < MAX_MB
