"""What a cap has against a limit, in words: for limits, overrides and exceptions alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ratectl.diagnostics import Diagnostic
from ratectl.policy import codes
from ratectl.policy.language.rates import Rate
from ratectl.policy.resolution.algorithms.registry import rules_of
from ratectl.policy.resolution.fields import FIELDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ratectl.diagnostics import Severity, Span
    from ratectl.policy.language.model import LimitFields, PolicyTree
    from ratectl.policy.resolution.effective_limit import Limit, Setting
    from ratectl.policy.resolution.merge import Fields

__all__ = ["CapFinding", "cap_note", "evasions", "excesses", "nothing_to_cap"]


@dataclass(frozen=True, slots=True)
class CapFinding:
    """A finding about one field of a limit, wherever that was written."""

    code: str
    field: str
    message: str
    hint: str
    note: str
    lowered: object = None
    """What agents clip the value to."""

    def at(self, span: Span, *, stood: bool = False) -> Diagnostic:
        """At the place of the value; ``stood``: it was there before the cap."""
        message = self.message
        if stood:
            message += f", which came later: agents clip it to {self.lowered}"
        severity: Severity = "warning" if stood else "error"
        return Diagnostic(self.code, message, span, severity, self.hint, (self.note,))


def cap_note(tree: PolicyTree, name: str, cap: Mapping[str, Setting]) -> str:
    """Where a cap was set."""
    places = sorted(
        {str(tree.span(each.scope, f"caps.{name}.{field}")) for field, each in cap.items()}
    )
    return f"cap set at {' and '.join(places)}"


def evasions(
    tree: PolicyTree, name: str, said: LimitFields, inherited: Fields | None, cap: Fields
) -> Iterator[CapFinding]:
    """A capped limit must not be turned off, nor changed into another one."""
    note = cap_note(tree, name, cap)
    if said.mode == "off":
        yield CapFinding(
            codes.CAP_EVADED,
            "mode",
            f"limit '{name}' is capped, so it cannot be turned off",
            "use mode: shadow above the cap's scope, or ask the cap's owner",
            note,
        )
    if inherited is None:
        return
    for field in FIELDS:
        value = getattr(said, field.name) if field.kept_below_cap else None
        before = inherited[field.name].value if field.name in inherited else field.default
        if value is not None and value != before:
            yield CapFinding(
                codes.CAP_EVADED,
                field.name,
                f"limit '{name}' is capped, so its {field.name} cannot change from "
                f"{_text(before)} to {_text(value)}",
                "define a limit of another name, or ask the cap's owner",
                note,
            )


def excesses(
    tree: PolicyTree, name: str, said: LimitFields, limit: Limit | None, cap: Fields
) -> Iterator[CapFinding]:
    """Values that were said here, and that a cap at or above lowers or cannot be compared with."""
    if limit is None:
        return
    note = cap_note(tree, name, cap)
    yield from _same_unit(said, limit, cap, note)
    for field, clip in limit.clips.items():
        if getattr(said, field) is None:
            continue  # inherited, or a default: clipped, not refused
        ceiling = clip.cap.value
        yield CapFinding(
            codes.CAP_EXCEEDED,
            field,
            f"{field} {clip.asked} exceeds the cap {_text(ceiling)} of {clip.cap.scope}"
            if isinstance(ceiling, Rate) or field != "rate"
            else f"rate {clip.asked} admits more at once than the burst cap {ceiling} "
            f"of {clip.cap.scope}",
            f"lower it to {clip.value} or raise the cap",
            note,
            clip.value,
        )


def nothing_to_cap(
    tree: PolicyTree, name: str, limit: Limit | None, cap: Fields
) -> Iterator[CapFinding]:
    """A cap on the rate alone bounds nothing of a limit that has no rate."""
    if limit is not None and limit.rate is None and "burst" not in cap:
        yield CapFinding(
            codes.MISFIT,
            "algorithm",
            f"the cap on '{name}' bounds its rate, and a concurrency limit has none",
            "give the cap a burst, which bounds max",
            cap_note(tree, name, cap),
        )


def _same_unit(said: LimitFields, limit: Limit, cap: Fields, note: str) -> Iterator[CapFinding]:
    """Calendar windows differ in length, so a quota and its cap are compared in one unit."""
    ceiling = cap["rate"].value if "rate" in cap else None
    if ceiling is None or ceiling.unlimited or said.rate is None:
        return
    rules = rules_of(limit)
    if not rules.comparable(said.rate, ceiling):
        yield CapFinding(
            codes.MISFIT,
            "rate",
            f"rate {said.rate} and its cap {ceiling} are not in the same calendar unit"
            if rules.calendar
            else f"only quotas can be held to a cap per month, like {ceiling}",
            "write both in the same unit",
            note,
        )


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(value)}]"
    return str(value)
