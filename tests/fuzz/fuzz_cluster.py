"""Lies of members, and damaged frames: ``make fuzz``, or run it with a number of seconds."""

from __future__ import annotations

import sys
import time
from itertools import count
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "cluster")]


def main() -> int:
    from liar import damage, lie

    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 600
    first = int(sys.argv[2]) if len(sys.argv) > 2 else int(time.time())
    until, understood, least = time.monotonic() + seconds, 0, 9.0
    for seed in count(first):
        least = min(least, *lie(seed, 1))
        if least < 0.95:
            print(f"seed {seed}: honest members have used {least:.0%} of their shares")
            return 1
        understood += damage(seed, 2_000)
        if time.monotonic() >= until:
            break
    told = seed + 1 - first
    print(
        f"seeds {first} to {seed}: {told} clusters with a liar, honest members have used "
        f"{least:.0%} of their shares or more; {2_000 * told:,} damaged messages, of which "
        f"{understood:,} are still messages, and the others are refused"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
