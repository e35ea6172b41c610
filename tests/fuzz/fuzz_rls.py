"""Damaged messages and connections of Envoy: ``make fuzz``, or run it with a number of seconds."""

from __future__ import annotations

import sys
import time
from itertools import count
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))


def main() -> int:
    from ratectl.sidecar.sidecar import SERVERS
    from sidecar.damaging import connection, messages
    from sidecar.test_rls_core import Twins

    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 600
    first = int(sys.argv[2]) if len(sys.argv) > 2 else int(time.time()) * 1_000
    until, understood, calls = time.monotonic() + seconds, 0, 0
    for seed in count(first):
        calls += sum(connection(seed, server) for server in SERVERS[:-1])
        if seed % 20 == 0:
            twins = Twins()
            understood += messages(seed, twins, 2_000)
            twins.close()
        if time.monotonic() >= until and seed > first + 20:
            break
    print(
        f"seeds {first} to {seed}: damaged connections have made {calls:,} calls; of the damaged "
        f"messages, {understood:,} are still requests, and all readers agree on each"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
