"""The simulation finds protocols that are wrong in one place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from ratectl.cluster.protocol import lender
from simulation.mutants import NAMED, PATCHED, DeltaDraw
from simulation.refund_mutants import BUCKETS as REFUNDS
from simulation.refund_mutants import WINDOWS as REFUNDS_OF_WINDOWS
from simulation.schedule import random_schedule, window_schedule
from simulation.shrinking import failure
from simulation.window_mutants import WINDOWS

if TYPE_CHECKING:
    from collections.abc import Callable

    from simulation.schedule import Schedule

MOST: Final = 400
"""Seeds that are tried."""

FIRST: Final = {
    "spends after expiry": 51, "resumes early": 17, "resumes while tokens are out": 26,
    "lends from receipt": 26, "lease from receipt": 20, "lends to any owner": 44,
    "revives tokens": 63, "renews from receipt": 174, "brings tokens again": 45,
    "answers a close at once": 34, "brings every time": 126, "growth is free after a pause": 40,
    "void tokens do not cool": 7, "finds a share as it left it": 53, "refunds a full pool": 20,
    "refunds again": 45, "frees what was spent later": 4,
}  # fmt: skip
"""Seed at which to begin, where the first one that finds the mutant comes late."""


def found(mutant: str, schedule: Callable[[int], Schedule] = random_schedule) -> bool:
    first = FIRST.get(mutant, 0)
    seeds = [*range(first, first + 3), *range(MOST)]
    return any(failure(schedule(seed), NAMED.get(mutant)) is not None for seed in seeds)


@pytest.mark.parametrize("mutant", NAMED)
def test_a_faulty_part_is_found(mutant: str) -> None:
    assert found(mutant)


@pytest.mark.parametrize("mutant", [*PATCHED, *REFUNDS])
def test_a_faulty_pool_is_found(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    {**PATCHED, **REFUNDS}[mutant](monkeypatch)
    assert found(mutant)


@pytest.mark.parametrize("mutant", [*WINDOWS, *REFUNDS_OF_WINDOWS])
def test_a_faulty_window_is_found(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    {**WINDOWS, **REFUNDS_OF_WINDOWS}[mutant](monkeypatch)
    assert found(mutant, window_schedule)


def test_grants_that_are_added_up_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lender, "Draw", DeltaDraw)
    assert found("delta grants")
