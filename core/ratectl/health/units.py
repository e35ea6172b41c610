"""Limits that count a unit which no request's cost names: they refuse nothing."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from ratectl.health.checks import Check
from ratectl.policy.resolution.effective_limit import DEFAULT_UNIT
from ratectl.runtime.wording import listed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ratectl.health.usage_report import UsageRow

__all__ = ["check_units"]

_NAMED: Final = 3


def check_units(rows: Sequence[UsageRow]) -> Iterator[Check]:
    """Check that requests have costs in the units that limits count; nothing without such limits.

    A limit is judged where another one, of the same scope, has decided requests.
    """
    decided: Counter[tuple[str, str]] = Counter()
    busy: set[str] = set()
    units: dict[tuple[str, str], str] = {}
    for row in rows:
        if row.rule is None:
            continue
        key, total = (row.scope, row.name), row.total
        count = total.decided + total.absent if total else 0
        decided[key] += count
        if row.rule.unit != DEFAULT_UNIT:
            units[key] = row.rule.unit
        elif count and not row.budget:
            busy.add(row.scope)
    if not units:
        return
    idle = [key for key in units if key[0] in busy and not decided[key]]
    if not idle:
        yield Check("units", "ok", "costs name the units that limits count")
        return
    names = sorted({units[key] for key in idle})
    limits = listed([f"{name} @ {scope}" for scope, name in idle], _NAMED)
    yield Check(
        "units",
        "warning",
        f"no request to {limits} has a cost in {', '.join(names)}: do the services name this unit, "
        f'like cost={{"{names[0]}": n}}?',
        {"limits": [{"scope": scope, "limit": name} for scope, name in idle]},
    )
