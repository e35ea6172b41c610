"""Building: from the merged fields of a limit or budget to the limit in force, caps applied."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratectl.policy import codes
from ratectl.policy.resolution.algorithms.registry import ALGORITHMS, algorithm_name
from ratectl.policy.resolution.effective_limit import Limit, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratectl.policy.resolution.algorithms.protocol import AlgorithmRules
    from ratectl.policy.resolution.effective_limit import Clip, Setting

__all__ = ["build_limit"]


def build_limit(
    name: str,
    settings: Mapping[str, Setting],
    cap: Mapping[str, Setting],
    *,
    budget: bool = False,
    conditional: bool = True,
) -> Limit | Problem:
    """Return the limit that merged fields make, or the reason why they make none.

    ``budget`` changes messages only. ``conditional``: a condition may have set a field.
    """
    rules = ALGORITHMS[algorithm_name(settings)]
    problem = _problem(name, rules, settings, budget=budget)
    if problem:
        return problem
    clips: dict[str, Clip] = {}
    parameters = rules.parameters(settings, cap, clips)
    return Limit(
        name=name,
        algorithm=rules.name,
        rate=parameters.rate,
        burst=parameters.burst,
        max=parameters.max,
        hold=parameters.hold,
        resets=parameters.resets,
        per=settings["per"].value if "per" in settings else (),
        mode=settings["mode"].value if "mode" in settings else "enforce",
        across=settings["across"].value if "across" in settings else None,
        settings=settings,
        clips=clips,
        touched=_touched(settings) if conditional else (),
    )


def _touched(settings: Mapping[str, Setting]) -> tuple[str, ...]:
    """Return the conditions that select the bucket: equal ones always mean equal parameters.

    An override whose every value was replaced is none of them, unless it changed ``algorithm``,
    which drops fields. An exception for all requests is none either, but the overrides that it
    replaced are: it changes a bucket's parameters, and not the bucket.
    """
    refs: dict[int, str] = {}
    for field, latest in settings.items():
        setting: Setting | None = latest
        while setting is not None:
            via = setting.via
            if via is not None and via.bit is not None:
                refs[via.bit] = via.ref
            if not (field == "algorithm" or (via is not None and via.exception)):
                break
            setting = setting.over
    return tuple([refs[bit] for bit in sorted(refs)])


def _problem(
    name: str, rules: AlgorithmRules, settings: Mapping[str, Setting], *, budget: bool
) -> Problem | None:
    """Return the first reason why these fields make no limit."""
    if rules.required not in settings:
        return _incomplete(name, rules, settings, budget=budget)
    for field in settings:
        if field not in rules.fields:
            return _misfit(field, rules)
    return rules.problem(settings)


def _incomplete(
    name: str, rules: AlgorithmRules, settings: Mapping[str, Setting], *, budget: bool
) -> Problem:
    needed = rules.required
    hint = f"add a {needed}, like {name}: {rules.example}, or check the limit's name"
    if needed == "rate" and "max" in settings:
        hint = f"add algorithm: concurrency, or a rate in place of max: {settings['max'].value}"
    return Problem(
        codes.INCOMPLETE,
        "",
        f"budget '{name}' has no {needed}, and budgets are not inherited"
        if budget
        else f"limit '{name}' has no {needed}: neither this scope nor one above gives it",
        hint,
    )


def _misfit(field: str, rules: AlgorithmRules) -> Problem:
    fitting = " or ".join(name for name, other in ALGORITHMS.items() if field in other.fields)
    return Problem(
        codes.MISFIT,
        field,
        f"a {rules.noun} has no {field}: {rules.why_lacking[field]}",
        f"remove {field}, or use algorithm: {fitting}",
    )
