"""The fields of a limit: one row for each, used by explanations, changes and checks alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ratectl.policy.resolution.algorithms.registry import DEFAULT_ALGORITHM, rules_of
from ratectl.policy.resolution.algorithms.windows import DEFAULT_PRECISION
from ratectl.policy.resolution.effective_limit import (
    DEFAULT_ABSENT,
    DEFAULT_CONSISTENCY,
    DEFAULT_UNIT,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from ratectl.policy.resolution.effective_limit import Limit

__all__ = ["EXPLAINED_FIELDS", "FIELDS", "NOTICED_FIELDS", "Field", "amounts_text", "selects_alike"]


class Field(NamedTuple):
    """One field of a limit: its place in lists, its text, and its part in comparisons."""

    name: str
    explained: int
    """Place in the explanation of a limit."""
    noticed: int
    """Place among the fields that explain a change."""
    text: Callable[[Limit], str | None]
    """Text in the line of a limit; None if there is nothing to write."""
    value: Callable[[Limit], object] | None = None
    """Value that requests can notice; by default the field's own."""
    default: Any = None
    """Value without a setting, if it does not depend on other fields."""
    explains_default: bool = False
    """True if explanations also show a default value."""
    decides: bool = True
    """True if the field decides which requests are refused, while the limit is enforced."""
    selects_bucket: bool = False
    """True if the field selects or shapes the bucket: an exception cannot change it."""
    kept_below_cap: bool = False
    """True if a capped limit must keep the value."""

    def noticed_value(self, limit: Limit) -> object:
        """Return the value that requests can notice."""
        return getattr(limit, self.name) if self.value is None else self.value(limit)


def _rate(limit: Limit) -> object:
    return None if limit.rate is None else rules_of(limit).noticed_rate(limit.rate)


def _counted(limit: Limit, amount: object) -> str | None:
    """Return an amount with its unit: ``100/s``, ``4000/min tokens``, ``max 8 tokens``."""
    if amount is None:
        return None
    return f"{amount}" if limit.unit == DEFAULT_UNIT else f"{amount} {limit.unit}"


def _consistency(limit: Limit) -> str | None:
    """Return how exactly agents share a limit; None if they do not share it."""
    return limit.consistency if limit.across == "cluster" else None


def _resets_text(limit: Limit) -> str | None:
    """Return the time of day; None for seconds to hours, which begin with the clock's."""
    if limit.resets is None or limit.rate is None or limit.rate.unit in ("s", "min", "h"):
        return None
    return f"resets {limit.resets}"


FIELDS: Final = (
    Field(
        "algorithm", explained=9, noticed=1,
        text=lambda limit: limit.algorithm,
        default=DEFAULT_ALGORITHM, selects_bucket=True, kept_below_cap=True,
    ),
    Field(
        "rate", explained=1, noticed=2,
        text=lambda limit: _counted(limit, limit.rate),
        value=_rate,
    ),
    Field(
        "burst", explained=2, noticed=3,
        text=lambda limit: None if limit.burst is None else f"burst {limit.burst}",
        explains_default=True,
    ),
    Field(
        "max", explained=3, noticed=4,
        text=lambda limit: None if limit.max is None else f"max {_counted(limit, limit.max)}",
    ),
    Field(
        "hold", explained=4, noticed=5,
        text=lambda limit: None if limit.hold is None else f"hold {limit.hold}",
        value=lambda limit: limit.hold and limit.hold.ns,
        explains_default=True,
    ),
    Field(
        "resets", explained=5, noticed=9, text=_resets_text,
        explains_default=True, selects_bucket=True,
    ),
    Field(
        "unit", explained=8, noticed=8, text=lambda _: None,
        default=DEFAULT_UNIT, selects_bucket=True, kept_below_cap=True,
    ),
    Field(
        "precision", explained=12, noticed=11,
        text=lambda limit: (
            None if limit.precision in (None, DEFAULT_PRECISION)
            else f"precision {limit.precision}"
        ),
        default=DEFAULT_PRECISION,
    ),
    Field(
        "per", explained=6, noticed=6,
        text=lambda limit: f"per {', '.join(limit.per)}" if limit.per else None,
        default=(), selects_bucket=True, kept_below_cap=True,
    ),
    Field(
        "absent", explained=7, noticed=7,
        text=lambda limit: None if limit.absent == DEFAULT_ABSENT else f"absent {limit.absent}",
        default=DEFAULT_ABSENT, decides=False,
    ),
    Field(
        "across", explained=11, noticed=12,
        text=lambda limit: None if limit.across is None else f"across {limit.across}",
        decides=False, selects_bucket=True,
    ),
    Field(
        "consistency", explained=13, noticed=13,
        text=lambda limit: "optimistic" if _consistency(limit) == "optimistic" else None,
        value=_consistency,
        default=DEFAULT_CONSISTENCY, decides=False,
    ),
    Field(
        "mode", explained=10, noticed=10,
        text=lambda limit: None if limit.mode == "enforce" else limit.mode,
        default="enforce", decides=False,
    ),
)  # fmt: skip
"""All fields, in the order in which the line of a limit names them."""

EXPLAINED_FIELDS: Final = tuple(sorted(FIELDS, key=lambda field: field.explained))
"""All fields, in the order of explanations."""

NOTICED_FIELDS: Final = tuple(sorted(FIELDS, key=lambda field: field.noticed))
"""All fields; first those that explain a change best."""

_AMOUNTS: Final = tuple(field for field in FIELDS if field.decides and not field.selects_bucket)
_SELECTING: Final = tuple(field for field in NOTICED_FIELDS if field.selects_bucket)


def selects_alike(one: Limit, other: Limit) -> bool:
    """Return True if requests have the same buckets under two limits: only amounts may differ."""
    return all(field.noticed_value(one) == field.noticed_value(other) for field in _SELECTING)


def amounts_text(limit: Limit) -> str:
    """Return the amounts of a limit in words: ``100/s burst 200``, ``max 50 hold 60s``."""
    return " ".join(filter(None, (field.text(limit) for field in _AMOUNTS)))
