"""Share of one central bucket's admissions that processes with `across: cluster` use, and excess.

Real processes with a SQLite store, offered three times the rate: 90 % of it to a tenth of the
processes, and to another tenth every few seconds. Excess is the number of tokens beyond burst +
rate · window in the worst window, by the readings of the clock that the decisions used. Static:
each process has rate ÷ processes, on the same arrivals. Simulated figures are beside them.

On few cores, processes wait for each other: ``stall`` is the longest time in which one of them did
not run, and leases lapse after 500 ms.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from ratectl.policy.language.model import Policy, PolicyTree
from ratectl.publishing._publish import publish
from ratectl.publishing.provenance import Provenance
from ratectl.stores import open_store
from simulation.traffic import Traffic

RATE: Final = 600
LOAD: Final = 3
SECONDS: Final = 18
EVERY: Final = 6
WARM: Final = 3
SECOND: Final = 10**9
PROCESSES: Final = (2, 5, 20)

_WORKER = """
import json, random, sys, time
from ratectl import Agent
store, state, number, count, rate, load, seconds, every = sys.argv[1:]
number, count, rate, seconds, every = int(number), int(count), int(rate), int(seconds), int(every)
agent = Agent(store, id=f"bench-{number}", state_dir=state, ready_timeout=30)
rnd = random.Random(number)
check = agent._engine.check
print("ready", flush=True)
start = int(sys.stdin.readline())
hot = max(1, count // 10)
now, asked, stall, last = start, [], 0, start
while True:
    epoch = (now - start) // (every * 10**9)
    mine = number in random.Random(epoch).sample(range(count), hot)
    share = 0.9 / hot if mine else 0.1 / max(1, count - hot)
    now += int(rnd.expovariate(share * float(load) * rate) * 10**9)
    if now > start + seconds * 10**9:
        break
    wait = now - time.monotonic_ns()
    if wait > 0:
        time.sleep(wait / 1e9)
    at = time.monotonic_ns()
    stall = max(stall, at - now)
    asked.append((at, number, int(check("/", {}, 1, at).allowed)))
print(json.dumps([asked, stall]), flush=True)
sys.stdin.readline()
agent.close()
"""


def run() -> dict[str, object]:
    """Measure each number of processes once."""
    figures: dict[str, object] = {}
    for count in PROCESSES:
        with tempfile.TemporaryDirectory() as folder:
            asked, stall = _asked(Path(folder), count)
        row = _measured(asked, count)
        row["stall_ms"] = stall / 1e6
        row["simulated"] = (
            Traffic(count, RATE, RATE, seconds=SECONDS, every=EVERY, load=LOAD).run().used
        )
        figures[f"{count} processes"] = row
        print(
            f"  {count:>3} processes   used {row['used']:>6.1%}   "
            f"simulated {row['simulated']:.1%}   "
            f"static {row['static']:>6.1%}   excess {row['excess']:.1f}   "
            f"converged in {row['converged_s']:.2f} s   stall {row['stall_ms']:.0f} ms",
            flush=True,
        )
    return figures


def _asked(folder: Path, count: int) -> tuple[list[tuple[int, int, bool]], int]:
    """Return the requests (instant, process, admitted) in order, and the longest stall."""
    fleet = {"rate": f"{RATE}/s", "burst": RATE, "across": "cluster"}
    arguments = [str(each) for each in (count, RATE, LOAD, SECONDS, EVERY)]
    return answers_of(folder, {"budgets": {"fleet": fleet}}, _WORKER, count, arguments)


def answers_of(
    folder: Path, policy_fields: dict[str, object], worker: str, count: int, arguments: list[str]
) -> tuple[list[tuple[int, int, bool]], int]:
    """Return what workers report, in the order of the instants, and the longest stall.

    A worker is Python source. Its arguments are the store, a state directory, its number and
    ``arguments``. It prints ``ready``, reads an instant, and prints as JSON rows (instant, number,
    admitted) and its longest stall.
    """
    store = f"sqlite:///{folder}/rates.db"
    policy = Policy.model_validate({"scope": "/", **policy_fields})
    with open_store(store) as opened:
        publish(opened, PolicyTree({"/": policy}), Provenance("bench", "bench"))
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", worker, store, str(folder / str(n)), str(n), *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for n in range(count)
    ]  # fmt: skip
    for process in workers:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "ready"
    time.sleep(3)  # shares are given
    start = time.monotonic_ns() + SECOND
    for process in workers:
        assert process.stdin is not None
        process.stdin.write(f"{start}\n")
        process.stdin.flush()
    asked: list[tuple[int, int, bool]] = []
    stall = 0
    for process in workers:
        assert process.stdout is not None
        answers, longest = json.loads(process.stdout.readline())
        asked += [(at, number, bool(allowed)) for at, number, allowed in answers]
        stall = max(stall, longest)
    for process in workers:
        process.communicate("\n")
    return sorted(asked), stall


def _measured(asked: list[tuple[int, int, bool]], count: int) -> dict[str, float]:
    start = asked[0][0]
    ideal, ruler = Bucket(RATE, RATE, start), Bucket(RATE, RATE, start)
    parts = [Bucket(RATE / count, max(1, RATE / count), start) for _ in range(count)]
    here = there = static = 0
    worst = 0.0
    bins = [[0, 0] for _ in range(SECONDS * 20 + 20)]
    for at, number, allowed in asked:
        best = ideal.admits(at)
        part = parts[number].admits(at)
        if allowed:
            worst = min(worst, ruler.charge(at))
        place = (at - start) // (SECOND // 20)
        bins[place][0] += allowed
        bins[place][1] += best
        if at - start >= WARM * SECOND:
            here, there, static = here + allowed, there + best, static + part
    return {
        "used": here / there,
        "excess": max(0.0, -worst),
        "converged_s": max(_converged(bins, move) for move in range(EVERY, SECONDS, EVERY)),
        "static": static / there,
    }


def _converged(bins: list[list[int]], second: int) -> float:
    """Return the seconds after a move until four bins use 97 % of what the central bucket does."""
    for first in range(second * 20, (second + EVERY) * 20 - 4):
        four = bins[first : first + 4]
        if sum(b[0] for b in four) >= 0.97 * sum(b[1] for b in four):
            return (first - second * 20) / 20
    return float("inf")


class Bucket:
    def __init__(self, rate: float, burst: float, now: int) -> None:
        self._rate, self._burst, self._level, self._at = rate, burst, burst, now

    def _settle(self, now: int) -> None:
        self._level = min(self._burst, self._level + self._rate * (now - self._at) / SECOND)
        self._at = now

    def admits(self, now: int) -> bool:
        self._settle(now)
        if self._level < 1:
            return False
        self._level -= 1
        return True

    def charge(self, now: int) -> float:
        """Charge a request; return the level, below 0 if it was too much."""
        self._settle(now)
        self._level -= 1
        return self._level
