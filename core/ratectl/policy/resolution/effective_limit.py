"""One limit or budget: from the fields that were said of it to what is in force, caps applied.

Knows which fields each algorithm has, what they default to, why a combination is no limit, and what
a cap makes of it. Where the fields come from is the business of ``resolve``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ratectl.policy import codes
from ratectl.policy.language.durations import Duration
from ratectl.policy.language.rates import NS, UNIT_NS, Rate
from ratectl.policy.language.resets import Resets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["BUILT_IN", "DEFAULT_HOLD", "FIELDS", "Clip", "Limit", "Problem", "Setting", "finish"]

BUILT_IN: Final = ""
"""The scope that set a value which nothing in the tree says: ratectl's own default."""

_COMMON: Final = frozenset({"algorithm", "per", "mode"})
FIELDS: Final = {
    "token-bucket": _COMMON | {"rate", "burst", "across"},
    "sliding-window": _COMMON | {"rate", "across"},
    "quota": _COMMON | {"rate", "resets"},
    "concurrency": _COMMON | {"max", "hold"},
}
"""The fields of each algorithm; those that it lacks are dropped when a limit changes to it."""

DEFAULT_HOLD: Final = Duration(60 * NS)
_MIDNIGHT: Final = Resets(0, 0)
_QUOTA_UNITS: Final = ("min", "h", "day", "week", "month")
_SHORTEST_MONTH: Final = 28 * UNIT_NS["day"]


class Via(NamedTuple):
    """The override or exception that set a value."""

    ref: str
    """Its name: ``gold@/payments``."""
    scope: str
    source: str
    """Its document, as ``PolicyTree.sources`` knows it."""
    path: str
    """The place of the override in its document, to be put before that of the field."""
    exception: bool
    bit: int | None
    """Its number among the conditions of the path; None where it holds for every request."""


class Setting(NamedTuple):
    """A value, the scope that set it, the setting that it beat (if any), and what else set it."""

    value: Any
    scope: str
    over: Setting | None = None
    via: Via | None = None

    def history(self) -> Iterator[Setting]:
        """This setting, then each that it beat, nearest first."""
        at: Setting | None = self
        while at is not None:
            yield at
            at = at.over


class Clip(NamedTuple):
    """A value lowered by a cap: what was asked, what is in force, and the cap that says so."""

    asked: Any
    value: Any
    cap: Setting

    @property
    def field(self) -> str:
        """Which field of the cap it is: a burst also bounds windows and slots."""
        return "burst" if isinstance(self.cap.value, int) else "rate"


class Problem(NamedTuple):
    """Why a limit cannot be used: a finding's code, the field at fault, and the words."""

    code: str
    field: str
    message: str
    hint: str


class Limit(NamedTuple):
    """A limit or budget in force at a scope. ``rate``, ``burst`` and ``max`` are after caps.

    ``burst`` is None for all but token buckets, and where the rate is ``unlimited``; ``resets`` for
    all but quotas; ``max`` and ``hold`` for all but concurrency, which has no ``rate``.
    """

    name: str
    algorithm: str
    rate: Rate | None
    burst: int | None
    per: tuple[str, ...]
    mode: str
    resets: Resets | None
    across: str | None
    settings: Mapping[str, Setting]
    clips: Mapping[str, Clip]
    touched: tuple[str, ...] = ()
    """The conditions that select its bucket: those with a say in its fields, in their order."""
    max: int | None = None
    hold: Duration | None = None

    @property
    def unlimited(self) -> bool:
        """Whether it passes all."""
        return self.rate is not None and self.rate.unlimited


def finish(
    name: str,
    said: Mapping[str, Setting],
    cap: Mapping[str, Setting],
    *,
    budget: bool = False,
    conditional: bool = True,
) -> Limit | Problem:
    """What the merged fields make, or why they make nothing.

    ``budget`` is for the words alone; ``conditional``: a condition may have set a field.
    """
    algorithm: str = said["algorithm"].value if "algorithm" in said else "token-bucket"
    problem = _problem(name, algorithm, said, budget=budget)
    if problem:
        return problem
    per = said["per"].value if "per" in said else ()
    mode = said["mode"].value if "mode" in said else "enforce"
    clips: dict[str, Clip] = {}
    if algorithm == "concurrency":
        most = _clip_count("max", said["max"].value, cap, clips)
        hold = said["hold"].value if "hold" in said else DEFAULT_HOLD
        slots = (name, algorithm, None, None, per, mode, None, None, said, clips)
        return Limit(*slots, _touched(said) if conditional else (), most, hold)
    rate: Rate = said["rate"].value
    burst: int | None = None
    resets: Resets | None = None
    if algorithm == "token-bucket":
        burst = said["burst"].value if "burst" in said else _default_burst(rate)
        if cap:
            rate = _clip_rate(rate, cap, clips)
            burst = _default_burst(rate) if burst is None else burst
            burst = _clip_count("burst", burst, cap, clips)
        if rate.unlimited:
            burst = None
    else:
        if cap:
            rate = _clip_window(rate, cap, clips, _calendar if algorithm == "quota" else _fixed)
        if algorithm == "quota":
            resets = said["resets"].value if "resets" in said else _MIDNIGHT
    across = said["across"].value if "across" in said else None
    touched = _touched(said) if conditional else ()
    return Limit(name, algorithm, rate, burst, per, mode, resets, across, said, clips, touched)


