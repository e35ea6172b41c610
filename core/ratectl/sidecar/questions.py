"""Requests of the Rate Limit Service as questions to an agent: scope, attributes, cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratectl.sidecar.messages import Descriptor, Request

__all__ = ["InvalidRequest", "Question", "questions_of", "scope_of"]


class InvalidRequest(ValueError):
    """A request that cannot be decided."""


class Question(NamedTuple):
    """Arguments of ``Agent.check``."""

    scope: str
    attributes: Mapping[str, str]
    cost: int


def questions_of(request: Request) -> list[Question | None]:
    """Return what each descriptor asks; None for one that gives back hits, which charges nothing.

    The scope is the domain, and each entry is an attribute. The second entry with one key is the
    attribute ``key_2``, and so on.

    :raises InvalidRequest: it has no domain, or no descriptor.
    """
    if not request.domain:
        raise InvalidRequest("the request has no domain")
    if not request.descriptors:
        raise InvalidRequest("the request has no descriptors")
    scope = scope_of(request.domain)
    return [
        None if each.is_negative else Question(scope, _attributes(each), _cost(each, request))
        for each in request.descriptors
    ]


def scope_of(domain: str) -> str:
    """Return the scope of a domain."""
    return "/" + domain.strip("/")


def _attributes(descriptor: Descriptor) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in descriptor.entries:
        name, number = key, 1
        while name in found:
            number += 1
            name = f"{key}_{number}"
        found[name] = value
    return found


def _cost(descriptor: Descriptor, request: Request) -> int:
    if descriptor.hits is not None:
        return descriptor.hits
    return request.hits or 1
