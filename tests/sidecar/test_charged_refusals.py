"""``charge_refused``: a descriptor with hits of its own is charged also where it is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ratectl import Agent, FakeClock
from ratectl.sidecar.mapping import EnvoyMapping
from ratectl.sidecar.mapping_file import parse_mapping
from ratectl.sidecar.service import RateLimitService
from sidecar.envoys_messages import OK, OVER, asked, descriptor, request

if TYPE_CHECKING:
    from collections.abc import Iterator

MAPPING = """\
apiVersion: ratectl/v1
kind: EnvoyMapping
domains:
  charged:
    scope: /shop
    charge_refused: true
    descriptors:
      - {key: spared, charge_refused: false}
  beginnings:
    scope: /shop
    descriptors: [{key: client, value: a*, charge_refused: true}]
  inherited: {charge_refused: true, descriptors: [{key: client, scope: /shop}]}
  spared: {scope: /shop}
"""
POLICIES = """\
apiVersion: ratectl/v1
scope: /shop
limits:
  day: {algorithm: quota, rate: 10/day, per: client}
"""
A = ("client", "a1")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock("2026-11-30T12:00:00Z")


def mapped(text: str) -> EnvoyMapping:
    return EnvoyMapping(parse_mapping(text.encode(), "mapping.yaml")[0])


@pytest.fixture
def service(clock: FakeClock) -> Iterator[RateLimitService]:
    mapping = mapped(MAPPING)
    with Agent.from_policies(POLICIES, clock=clock) as agent:
        yield RateLimitService(agent, mapping)


def looks(service: RateLimitService, domain: str = "charged") -> bool:
    """Return True if a request would begin: Envoy asks with 0 hits."""
    return code(service, domain, 0) == OK


def code(service: RateLimitService, domain: str, hits: int | None, *more: tuple[str, str]) -> int:
    answer = asked(service, request(domain, descriptor(*more, A, hits=hits)))
    return int(answer.overall_code)


@pytest.mark.parametrize("domain", ["charged", "beginnings", "inherited"])
@pytest.mark.parametrize("repeats", [1, 5])
def test_a_cost_above_what_is_left_is_charged(
    service: RateLimitService, clock: FakeClock, domain: str, repeats: int
) -> None:
    """On both ways: the compiled core knows a domain after the first request."""
    for _ in range(3):
        assert looks(service, domain)
    assert code(service, domain, 7) == OK
    for _ in range(repeats):
        assert code(service, domain, 8) == OVER
    assert not looks(service, domain)
    clock.advance(86_400)
    assert looks(service, domain), "the next day has a full quota"
    assert code(service, domain, 10) == OK


@pytest.mark.parametrize(
    ("domain", "more", "hits"),
    [("spared", (), 20), ("charged", (("spared", "x"),), 20), ("charged", (), None)],
    ids=["not mapped so", "switched off below", "no hits of its own"],
)
def test_other_refusals_are_not_charged(
    service: RateLimitService, domain: str, more: tuple[tuple[str, str], ...], hits: int | None
) -> None:
    for _ in range(3):
        message = request(domain, descriptor(*more, A, hits=hits), hits=20)
        assert asked(service, message).overall_code == OVER
    assert code(service, domain, 10, *more) == OK


def test_of_several_descriptors_only_the_refused_one_is_charged(service: RateLimitService) -> None:
    b = ("client", "b")
    for _ in range(2):
        message = request("charged", descriptor(b, hits=6), descriptor(A, hits=11))
        assert asked(service, message).overall_code == OVER
    assert not looks(service)
    message = request("charged", descriptor(b, hits=10))
    assert asked(service, message).overall_code == OK


def test_a_mapping_knows_whether_any_refusal_is_charged() -> None:
    head, _, _ = MAPPING.partition("domains:")
    for descriptors, charges in (
        ("{key: a, descriptors: [{key: b, charge_refused: true}]}", True),
        ("{key: a, charge_refused: false}", False),
        ("{key: a}", False),
    ):
        text = f"{head}domains: {{shop: {{descriptors: [{descriptors}]}}}}\n"
        assert mapped(text).charges_refused is charges