def _touched(said: Mapping[str, Setting]) -> tuple[str, ...]:
    """The conditions with a say, so that equal ones always mean equal parameters.

    An override whose every value was beaten has none, save by a change of ``algorithm``, which
    drops fields. An exception for all requests does not count, and what it beat still does: it
    changes a bucket's parameters and not the bucket.
    """
    found: dict[int, str] = {}
    for field, setting in said.items():
        at: Setting | None = setting
        while at is not None:
            via = at.via
            if via is not None and via.bit is not None:
                found[via.bit] = via.ref
            if not (field == "algorithm" or (via is not None and via.exception)):
                break
            at = at.over
    return tuple([found[bit] for bit in sorted(found)])


def _problem(
    name: str, algorithm: str, said: Mapping[str, Setting], *, budget: bool
) -> Problem | None:
    """Why these fields are no limit; of several reasons the first."""
    needed = "max" if algorithm == "concurrency" else "rate"
    if needed not in said:
        return _incomplete(name, needed, said, budget=budget)
    for field in said:
        if field not in FIELDS[algorithm]:
            return _misfit(field, algorithm)
    if algorithm == "concurrency":
        return None
    rate: Rate = said["rate"].value
    if algorithm == "quota":
        return _quota_problem(rate, said)
    if rate.unit == "month":
        return Problem(
            codes.MISFIT,
            "rate",
            "a month has no fixed length, so no bucket or window can follow it",
            "write a number of days, like 1000/30day, or algorithm: quota",
        )
    if algorithm == "sliding-window" and rate.count is None and not rate.unlimited:
        return Problem(
            codes.MISFIT,
            "rate",
            f"a sliding-window counts whole requests, {rate} does not",
            f"lengthen the window: {_whole(rate)}",
        )
    return None


def _incomplete(name: str, needed: str, said: Mapping[str, Setting], *, budget: bool) -> Problem:
    example = "{algorithm: concurrency, max: 50}" if needed == "max" else "{rate: 100/s}"
    hint = f"add a {needed}, like {name}: {example}, or check the limit's name"
    if needed == "rate" and "max" in said:
        hint = f"add algorithm: concurrency, or a rate in place of max: {said['max'].value}"
    return Problem(
        codes.INCOMPLETE,
        "",
        f"budget '{name}' has no {needed}, and budgets are not inherited"
        if budget
        else f"limit '{name}' has no {needed}: neither this scope nor one above gives it",
        hint,
    )


_WHY_NOT: Final = {
    "burst": "its count is the most admitted at once",
    "resets": "it begins with its first request, not at a time of day",
    "across": "a quota is counted in each agent",
    "max": "it counts requests when they begin, and not how many go on",
    "hold": "its requests take nothing that they give back",
}
_WHY_NOT_OF_SLOTS: Final = {
    "rate": "it counts the requests that go on, however fast they come",
    "burst": "max is the most admitted at once",
    "resets": "a slot is free when its request is over",
    "across": "slots are counted in each agent",
}


def _misfit(field: str, algorithm: str) -> Problem:
    slots = algorithm == "concurrency"
    why = (_WHY_NOT_OF_SLOTS if slots else _WHY_NOT)[field]
    fitting = " or ".join(name for name, has in FIELDS.items() if field in has)
    return Problem(
        codes.MISFIT,
        field,
        f"a {algorithm}{' limit' if slots else ''} has no {field}: {why}",
        f"remove {field}, or use algorithm: {fitting}",
    )


