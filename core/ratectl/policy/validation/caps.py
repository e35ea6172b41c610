"""Findings about values above a cap, for limits, overrides and exceptions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ratectl.diagnostics import Diagnostic
from ratectl.policy import codes
from ratectl.policy.language.rates import Rate
from ratectl.policy.language.scopes import parent
from ratectl.policy.resolution.algorithms.registry import rules_of
from ratectl.policy.resolution.fields import FIELDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ratectl.diagnostics import Severity, Span
    from ratectl.policy.language.model import Cap, LimitFields, PolicyTree
    from ratectl.policy.resolution.conditions import PathConditions
    from ratectl.policy.resolution.effective_limit import Limit, Setting, Via
    from ratectl.policy.resolution.merge import Fields
    from ratectl.policy.resolution.resolver import Resolver

__all__ = [
    "CapFinding",
    "cap_note",
    "capped_at",
    "evasions",
    "excesses",
    "incomparable",
    "is_own",
    "misfits",
    "place_of",
    "set_before",
    "unbounded",
]  # fmt: skip

_OFF: Final = (
    ("mode", "off", "be turned off"),
    ("mode", "shadow", "be put in shadow"),
    ("absent", "skip", "skip requests"),
)
"""Values that let requests pass a limit: field, value, and words for messages."""


@dataclass(frozen=True, slots=True)
class CapFinding:
    """Finding about one field of a limit, without its place in a file."""

    code: str
    field: str
    message: str
    hint: str
    note: str
    lowered: object = None
    """Value that agents clip to."""

    def at(self, span: Span, *, before_cap: bool = False) -> Diagnostic:
        """Return the finding at a place; ``before_cap``: the value is older than the cap."""
        message = self.message
        if before_cap:
            message += f", which came later: agents clip it to {self.lowered}"
        severity: Severity = "warning" if before_cap else "error"
        return Diagnostic(self.code, message, span, severity, self.hint, (self.note,))


def cap_note(tree: PolicyTree, name: str, cap: Mapping[str, Setting]) -> str:
    """Return a note with the places where a cap is set."""
    places = {str(place_of(tree, "caps", name, field, setting)) for field, setting in cap.items()}
    return f"cap set at {' and '.join(sorted(places))}"


def place_of(tree: PolicyTree, part: str, name: str, field: str, setting: Setting) -> Span:
    """Return the place of a setting of ``limits`` or ``caps`` in a document or an override."""
    path = f"{setting.via.path if setting.via else ''}{part}.{name}.{field}"
    return tree.span(setting.via.source if setting.via else setting.scope, path)


def capped_at(tree: PolicyTree, resolver: Resolver, scope: str, name: str) -> str | None:
    """Return a note on the caps that bind a limit at a scope, for any request; None if none does.

    A limit that only an override caps must not be turned off either.
    """
    here = resolver.at(scope)
    cap = here.caps.get(name) if here else None
    if cap:
        return cap_note(tree, name, cap)
    place = resolver.conditions.at(scope)
    for position in place.conditions.by_cap.get(name, ()):
        via = place.conditions[position].via
        span = tree.span(via.source, f"{via.path}caps.{name}")
        return f"cap set at {span}, by the override '{via.ref}'"
    return None


def set_before(place: PathConditions, name: str, before: int) -> list[LimitFields]:
    """Return the fields that the overrides of a path set for a limit, up to a condition."""
    positions = place.conditions.by_limit.get(name, ())
    overrides = [place.conditions[at].override for at in positions if at < before]
    return [each.limits[name] for each in overrides if each and name in each.limits]


def conditional_caps(place: PathConditions, name: str) -> list[tuple[Via, Cap]]:
    """Return the caps that overrides of a path set on a limit."""
    capping = [place.conditions[at] for at in place.conditions.by_cap.get(name, ())]
    return [(each.via, each.override.caps[name]) for each in capping if each.override]


def misfits(
    tree: PolicyTree,
    place: PathConditions,
    name: str,
    declared: LimitFields,
    limit: Limit | None,
    before: int,
) -> Iterator[CapFinding]:
    """Yield findings about declared values that the cap of an override cannot be compared with.

    ``before``: the caps of the overrides up to this condition are looked at.
    """
    for via, cap in conditional_caps(place, name):
        if limit is None or (via.bit or 0) >= before:
            continue
        note = f"cap set at {tree.span(via.source, f'{via.path}caps.{name}')}"
        if cap.rate is not None and declared.rate is not None:
            yield from incomparable(declared.rate, limit, cap.rate, note)
        if limit.rate is None and cap.burst is None and declared.algorithm is not None:
            yield CapFinding(
                codes.MISFIT,
                "algorithm",
                f"the cap of the override '{via.ref}' bounds the rate of '{name}', and a "
                "concurrency limit has none",
                "give the cap a burst, which bounds max",
                note,
            )
        if limit.unlimited and cap.rate is None and declared.rate is not None:
            yield CapFinding(
                codes.MISFIT,
                "rate",
                f"the cap of the override '{via.ref}' bounds the burst of '{name}', and an "
                "unlimited rate has none",
                "write a rate, or give the cap one",
                note,
            )


def is_own(tree: PolicyTree, resolver: Resolver, scope: str, name: str) -> bool:
    """Return True if no document above a scope caps the limit."""
    above = parent(scope)
    return above is None or capped_at(tree, resolver, above, name) is None


def evasions(
    name: str,
    declared: LimitFields,
    inherited: Fields | None,
    note: str,
    *,
    own: bool,
    others: Sequence[LimitFields] = (),
) -> Iterator[CapFinding]:
    """Yield findings about a capped limit that is turned off or changed into another one.

    ``own``: only the document itself caps the limit. It may say to which requests that applies.
    ``others``: fields that overrides set before: the limit must stay theirs too.
    """
    for path, off, words in _OFF:
        if getattr(declared, path) == off and not (own and path == "absent"):
            yield CapFinding(
                codes.CAP_EVADED,
                path,
                f"limit '{name}' is capped, so it cannot {words}",
                f"remove {path}, or ask the cap's owner",
                note,
            )
    for field in FIELDS:
        value = getattr(declared, field.name) if field.kept_below_cap else None
        if value is None:
            continue
        known = [getattr(other, field.name) for other in others]
        known = [before for before in known if before is not None]
        if inherited is not None:
            known.append(inherited[field.name].value if field.name in inherited else field.default)
        elif others and not known:
            known.append(field.default)
        before = next((before for before in known if before != value), None)
        if before is not None:
            yield CapFinding(
                codes.CAP_EVADED,
                field.name,
                f"limit '{name}' is capped, so its {field.name} cannot change from "
                f"{_text(before)} to {_text(value)}",
                "define a limit of another name, or ask the cap's owner",
                note,
            )


def excesses(
    tree: PolicyTree, name: str, declared: LimitFields, limit: Limit | None, cap: Fields
) -> Iterator[CapFinding]:
    """Yield findings about declared values that a cap lowers, or cannot be compared with."""
    if limit is None:
        return
    note = cap_note(tree, name, cap)
    yield from _same_unit(declared, limit, cap, note)
    for field, clip in limit.clips.items():
        if getattr(declared, field) is None:
            continue  # inherited, or a default: clipped, and no error
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
    if declared.rate is not None and limit.unlimited and "burst" in cap:
        burst = cap["burst"]
        yield CapFinding(
            codes.CAP_EVADED,
            "rate",
            f"rate unlimited admits more at once than the burst cap {burst.value} of {burst.scope}",
            "write a rate, or raise the cap",
            note,
        )


def unbounded(tree: PolicyTree, name: str, limit: Limit, cap: Fields) -> Iterator[CapFinding]:
    """Yield a finding if a cap bounds only what the limit does not have."""
    if limit.rate is None and "burst" not in cap:
        yield CapFinding(
            codes.MISFIT,
            "algorithm",
            f"the cap on '{name}' bounds its rate, and a concurrency limit has none",
            "give the cap a burst, which bounds max",
            cap_note(tree, name, cap),
        )
    if limit.unlimited and "rate" not in cap:
        yield CapFinding(
            codes.MISFIT,
            "rate",
            f"the cap on '{name}' bounds its burst, and an unlimited rate has none",
            "give the cap a rate",
            cap_note(tree, name, cap),
        )


def _same_unit(declared: LimitFields, limit: Limit, cap: Fields, note: str) -> Iterator[CapFinding]:
    """Yield a finding if a quota and its cap have different calendar units: they do not compare."""
    if "rate" in cap and declared.rate is not None:
        yield from incomparable(declared.rate, limit, cap["rate"].value, note)


def incomparable(rate: Rate, limit: Limit, ceiling: Rate, note: str) -> Iterator[CapFinding]:
    """Yield a finding if the rate of a limit cannot be compared with that of a cap."""
    rules = rules_of(limit)
    if not ceiling.unlimited and not rules.comparable(rate, ceiling):
        yield CapFinding(
            codes.MISFIT,
            "rate",
            f"rate {rate} and its cap {ceiling} are not in the same calendar unit"
            if rules.calendar
            else f"a cap per month, like {ceiling}, can only bound a quota",
            "write both in the same unit",
            note,
        )


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(value)}]"
    return str(value)
