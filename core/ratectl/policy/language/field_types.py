"""Types of the fields of policies: their names, bounds and choices."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from ratectl.policy.language.durations import Duration
from ratectl.policy.language.networks import parsed_network
from ratectl.policy.language.rates import UNIT_NS
from ratectl.policy.language.scopes import scope_problem

__all__ = [
    "MAX_BURST",
    "UNIT_PATTERN",
    "Absent",
    "Across",
    "Algorithm",
    "AttributeName",
    "Burst",
    "Consistency",
    "Hold",
    "LimitName",
    "Mode",
    "Network",
    "OnError",
    "Per",
    "Precision",
    "Scope",
    "UnitName",
    "as_list",
    "check_scope",
    "unique",
]

MAX_BURST = 10**9
"""Largest burst, largest count of a window, and most slots."""

UNIT_PATTERN = r"^[A-Za-z][A-Za-z0-9_-]{0,63}$"

MIN_HOLD_NS = 10**6
MAX_HOLD_NS = 52 * UNIT_NS["week"]

Algorithm = Literal["token-bucket", "sliding-window", "quota", "concurrency"]
Across = Literal["cluster", "redis"]
Consistency = Literal["strict", "optimistic"]
Mode = Literal["enforce", "shadow", "off"]
Absent = Literal["share", "skip"]
OnError = Literal["allow", "deny"]


def check_scope(scope: str) -> str:
    """Return a scope; a validator of pydantic."""
    problem = scope_problem(scope)
    if problem:
        raise PydanticCustomError("scope", "{reason}", {"reason": problem})
    return scope


def as_list(value: Any) -> Any:
    """``per: tenant`` is short for ``per: [tenant]``."""
    return (value,) if isinstance(value, str) else value


def unique(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names if none of them occurs twice."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise PydanticCustomError("repeated", "{name} is named twice", {"name": repr(name)})
        seen.add(name)
    return names


def _check_network(text: str) -> str:
    try:
        return str(parsed_network(text))
    except ValueError as error:
        raise PydanticCustomError("network", "{reason}", {"reason": str(error)}) from None


def _check_hold(hold: Duration) -> Duration:
    if not MIN_HOLD_NS <= hold.ns <= MAX_HOLD_NS:
        reason = f"{hold} is out of range for hold: write 0.001s to 52week"
        raise PydanticCustomError("duration", "{reason}", {"reason": reason})
    return hold


Scope = Annotated[str, AfterValidator(check_scope)]
Network = Annotated[str, AfterValidator(_check_network)]
# No dots: so "limits.spike.rate" can name only one field.
LimitName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
AttributeName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$")]
Burst = Annotated[int, Field(ge=0, le=MAX_BURST)]
Precision = Annotated[int, Field(ge=24, le=128)]
UnitName = Annotated[str, Field(pattern=UNIT_PATTERN)]
Hold = Annotated[Duration, AfterValidator(_check_hold)]
Per = Annotated[
    tuple[AttributeName, ...],
    BeforeValidator(as_list),
    AfterValidator(unique),
    Field(max_length=8, strict=False),
]
