"""``python -m bench [--record] [name] …``: benchmarks of ``BENCHES``; all of them without a name.

Prints the figures and writes them to ``bench/out/<name>.json``, which Git ignores. ``--record``
also replaces the picture of ``decisions`` in ``docs/img``.
"""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bench import (
    beside,
    central,
    choosing,
    cluster_keys,
    decisions,
    flood,
    json_api,
    loading,
    middleware,
    panic,
    propagation,
    reload,
    restart,
    rls,
    scale,
    simulate,
    stable_keys,
    startup,
    windows,
)
from bench.cluster import crash
from bench.cluster import table as cluster

if TYPE_CHECKING:
    from collections.abc import Callable

BENCHES: dict[str, Callable[[], dict[str, object]]] = {
    "startup": startup.run,
    "loading": loading.run,
    "scale": scale.run,
    "decisions": decisions.run,
    "flood": flood.run,
    "windows": windows.run,
    "reload": reload.run,
    "restart": restart.run,
    "rls": rls.run,
    "http": json_api.run,
    "choosing": choosing.run,
    "beside": beside.run,
    "propagation": propagation.run,
    "panic": panic.run,
    "simulate": simulate.run,
    "stable_keys": stable_keys.run,
    "middleware": middleware.run,
    "cluster": cluster.run,
    "cluster_keys": cluster_keys.run,
    "cluster_crash": crash.run,
    "redis": central.run,
}


def main() -> int:
    names = [word for word in sys.argv[1:] if word != "--record"] or list(BENCHES)
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        print(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(BENCHES)}")
        return 64
    recorded = "--record" in sys.argv[1:]
    if recorded and decisions.QUICK:
        print("--record needs a whole run: unset RATECTL_BENCH_QUICK")
        return 64
    out = Path(__file__).parent / "out"
    out.mkdir(exist_ok=True)
    for name in names:
        print(f"== {name}: {(sys.modules[BENCHES[name].__module__].__doc__ or '').splitlines()[0]}")
        figures = {"python": platform.python_version(), **BENCHES[name]()}
        (out / f"{name}.json").write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    if recorded and "decisions" in names:
        decisions.record()
    return 0


if __name__ == "__main__":
    sys.exit(main())
