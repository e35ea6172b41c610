"""Hints for a limit whose fields do not fit its algorithm: each way out leads to a valid limit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ratectl.policy.resolution.algorithms.registry import ALGORITHMS
from ratectl.runtime.wording import joined

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ratectl.policy.resolution.algorithms.protocol import AlgorithmRules

__all__ = ["ways_out"]


def ways_out(rules: AlgorithmRules, values: Mapping[str, Any]) -> str:
    """Return what to write instead of fields that ``rules`` lacks.

    One way keeps the algorithm. The other one keeps as many of the fields as possible.
    """
    wrong = _lacking(rules, values)
    ways = [f"remove {joined(wrong)}"]
    if wrong == ["across"]:
        ways.insert(0, "write across: redis")
    if rules.required not in values:
        ways = [_required_instead(rules, values, joined(wrong))]
    fitting = [other for other in ALGORITHMS.values() if _fits(other, values)]
    if fitting:
        other = f"use algorithm: {' or '.join(other.name for other in fitting)}"
        purpose = " to limit requests in progress" if fitting[0].holds_slots else ""
        ways.append(other + purpose)
        if purpose and "algorithm" not in values:
            ways.reverse()  # who writes max, and no algorithm, most likely means this one
    else:
        ways += _with_less(wrong[0], values)
    return ", or ".join(ways)


def _required_instead(rules: AlgorithmRules, values: Mapping[str, Any], wrong: str) -> str:
    """Return how to write the field that the algorithm needs, with the number that is known."""
    if rules.required == "rate" and "max" in values:
        window = rules.example_field.partition("/")[2]
        return f"write rate: {values['max']}/{window} in place of {wrong}"
    return f"write {rules.required} in place of {wrong}, like {rules.example_field}"


def _with_less(field: str, values: Mapping[str, Any]) -> Iterable[str]:
    """Yield the way that keeps ``field`` and gives up others, if there is one."""
    others = [other for other in ALGORITHMS.values() if other.takes(field, values[field])]
    others.sort(key=lambda other: len(_lacking(other, values)))
    for other in others:
        less = {name: value for name, value in values.items() if other.takes(name, value)}
        if _fits(other, less):
            removed = joined(_lacking(other, values))
            yield f"use algorithm: {other.name} and remove {removed}"
            return


def _lacking(rules: AlgorithmRules, values: Mapping[str, Any]) -> list[str]:
    return [name for name, value in values.items() if not rules.takes(name, value)]


def _fits(rules: AlgorithmRules, values: Mapping[str, Any]) -> bool:
    """Return True if the fields make a limit of this algorithm."""
    return (
        rules.required in values and not _lacking(rules, values) and rules.problem(values) is None
    )
