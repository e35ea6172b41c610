"""Requests that lacked an attribute which a limit counts per: how many, and what became of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from ratectl.health.checks import Check
from ratectl.runtime.wording import listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratectl.health.usage_report import UsageRow

__all__ = ["Lacking", "check_attributes", "lacking_in"]

_NAMED: Final = 3


class Lacking(NamedTuple):
    """Requests of one limit that lacked one of the attributes which it counts per."""

    limit: str
    scope: str
    attributes: tuple[str, ...]
    absent: int
    requests: int
    """All requests to the limit, with the ones that it skipped."""
    skips: bool

    @classmethod
    def of(
        cls,
        limit: str,
        scope: str,
        attributes: tuple[str, ...],
        *,
        absent: int,
        decided: int,
        skips: bool,
    ) -> Lacking | None:
        """Return the requests without an attribute, among those decided; None if there are none."""
        requests = decided + (absent if skips else 0)
        return cls(limit, scope, attributes, absent, requests, skips) if absent else None

    def __str__(self) -> str:
        names = " or ".join(self.attributes)
        of = f"{self.absent} of {self.requests} requests to {self.limit} @ {self.scope}"
        then = "the limit does not apply to them" if self.skips else "they share one bucket"
        return f"{of} lacked {names}: {then}"


def lacking_in(rows: Sequence[UsageRow]) -> list[Lacking]:
    """Return the limits some of whose requests lacked an attribute, most requests first."""
    found = [each for each in map(_of_row, rows) if each is not None]
    return sorted(found, key=lambda each: -each.absent)


def check_attributes(rows: Sequence[UsageRow]) -> Check:
    """Check that the requests have the attributes which limits count per."""
    found = lacking_in(rows)
    wrong = [each for each in found if each.absent == each.requests]
    if not wrong:
        more = f"; {found[0]}" if found else ""
        text = f"requests have the attributes that limits count per{more}"
        return Check("attributes", "ok", text)
    names = sorted({" or ".join(each.attributes) for each in wrong})
    limits = listed([f"{each.limit} @ {each.scope}" for each in wrong], _NAMED)
    return Check(
        "attributes",
        "warning",
        f"no request to {limits} has {', '.join(names)}: do the services send this attribute, "
        "under this name?",
        {"limits": [each._asdict() for each in wrong]},
    )


def _of_row(row: UsageRow) -> Lacking | None:
    rule, total = row.rule, row.total
    if rule is None or total is None:
        return None
    return Lacking.of(
        rule.name,
        row.scope,
        rule.per,
        absent=total.absent,
        decided=total.decided,
        skips=rule.absent == "skip",
    )
