"""Building: from the merged fields of a limit or budget to the limit in force, caps applied."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ratectl.policy import codes
from ratectl.policy.resolution.algorithms.registry import ALGORITHMS, DEFAULT_ALGORITHM
from ratectl.policy.resolution.effective_limit import (
    DEFAULT_ABSENT,
    DEFAULT_CONSISTENCY,
    DEFAULT_UNIT,
    Clip,
    Limit,
    Problem,
)
from ratectl.policy.resolution.ways_out import ways_out

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ratectl.policy.resolution.algorithms.protocol import AlgorithmRules, Parameters
    from ratectl.policy.resolution.clipping import Clipped
    from ratectl.policy.resolution.effective_limit import Setting, Via

__all__ = ["DEFAULT_MODE", "build_limit", "parameters_of"]

DEFAULT_MODE: Final = "enforce"


def build_limit(
    name: str,
    settings: Mapping[str, Setting],
    cap: Mapping[str, Setting],
    capping: Sequence[Via] = (),
    *,
    budget: bool = False,
    conditional: bool = True,
) -> Limit | Problem:
    """Return the limit that merged fields make, or the reason why they make none.

    ``cap`` is the tightest one, and ``capping`` are the overrides that cap the limit. A budget has
    no caps, and fewer fields. ``conditional``: a condition may have set a field or a cap.
    """
    values = {field: setting.value for field, setting in settings.items()}
    ceiling = {field: setting.value for field, setting in cap.items()} if cap else {}
    clipped: dict[str, Clipped] = {}
    parameters = parameters_of(name, values, ceiling, clipped, budget=budget)
    if isinstance(parameters, Problem):
        return parameters
    return Limit(
        name=name,
        algorithm=values.get("algorithm", DEFAULT_ALGORITHM),
        rate=parameters.rate,
        burst=parameters.burst,
        max=parameters.max,
        hold=parameters.hold,
        resets=parameters.resets,
        precision=parameters.precision,
        per=values.get("per", ()),
        mode=values.get("mode", DEFAULT_MODE),
        across=values.get("across"),
        consistency=values.get("consistency", DEFAULT_CONSISTENCY),
        unit=values.get("unit", DEFAULT_UNIT),
        absent=values.get("absent", DEFAULT_ABSENT),
        settings=settings,
        clips=_with_origins(clipped, cap) if clipped else {},
        touched=_touched(settings, capping) if conditional else (),
    )


def _with_origins(clipped: Mapping[str, Clipped], cap: Mapping[str, Setting]) -> dict[str, Clip]:
    return {field: Clip(asked, value, cap[by]) for field, (asked, value, by) in clipped.items()}


def parameters_of(
    name: str,
    values: Mapping[str, Any],
    cap: Mapping[str, Any],
    clips: dict[str, Clipped],
    *,
    budget: bool = False,
) -> Parameters | Problem:
    """Return the parameters of the limit that merged fields make, or why they make none.

    ``values`` has the merged fields, and ``cap`` the tightest ``rate`` and ``burst``; clips are
    added to ``clips``.
    """
    rules = ALGORITHMS[values.get("algorithm", DEFAULT_ALGORITHM)]
    problem = _problem(name, rules, values, budget=budget)
    return problem or rules.parameters(values, cap, clips)


def _touched(settings: Mapping[str, Setting], capping: Sequence[Via]) -> tuple[str, ...]:
    """Return the conditions that select the bucket: equal ones always mean equal parameters.

    An override whose every value was replaced is none of them, unless it changed ``algorithm``,
    which drops fields. An exception for all requests is none either, but the overrides that it
    replaced are: it changes a bucket's parameters, and not the bucket. An override that caps the
    limit is one, whether its cap clips or not.
    """
    refs = {via.bit: via.ref for via in capping if via.bit is not None}
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
    name: str, rules: AlgorithmRules, values: Mapping[str, Any], *, budget: bool
) -> Problem | None:
    """Return the first reason why these fields make no limit."""
    wrong = next((name for name, value in values.items() if not rules.takes(name, value)), None)
    if rules.required not in values:
        return _incomplete(name, rules, values, wrong, budget=budget)
    if budget and "absent" in values:
        return Problem(
            codes.MISFIT,
            "absent",
            "a budget takes no absent: it counts every request of its subtree",
            "remove absent, or write a limit",
        )
    if wrong is not None:
        return Problem(codes.MISFIT, wrong, _misfit(wrong, rules, values), ways_out(rules, values))
    return rules.problem(values)


def _incomplete(
    name: str,
    rules: AlgorithmRules,
    values: Mapping[str, Any],
    wrong: str | None,
    *,
    budget: bool,
) -> Problem:
    needed = rules.required
    what = "budget" if budget else "limit"
    if wrong is not None:
        message = f"{what} '{name}' has no {needed}: {_misfit(wrong, rules, values, needed)}"
        return Problem(codes.INCOMPLETE, "", message, ways_out(rules, values))
    return Problem(
        codes.INCOMPLETE,
        "",
        f"budget '{name}' has no {needed}, and a budget does not take the {needed} of the scope "
        "above"
        if budget
        else f"limit '{name}' has no {needed}: neither this scope nor one above gives it",
        f"add a {needed}, like {rules.example_field}"
        + ("" if budget else ", or correct the limit's name"),
    )


def _misfit(
    field: str, rules: AlgorithmRules, values: Mapping[str, Any], needed: str | None = None
) -> str:
    """Return why a field does not fit the algorithm; ``needed``: the field that is missing."""
    noun = rules.noun if "algorithm" in values else f"{rules.noun} (the default algorithm)"
    if {field, needed} == {"rate", "max"}:
        takes = f"a {needed}" if needed == "rate" else f"{needed}, a number of requests in progress"
        return f"a {noun} takes no {field}, it takes {takes}"
    if field == "across":
        return f"a {noun} takes no across: {values['across']}: only a server counts it (redis)"
    return f"a {noun} takes no {field}: {rules.why_lacking[field]}"
