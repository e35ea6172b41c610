"""Decisions compared with other libraries and floors: one key and 1M zipf keys; 1 and 4 threads.

Nanoseconds per decision include the calling loop; nothing is subtracted. One hot key: medians of
slices that take turns in one process. A million keys: each candidate in its own process, one
after the other, in fewer rounds, with bytes per key. Details of the method: ``bench.deciding``.

``RATECTL_BENCH_QUICK=1`` uses a tenth of the keys and fewer rounds, to test the benchmark.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from bench.deciding import hot, machine, many_keys, ours, plot, targets
from bench.deciding.candidate import Setting
from bench.deciding.floors import FLOORS, PYTHON_CALL
from bench.deciding.peers import PEERS
from bench.deciding.results import Results

if TYPE_CHECKING:
    from bench.deciding.candidate import Builder

QUICK = os.environ.get("RATECTL_BENCH_QUICK", "") not in ("", "0")
ROUNDS = 5 if QUICK else 15
THREADED_ROUNDS = 3 if QUICK else 7
KEYS = 100_000 if QUICK else 1_000_000
KEYED_ROUNDS = 3 if QUICK else 5
SLICE = 20_000 if QUICK else 50_000

HERE = Path(__file__).resolve().parent
DRAWN = HERE / "out" / "decisions.svg"
SHOWN = HERE.parent / "docs" / "img" / "decisions.svg"


def _builders() -> dict[str, Builder]:
    """Return the builders: floors first, then ratectl (fastest engine first), then the peers."""
    all_of: dict[str, Builder] = dict(FLOORS)
    for engine in ours.engines():
        all_of |= ours.of(engine)
    return all_of | PEERS


def _one_key(builders: dict[str, Builder], results: Results) -> None:
    candidates = hot.built(builders, Setting())
    results.sides = {name: each.side for name, each in candidates.items()}
    results.unlocked = {name for name, each in candidates.items() if not each.locked}
    print(f"  one key: {len(candidates)} candidates, {ROUNDS} rounds in turn")
    results.alone = hot.alone(candidates, ROUNDS)
    print(f"  one key, {hot.THREADS} threads: {THREADED_ROUNDS} rounds in turn")
    results.threaded = hot.threaded(candidates, THREADED_ROUNDS)


def _exactness(builders: dict[str, Builder], results: Results) -> None:
    print(f"  error of a limit under {hot.THREADS} threads, switched every microsecond")
    checked = [f"{engine}: {name}" for engine in ours.engines() for name in (ours.CHECK, ours.GATE)]
    for name in [*checked, *PEERS]:
        if name in results.threaded:
            results.missed[name] = hot.missed(builders[name])


def _many_keys(results: Results) -> None:
    print(f"  {KEYS:,} keys, zipf s=1.1: a process each, {KEYED_ROUNDS} rounds")
    keyed = [f"{engine}: {name}" for engine in ours.engines() for name in ours.KEYED]
    with tempfile.TemporaryDirectory() as folder:
        draws = Path(folder) / "draws"
        many_keys.draw(draws, KEYS, 10 * SLICE)
        for name in [*keyed, *PEERS]:
            if name in results.alone:
                figures = many_keys.measure(name, draws, KEYS, SLICE, KEYED_ROUNDS)
                if figures is not None:
                    results.many[name] = figures


def _table(results: Results) -> None:
    """Print one line for each candidate."""
    print(f"  {'':<41}{'one key':>9}{'/ empty':>9}{'4 threads':>10}{'missed':>8}"
          f"{'zipf':>10}{'4 threads':>10}{'per key':>8}")  # fmt: skip
    print(f"  {'':<41}{'ns':>9}{'call':>9}{'M/s':>10}{'limit':>8}{'ns':>10}{'M/s':>10}{'B':>8}")
    for name in results.alone:
        missed = results.missed.get(name)
        kept = "–" if missed is None else f"{missed.by:+d}{'!' if missed.raised else ''}"
        print(f"  {name:<41}{_cell(results.ns(name), 9)}"
              f"{_cell(results.ratio(name, PYTHON_CALL), 9)}"
              f"{_cell(results.millions(name), 10, 2)}{kept:>8}{_cell(results.zipf(name), 10)}"
              f"{_cell(results.zipf_millions(name), 10, 2)}"
              f"{_cell(results.bytes_per_key(name), 8, 0)}")  # fmt: skip
    print(f"  missed limit, of {hot.MOST}: + admitted above it, - refused below it")
    print(
        "  (pyrate-limiter: while another thread decides), ! raised. ns: CPU time, with the loop;"
    )
    print("  M/s: by the wall.")


def _cell(value: float | None, width: int, digits: int = 1) -> str:
    return f"{'–' if value is None else f'{value:,.{digits}f}':>{width}}"


def _ratios(results: Results) -> dict[str, float]:
    """Print the time of each peer, as a multiple of ``agent.check`` on each engine."""
    found: dict[str, float] = {}
    for engine in ours.engines():
        for peer in PEERS:
            ratio = results.ratio(peer, f"{engine}: {ours.CHECK}")
            if ratio is not None:
                found[f"{peer} / {engine}: {ours.CHECK}"] = round(ratio, 3)
    for name, ratio in found.items():
        print(f"  {name:<60}{ratio:>9.2f} x")
    return found


def run() -> dict[str, object]:
    print(f"  {machine.title()}")
    builders, results = _builders(), Results()
    _one_key(builders, results)
    _exactness(builders, results)
    _many_keys(results)
    _table(results)
    ratios = _ratios(results)
    promised = targets.targets(results, KEYS)
    targets.show(promised)
    DRAWN.parent.mkdir(exist_ok=True)
    DRAWN.write_text(plot.draw(results, machine.title(), KEYS), "utf-8")
    return {
        "machine": machine.describe(),
        "keys": KEYS,
        "ratios": ratios,
        "targets": targets.as_json(promised),
        **results.as_json(),
    }


def record() -> None:
    """Replace the picture in the documentation by that of the last run."""
    shutil.copy(DRAWN, SHOWN)
    print(f"  recorded in {SHOWN.relative_to(HERE.parent)}")
