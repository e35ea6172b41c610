"""Nodes of a mapping that replace others, and values that are written like a pattern."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ratectl import Agent, FakeClock
from ratectl.sidecar.mapping import EnvoyMapping
from ratectl.sidecar.mapping_file import MappingError, parse_mapping
from ratectl.sidecar.service import RateLimitService
from sidecar.envoys_messages import OK, OVER, asked, descriptor, request

if TYPE_CHECKING:
    from collections.abc import Iterator

POLICIES = """
apiVersion: ratectl/v1
scope: /all
limits: {each: {algorithm: quota, rate: 1/h, per: user}}
---
apiVersion: ratectl/v1
scope: /plan
limits: {each: {algorithm: quota, rate: 2/h, per: plan}}
---
apiVersion: ratectl/v1
scope: /any
limits: {each: {algorithm: quota, rate: 1/h}}
---
apiVersion: ratectl/v1
scope: /star
limits: {each: {algorithm: quota, rate: 3/h}}
"""
MAPPING = """
apiVersion: ratectl/v1
kind: EnvoyMapping
domains:
  shop:
    unlisted: pass
    descriptors:
      - {key: user, scope: /all, name: all}
      - key: plan
        scope: /plan
        replaces: [all, unknown]
        descriptors:
          - {key: user, scope: /all}
      - {key: path, value: "*", scope: /any}
      - {key: path, value: "/*", scope: /star}
"""


@pytest.fixture
def service() -> Iterator[RateLimitService]:
    mapping, _ = parse_mapping(MAPPING.encode(), "mapping.yaml")
    with Agent.from_policies(POLICIES, clock=FakeClock()) as agent:
        yield RateLimitService(agent, EnvoyMapping(mapping))


USER, PLAN = descriptor(("user", "a")), descriptor(("plan", "gold"))


def test_a_replaced_limit_is_not_charged(service: RateLimitService) -> None:
    for both in (request("shop", USER, PLAN), request("shop", PLAN, USER)):
        answer = asked(service, both)
        assert answer.overall_code == OK
        assert [bool(each.current_limit.requests_per_unit) for each in answer.statuses] == [
            each is PLAN for each in ((USER, PLAN) if both.descriptors[0] == USER else (PLAN, USER))
        ]
    assert asked(service, request("shop", USER, PLAN)).overall_code == OVER
    codes = [asked(service, request("shop", USER)).overall_code for _ in range(2)]
    assert codes == [OK, OVER]


def test_what_is_below_a_node_replaces_nothing(service: RateLimitService) -> None:
    below = descriptor(("plan", "gold"), ("user", "a"))
    assert asked(service, request("shop", below, USER)).overall_code == OVER


def test_a_value_like_a_pattern_is_exact_first(service: RateLimitService) -> None:
    codes = [
        asked(service, request("shop", descriptor(("path", value)))).overall_code
        for value in ("/*", "/*", "/a", "/a", "/*")
    ]
    assert codes == [OK, OK, OK, OVER, OK]


def test_a_name_is_listed_once() -> None:
    twice = MAPPING.replace("[all, unknown]", "[all, all]")
    with pytest.raises(MappingError) as caught:
        parse_mapping(twice.encode(), "mapping.yaml")
    (found,) = caught.value.diagnostics
    assert (found.span.line, found.message) == (11, "replaces: 'all' is named twice")
