"""Make N and 2N decisions under a tool that counts instructions, for ``bench.instructions``.

The tool writes its count when a process exits. So a child that exits at once is forked before the
decisions, between them and after them. The cost of forking is in every child and cancels out, and
the start of Python is paid once. Prints, for each case, the three children.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from itertools import repeat
from typing import TYPE_CHECKING

from bench.deciding import ours
from bench.deciding.candidate import KEY, Setting
from bench.deciding.floors import C_CALL, FLOORS, PYTHON_CALL

if TYPE_CHECKING:
    from bench.deciding.candidate import Builder

__all__ = ["CASES", "main"]

CASES = (
    ours.CHECK,
    ours.EXPORTED,
    ours.SIX,
    ours.MANY,
    ours.GATE,
    ours.SLOTS,
    ours.SLOTS_BESIDE,
    ours.LOCAL,
    ours.POOLED,
    ours.POOLED_BY_KEY,
    ours.SIDECAR,
    ours.SIDECAR_THREE,
    ours.SIDECAR_REFUSED,
)
_WARM = 200


def _builders() -> dict[str, Builder]:
    found: dict[str, Builder] = {name: FLOORS[name] for name in (C_CALL, PYTHON_CALL)}
    for engine in ours.engines():
        of = ours.of(engine)
        found |= {name: of[name] for case in CASES if (name := f"{engine}: {case}") in of}
    return found


def _snapshot() -> int:
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    return child


def main(calls: int) -> dict[str, object]:
    """Return for each case: decisions in N calls, and the three children's process ids."""
    cases: dict[str, object] = {}
    candidates = {}
    for name, build in _builders().items():
        try:
            candidates[name] = build(Setting())
        except ImportError as missing:
            print(f"(without {name}: {missing})", file=sys.stderr)
    for engine in {name.partition(":")[0] for name in candidates if ours.CHECK in name}:
        ours.agent_on(engine, Setting()).close()  # its threads would be counted as well
    gc.disable()
    for name, candidate in candidates.items():
        loop = candidate.hot()
        loop(repeat(KEY, _WARM))
        children = [_snapshot()]
        for times in (1, 2):
            loop(repeat(KEY, times * calls))
            children.append(_snapshot())
        cases[name] = [calls * candidate.decisions, children]
    return cases


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]))))
