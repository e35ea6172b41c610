"""Fuzzing of the policy loader: ``make fuzz``, or ``python tests/fuzz/fuzz_loader.py [SECONDS]``.

Guided by coverage where atheris is installed, by hypothesis elsewhere. An input that breaks a rule
of ``hostile.check_anything`` fails the run: it is kept as ``.fuzz/crash-*``, or printed.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
KEPT = ROOT / ".fuzz"
MAX_INPUT = 8_192
"""Bytes of an input: what larger ones cost is the business of ``cli/test_bombs.py``."""

sys.path.insert(0, str(ROOT / "tests"))


def main() -> int:
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 600
    KEPT.mkdir(exist_ok=True)
    try:
        import atheris
    except ImportError:
        print("atheris is not installed here: fuzzing with hypothesis, not guided by coverage")
        return _with_hypothesis(seconds)
    # The parser in Python is the one whose branches can be seen.
    with atheris.instrument_imports(include=["ratectl.policy", "yaml"]):
        import yaml

        import hostile
        from ratectl.policy.yaml import events

    fast = events._LOADER

    def both_parsers(data: bytes) -> None:
        for parser in (yaml.SafeLoader, fast):
            events._LOADER = parser
            hostile.check_anything(data)

    atheris.Setup(_options(sys.argv[0], seconds), both_parsers)
    atheris.Fuzz()  # ends the process
    return 0


def _options(program: str, seconds: int) -> list[str]:
    """The words of libFuzzer's command line, with the seeds and the dictionary in place."""
    from hostile import KEYWORDS, SEEDS

    corpus, seeds, words = KEPT / "corpus", KEPT / "seeds", KEPT / "words.dict"
    corpus.mkdir(exist_ok=True)
    seeds.mkdir(exist_ok=True)
    for path in SEEDS:
        (seeds / path.name).write_bytes(path.read_bytes())
    lines = ("".join(f"\\x{byte:02x}" for byte in word.encode()) for word in KEYWORDS)
    words.write_text("".join(f'"{line}"\n' for line in lines))
    return [
        program,
        f"-max_total_time={seconds}",
        f"-max_len={MAX_INPUT}",
        f"-dict={words}",
        f"-artifact_prefix={KEPT}/",
        "-timeout=20",  # seconds of one input, seen through the instrumentation
        "-rss_limit_mb=1000",
        "-print_final_stats=1",
        str(corpus),
        str(seeds),
    ]


def _with_hypothesis(seconds: int) -> int:
    from hypothesis import HealthCheck, given, seed, settings

    from hostile import check_anything, mutants

    end, rounds, inputs = time.monotonic() + seconds, 0, 0

    @settings(
        max_examples=500, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )
    @given(mutants())
    def one_round(data: bytes) -> None:
        nonlocal inputs
        inputs += 1
        check_anything(data)

    while time.monotonic() < end:
        seed(time.time_ns())(one_round)()
        rounds += 1
    print(f"{inputs} inputs in {rounds} rounds, none of them broke a rule")
    return 0


if __name__ == "__main__":
    sys.exit(main())
