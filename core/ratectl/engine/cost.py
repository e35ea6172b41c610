"""Costs: what a request takes of each unit that limits count."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ratectl.engine.buckets.counters import exact_text
from ratectl.errors import UsageError

__all__ = [
    "REQUESTS", "Cost", "checked_actual", "checked_cost", "checked_estimate", "checked_totals",
    "cost_in", "nothing_of",
]  # fmt: skip

REQUESTS: Final = "requests"
"""The unit of limits that name no other."""

Cost = int | Mapping[str, int]
"""Cost of a request: the number of requests, or a cost in each unit that it names. An engine keeps
a mapping as a new ``dict``, which nobody changes."""

_OR_UNITS: Final = ", or a mapping of units like {'tokens': 4000}"


def checked_cost(cost: object) -> Cost:
    """Return a cost as a plain ``int``, or as a new ``dict`` of units that names ``requests``.

    :raises UsageError: it is neither a whole number, 0 or more, nor a mapping of units to these.
    """
    checked = _checked("cost", cost)
    return checked if isinstance(checked, int) else {REQUESTS: 1, **checked}


def checked_actual(actual: object, cost: Cost) -> Cost:
    """Return the actual cost of a request that was decided with ``cost``, in the form of costs.

    A mapping need not name ``requests``: units that it does not name are not corrected.

    :raises UsageError: it is no cost; or it is an integer, and ``cost`` was a mapping.
    """
    checked = _checked("an actual cost", actual)
    if isinstance(checked, int) and not isinstance(cost, int):
        raise UsageError(
            f"the cost was a mapping of units, so the actual cost is one as well, not {checked}: "
            f"write {{'{REQUESTS}': {checked}}}, or the unit that you mean"
        )
    return checked


def checked_estimate(cost: object) -> int | dict[str, int]:
    """Return a cost as a plain ``int``, or as a new ``dict`` of only the units that it names.

    :raises UsageError: it is not a cost.
    """
    return _checked("cost", cost)


def checked_totals(totals: object) -> dict[str, int]:
    """Return the totals that a request has used so far as a new ``dict``, by unit.

    :raises UsageError: they are not a mapping of units to whole numbers, 0 or more.
    """
    checked = _checked("the total", totals) if issubclass(type(totals), Mapping) else None
    if not isinstance(checked, dict):
        raise UsageError(
            f"a total needs the name of its unit, like used(tokens=1500), not {_shown(totals)}"
        )
    return checked


def cost_in(cost: Cost, unit: str) -> int | None:
    """Return a checked cost in one unit; None if limits of that unit are not consulted.

    The integer 0 peeks at limits of all units.
    """
    if isinstance(cost, int):
        return cost if unit == REQUESTS or not cost else None
    return cost.get(unit)


def nothing_of(cost: Cost) -> Cost:
    """Return the actual cost that gives back all that a checked cost has charged."""
    return 0 if isinstance(cost, int) else dict.fromkeys(cost, 0)


def _checked(name: str, cost: object) -> int | dict[str, int]:
    # Not `isinstance`: it trusts `__class__`, which an object may fake.
    pairs = None if issubclass(type(cost), int) else _pairs(name, cost)
    if pairs is None:
        return _number(name, cost, _OR_UNITS)
    costs: dict[str, int] = {}
    for unit, number in pairs:
        if not issubclass(type(unit), str):
            raise UsageError(f"{name} maps names of units, like 'tokens', not {_shown(unit)}")
        text = exact_text(unit)
        if text in costs:
            raise UsageError(f"{name} names the unit {_shown(text)} twice: add the two costs")
        costs[text] = _number(f"{name} of {_shown(text)}", number)
    return costs


def _pairs(name: str, cost: object) -> list[tuple[object, object]] | None:
    """Return the items of a mapping, which is read only once; None for other objects.

    May run its code.
    """
    try:
        if type(cost) is dict:
            return list(cost.copy().items())  # another thread may change it meanwhile
        if issubclass(type(cost), Mapping):
            return [(unit, number) for unit, number in cost.items()]  # type: ignore[attr-defined]
    except Exception as error:
        raise UsageError(
            f"{name} is a mapping of units that cannot be read, as it raises {_shown(error)}"
        ) from error
    return None


def _number(name: str, number: object, otherwise: str = "") -> int:
    if issubclass(type(number), int) and type(number) is not bool:
        plain = int.__index__(number)  # type: ignore[arg-type]  # a subclass may override it
        if plain >= 0:
            return plain
    raise UsageError(f"{name} is a whole number, 0 or more{otherwise}, not {_shown(number)}")


def _shown(value: object) -> str:
    try:
        return repr(value)[:100]
    except Exception:  # noqa: BLE001  its ``__repr__`` may raise anything
        return f"a {type(value).__name__} that cannot be shown"
