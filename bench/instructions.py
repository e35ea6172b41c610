"""Instructions per decision, counted by Valgrind and compared with ceilings: ``make instructions``.

Times depend on other work of a machine; instructions do not, so CI can check them. The
ceilings are in ``bench/instructions.json``, by Python's minor version, as they were measured;
a tenth more passes. Interpreters of one version are built in many ways: if another build
runs more instructions for the same bytecode, record ceilings with it (``--record``).

Without Valgrind this prints a note and passes, unless ``RATECTL_REQUIRE_VALGRIND=1``: then it
fails, and also for a case that could not be counted or has no ceiling.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
CEILINGS = HERE / "instructions.json"
OUT = HERE / "out" / "instructions.json"
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
ROOM = 1.10
CALLS = 1_000

_COUNT = re.compile(r"I +refs: +([\d,]+)")


def count(valgrind: str, calls: int = CALLS) -> dict[str, float]:
    """Return the instructions per decision of each case: (those of 2N - those of N) / N."""
    with tempfile.TemporaryDirectory() as folder:
        logs = Path(folder)
        done = subprocess.run(
            [
                valgrind, "--tool=cachegrind", "--cache-sim=no", f"--log-file={logs}/%p",
                "--cachegrind-out-file=/dev/null",
                sys.executable, "-m", "bench.deciding.counted", str(calls),
            ],
            cwd=HERE.parent,
            env={**os.environ, "PYTHONHASHSEED": "0"},
            stdout=subprocess.PIPE,
            check=True,
        )  # fmt: skip
        cases = json.loads(done.stdout)
        counted: dict[str, float] = {}
        for name, (decisions, children) in cases.items():
            before, between, after = (_counted(logs / str(child)) for child in children)
            counted[name] = round(((after - between) - (between - before)) / decisions, 1)
        return counted


def _counted(log: Path) -> int:
    found = _COUNT.search(log.read_text("utf-8"))
    if found is None:
        raise ValueError(f"valgrind wrote no count of instructions:  {log.read_text()!r}")
    return int(found[1].replace(",", ""))


def ceilings() -> dict[str, dict[str, float]]:
    """Return the ceilings by Python version and case."""
    return json.loads(CEILINGS.read_text("utf-8")) if CEILINGS.exists() else {}


def compare(counted: dict[str, float], known: dict[str, float]) -> tuple[list[str], list[str]]:
    """Return the cases above their ceiling, and those that could not be compared."""
    over, missing = (
        [],
        [f"{name} has a ceiling and was not counted" for name in known.keys() - counted],
    )
    for name, instructions in counted.items():
        if ":" not in name:
            remark = "(floor)"
        elif name not in known:
            remark = "no ceiling"
            missing.append(f"{name} has no ceiling for Python {VERSION}")
        else:
            remark = f"{instructions / known[name] - 1:+.1%} of {known[name]:,.1f}"
            if instructions > known[name] * ROOM:
                remark += "  TOO MANY"
                over.append(name)
        print(f"  {name:<44}{instructions:>12,.1f}  {remark}")
    return over, missing


def record(counted: dict[str, float]) -> None:
    """Record the counts as the ceilings of this Python version."""
    kept = {name: instructions for name, instructions in counted.items() if ":" in name}
    everything = dict(sorted({**ceilings(), VERSION: kept}.items()))
    CEILINGS.write_text(json.dumps(everything, indent=2) + "\n", "utf-8")
    print(f"  recorded in {CEILINGS.relative_to(HERE.parent)}")


def main() -> int:
    required = os.environ.get("RATECTL_REQUIRE_VALGRIND", "") not in ("", "0")
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        print("no valgrind here (Debian: apt-get install valgrind): no instructions were counted")
        return 1 if required else 0
    print(f"== instructions per decision, Python {VERSION}")
    counted = count(valgrind)
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps({"python": VERSION, "counted": counted}, indent=2) + "\n", "utf-8")
    if "--record" in sys.argv[1:]:
        record(counted)
    over, missing = compare(counted, ceilings().get(VERSION, {}))
    for line in missing:
        print(f"  {line}")
    if over:
        print(f"  more than {ROOM - 1:.0%} above the ceiling: {', '.join(over)}")
    return 1 if over or (required and missing) else 0


if __name__ == "__main__":
    sys.exit(main())
