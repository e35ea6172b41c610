"""Envoy's own messages, as other programs write them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from envoy.extensions.common.ratelimit.v3.ratelimit_pb2 import RateLimitDescriptor
from envoy.service.ratelimit.v3.rls_pb2 import RateLimitRequest, RateLimitResponse

if TYPE_CHECKING:
    from ratectl.sidecar.service import RateLimitService

OK, OVER = RateLimitResponse.OK, RateLimitResponse.OVER_LIMIT


def descriptor(*entries: tuple[str, str], hits: int | None = None) -> RateLimitDescriptor:
    found = RateLimitDescriptor()
    for key, value in entries:
        found.entries.add(key=key, value=value)
    if hits is not None:
        found.hits_addend.value = hits
    return found


def request(domain: str, *descriptors: RateLimitDescriptor, hits: int = 0) -> RateLimitRequest:
    return RateLimitRequest(domain=domain, descriptors=descriptors, hits_addend=hits)


def asked(service: RateLimitService, message: RateLimitRequest) -> Any:
    """Return the answer to a message."""
    return RateLimitResponse.FromString(service.decide(message.SerializeToString()))
