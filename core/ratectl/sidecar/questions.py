"""Requests of the Rate Limit Service as questions to an agent: scope, attributes, cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from ratectl.engine.cost import REQUESTS
from ratectl.sidecar.messages import Unit
from ratectl.sidecar.statuses import INVALID_ARGUMENT, CallError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ratectl.engine.cost import Cost
    from ratectl.sidecar.mapping import Domain, EnvoyMapping, Found
    from ratectl.sidecar.messages import Descriptor, Override, Request

__all__ = ["InvalidRequest", "Question", "attributes_of", "questions_of"]

_UNITS: Final = {
    Unit.SECOND: "s",
    Unit.MINUTE: "min",
    Unit.HOUR: "h",
    Unit.DAY: "day",
    Unit.WEEK: "week",
    Unit.MONTH: "month",
    Unit.YEAR: "year",
}


class InvalidRequest(CallError):
    """A request that cannot be decided."""

    def __init__(self, message: str) -> None:
        super().__init__(INVALID_ARGUMENT, message)


class Question(NamedTuple):
    """Request of one descriptor to an agent."""

    scope: str
    attributes: Mapping[str, str]
    cost: Cost
    is_late: bool = False
    """True if the cost is charged whatever is left."""
    request: str | None = None
    """Identity of the request: empty if its entry is missing, None if the mapping names none."""
    gives_back: bool = False
    """True if the cost is one to give back."""
    charges_refusal: bool = False
    """True if the cost is charged also where it is refused."""


def questions_of(request: Request, mapping: EnvoyMapping) -> list[Question | None]:
    """Return what each descriptor asks; None for one that the mapping lets pass.

    :raises InvalidRequest: the request has no domain, or no descriptor.
    """
    if not request.domain:
        raise InvalidRequest("the request has no domain")
    if not request.descriptors:
        raise InvalidRequest("the request has no descriptors")
    domain = mapping.domain(request.domain)
    entries = [_entries(each, domain) for each in request.descriptors]
    found = [domain.find(each) for each in entries]
    replaced = {name for each in found if each is not None for name in each.replaces}
    return [
        None
        if settings is None or settings.name in replaced
        else _question(descriptor, own, settings, domain, request.hits)
        for descriptor, own, settings in zip(request.descriptors, entries, found, strict=True)
    ]


def _entries(descriptor: Descriptor, domain: Domain) -> Sequence[tuple[str, str]]:
    """Return the entries of a descriptor without the one that is the identity of the request."""
    if domain.correlation is None:
        return descriptor.entries
    return [entry for entry in descriptor.entries if entry[0] != domain.correlation]


def _question(
    descriptor: Descriptor,
    entries: Sequence[tuple[str, str]],
    found: Found,
    domain: Domain,
    hits_of_all: int,
) -> Question:
    request = None
    if domain.correlation is not None:
        request = next(
            (value for key, value in descriptor.entries if key == domain.correlation), ""
        )
    attributes = attributes_of(entries, domain.attributes)
    if domain.override is not None:
        attributes.pop(domain.override, None)  # only Envoy's own configuration may set it
        if descriptor.override is not None:
            attributes[domain.override] = _rate(descriptor.override)
    hits = (hits_of_all or 1) if descriptor.hits is None else descriptor.hits
    is_late = found.late_cost and hits > 0 and not descriptor.is_negative
    cost = hits if found.unit is None or not hits else _cost(found.unit, hits, is_late)
    charges = found.charge_refused and bool(descriptor.hits)
    return Question(
        found.scope, attributes, cost, is_late, request, descriptor.is_negative, charges
    )


def _cost(unit: str, hits: int, is_late: bool) -> dict[str, int]:
    """Return a cost in a unit; one of a request that is over does not count the request again."""
    return {unit: hits} if is_late else {REQUESTS: 1, unit: hits}


def attributes_of(entries: Iterable[tuple[str, str]], names: Mapping[str, str]) -> dict[str, str]:
    """Return the attributes that entries become; ``names``: attributes by keys of entries."""
    found: dict[str, str] = {}
    for key, value in entries:
        first = name = names.get(key, key)
        number = 1
        while name in found:
            number += 1
            name = f"{first}_{number}"
        found[name] = value
    return found


def _rate(override: Override) -> str:
    """Return a limit that Envoy brings along as a text: ``100/min``, ``100/5min``."""
    unit = _UNITS.get(override.unit, "unknown")  # type: ignore[call-overload]
    multiplier = override.multiplier or 1
    return f"{override.requests}/{'' if multiplier == 1 else multiplier}{unit}"