def _quota_problem(rate: Rate, said: Mapping[str, Setting]) -> Problem | None:
    if rate.unlimited:
        return None
    if rate.unit not in _QUOTA_UNITS or rate.multiple != 1 or rate.count is None:
        return Problem(
            codes.MISFIT,
            "rate",
            f"a quota counts whole requests in one calendar {', '.join(_QUOTA_UNITS[:-1])} or "
            f"{_QUOTA_UNITS[-1]}, {rate} does not",
            "write a whole number for one of these, like 500_000/day, or use another algorithm",
        )
    resets: Resets | None = said["resets"].value if "resets" in said else None
    if resets is None:
        return None
    if rate.unit in ("min", "h"):
        wrong = (
            f"a quota per {rate.unit} begins with each {rate.unit}, and resets at no time of day"
        )
    elif resets.weekday is not None and rate.unit != "week":
        wrong = f"a quota per {rate.unit} does not begin on a weekday"
    elif resets.day is not None and rate.unit != "month":
        wrong = f"a quota per {rate.unit} does not begin on a day of the month"
    else:
        return None
    return Problem(
        codes.MISFIT, "resets", wrong, "remove resets, or the day in it, or change the rate's unit"
    )


def _whole(rate: Rate) -> str:
    multiple = "" if rate.multiple == 1 and rate.denominator == 1 else rate.multiple
    return f"{rate.numerator}/{int(multiple or 1) * rate.denominator}{rate.unit}"


def _default_burst(rate: Rate) -> int | None:
    return None if rate.unlimited else max(1, rate.per_second_ceiling)


def _clip_rate(rate: Rate, cap: Mapping[str, Setting], clips: dict[str, Clip]) -> Rate:
    ceiling = cap.get("rate")
    if ceiling is None or not rate.exceeds(ceiling.value):
        return rate
    lowered: Rate = ceiling.value
    if lowered.unit == "month":  # for quotas: no bucket can follow it, so the slowest month
        lowered = replace(lowered, multiple=31 * lowered.multiple, unit="day")
    clips["rate"] = Clip(rate, lowered, ceiling)
    return lowered


def _clip_count(
    field: str, count: int | None, cap: Mapping[str, Setting], clips: dict[str, Clip]
) -> int | None:
    """What is admitted at once, a burst or slots: a cap's burst holds for both."""
    ceiling = cap.get("burst")
    if count is None or ceiling is None or count <= ceiling.value:
        return count
    clips[field] = Clip(count, ceiling.value, ceiling)
    lowered: int = ceiling.value
    return lowered


def _clip_window(
    rate: Rate,
    cap: Mapping[str, Setting],
    clips: dict[str, Clip],
    fitting: Callable[[Rate], Rate],
) -> Rate:
    """A window keeps its length: its count is what a cap lowers, by rate and by burst."""
    for setting in (cap.get("rate"), cap.get("burst")):
        if setting is None:
            continue
        if not rate.unlimited:
            lowered = _lower_count(rate, setting)
        elif isinstance(setting.value, Rate) and not setting.value.unlimited:
            # Nothing says how long the window was to be: the cap's own.
            lowered = fitting(setting.value)
        else:
            lowered = rate
        if lowered != rate:
            clips["rate"] = Clip(clips["rate"].asked if "rate" in clips else rate, lowered, setting)
            rate = lowered
    return rate


def _fixed(rate: Rate) -> Rate:
    """The same pace over a window in which it counts whole requests; of months the slowest."""
    multiple = rate.multiple * rate.denominator
    if rate.unit == "month":
        return Rate(rate.numerator, 1, 31 * multiple, "day")
    return replace(rate, denominator=1, multiple=multiple)


def _calendar(rate: Rate) -> Rate:
    """No more than this pace, in the shortest calendar window that is as long as the rate's."""
    if rate.unit in _QUOTA_UNITS and rate.multiple == 1 and rate.count is not None:
        return rate
    span = (rate.window_ns or rate.multiple * _SHORTEST_MONTH) * rate.denominator
    for unit in _QUOTA_UNITS:
        length = UNIT_NS.get(unit, _SHORTEST_MONTH)
        if length >= span:
            break
    return Rate(rate.numerator * length // span, 1, 1, unit)


def _lower_count(rate: Rate, cap: Setting) -> Rate:
    if isinstance(cap.value, Rate):
        window = rate.window_ns or rate.multiple * _SHORTEST_MONTH
        pace = cap.value.per_second
        most = None if pace is None else pace.numerator * window // (pace.denominator * NS)
    else:
        most = cap.value
    if most is None or rate.numerator <= most:
        return rate
    return Rate(most, 1, rate.multiple, rate.unit)
