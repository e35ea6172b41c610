"""Brute-force checks of the algorithms' promises on a log of admitted requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from fractions import Fraction

    from ratectl.engine.api import Engine

Admitted = tuple[int, int]
"""Instant in nanoseconds, and the cost admitted then."""


def assert_token_promise(log: Sequence[Admitted], rate: Fraction, burst: int) -> None:
    """Assert that any span of t, ends included, admitted at most ``burst + rate * t``."""
    for first in range(len(log)):
        total = 0
        for last in range(first, len(log)):
            total += log[last][1]
            span = log[last][0] - log[first][0]
            assert total <= burst + rate * span, f"{total} in {span} ns from {log[first][0]}"


def assert_window_promise(log: Sequence[Admitted], most: int, length: int) -> None:
    """Assert that any window of ``length`` admitted at most ``most``."""
    for start, _ in log:
        total = sum(cost for at, cost in log if start <= at < start + length)
        assert total <= most, f"{total} in the window from {start}"


def assert_exact_retry(
    engine: Engine, scope: str, attributes: dict[str, str], cost: int, now: int
) -> int:
    """Assert that a request refused at ``now`` passes at the named instant, and not 1 ns before.

    Returns that instant; the request that passed has been charged.
    """
    refused = engine.check(scope, attributes, cost, now=now)
    assert refused.reason == "limited"
    wait = refused.retry_after_ns
    assert wait is not None
    assert wait > 0
    assert not engine.check(scope, attributes, cost, now=now + wait - 1)
    assert engine.check(scope, attributes, cost, now=now + wait)
    return now + wait
