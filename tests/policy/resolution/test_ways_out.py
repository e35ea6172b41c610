"""Hints about fields that do not fit: every way out that a hint names makes a valid limit."""

from __future__ import annotations

import re
from itertools import combinations
from typing import Any, Final

import pytest

from ratectl.policy import codes
from ratectl.policy.language.durations import Duration
from ratectl.policy.language.rates import Rate
from ratectl.policy.language.resets import Resets
from ratectl.policy.resolution.algorithms.registry import ALGORITHMS
from ratectl.policy.resolution.building import parameters_of
from ratectl.policy.resolution.effective_limit import Problem

VALUES: Final[dict[str, Any]] = {
    "rate": Rate.parse("600/min"),
    "burst": 100,
    "max": 10,
    "hold": Duration.parse("60s"),
    "precision": 64,
    "resets": Resets.parse("00:00 UTC"),
}
CASES = [
    (algorithm, fields)
    for algorithm in ALGORITHMS
    for size in range(1, len(VALUES) + 1)
    for fields in combinations(VALUES, size)
    if not ALGORITHMS[algorithm].fields.issuperset(fields)
]


def problem_of(values: dict[str, Any]) -> Problem | None:
    result = parameters_of("x", values, {}, {})
    return result if isinstance(result, Problem) else None


def ways(hint: str) -> list[str]:
    return re.split(r", or (?=use |write |remove )", hint)


def taken(way: str, values: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the fields after a way out was followed as it is written, for each algorithm in it."""
    after = dict(values)
    for removed in re.findall(r"(?:remove|in place of) ([a-z, and]+?)(?:, like|$)", way):
        for name in re.split(r", | and ", removed):
            del after[name]
    if added := re.search(r"(?:like|write) (rate|max): (\S+)", way):
        after[added[1]] = int(added[2]) if added[1] == "max" else Rate.parse(added[2])
    if algorithms := re.match(r"use algorithm: ([a-z-]+(?: or [a-z-]+)*)", way):
        return [{**after, "algorithm": name} for name in algorithms[1].split(" or ")]
    return [after]


@pytest.mark.parametrize(("algorithm", "fields"), CASES)
def test_every_way_out_makes_a_valid_limit(algorithm: str, fields: tuple[str, ...]) -> None:
    values = {"algorithm": algorithm, **{name: VALUES[name] for name in fields}}
    problem = problem_of(values)
    assert problem is not None
    assert problem.code in (codes.MISFIT, codes.INCOMPLETE)
    for way in ways(problem.hint):
        for after in taken(way, values):
            left = problem_of(after)
            # `resets` that do not fit the rate are a problem of their own.
            assert left is None or left.field == "resets", (problem.hint, way, left)
