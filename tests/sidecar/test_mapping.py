"""The mapping of Envoy's domains and descriptors: what is asked, and what is charged."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from ratectl import Agent, FakeClock
from ratectl.sidecar.mapping import Domain, EnvoyMapping
from ratectl.sidecar.mapping_file import parse_mapping
from ratectl.sidecar.messages import Code, Descriptor, Override, Request, Unit
from ratectl.sidecar.questions import questions_of
from ratectl.sidecar.refunds import Refunds
from ratectl.sidecar.service import RateLimitService
from sidecar.envoys_messages import asked, descriptor, request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratectl.sidecar.questions import Question

HEAD = "apiVersion: ratectl/v1\nkind: EnvoyMapping\n"
MAPPING = """
domains:
  shop:
    scope: /mall/shop
    attributes: {x-tenant: tenant}
    override: plan
    descriptors:
      - key: generic_key
        value: costly
        scope: /mall/shop/costly
        descriptors:
          - key: path
            value: /reports/*
            unit: rows
          - {key: path, value: /reports/2025/*, scope: /mall/never}
          - {key: path, value: /reports/new, scope: /mall/new}
          - {key: path, scope: /mall/path}
      - {key: generic_key, late_cost: true, unit: tokens}
  listed:
    unlisted: pass
    descriptors:
      - key: a
        value: "1"
        descriptors: [{key: b, scope: /listed/ab}]
      - {key: a, scope: /listed/a}
  back:
    correlation: x-request-id
    descriptors: [{key: generic_key, value: tokens, unit: tokens}]
"""
POLICIES = """
apiVersion: ratectl/v1
scope: /mall/shop
limits:
  tokens: {rate: 10/s, burst: 100, per: tenant, unit: tokens}
overrides:
  - {name: gold, match: {plan: 500/min}, limits: {tokens: {burst: 500}}}
---
apiVersion: ratectl/v1
scope: /back
limits:
  each: {rate: 1/s, burst: 10, per: client}
  tokens: {rate: 1/s, burst: 100, per: client, unit: tokens}
"""


@pytest.fixture
def mapping() -> EnvoyMapping:
    return EnvoyMapping(parse_mapping((HEAD + MAPPING).encode(), "mapping.yaml")[0])


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def service(mapping: EnvoyMapping, clock: FakeClock) -> Iterator[RateLimitService]:
    with Agent.from_policies(POLICIES, clock=clock) as agent:
        yield RateLimitService(agent, mapping)


def question(
    mapping: EnvoyMapping, domain: str, *entries: tuple[str, str], hits: int | None = None
) -> Question | None:
    (found,) = questions_of(Request(domain, (Descriptor(entries, hits),)), mapping)
    return found


@pytest.mark.parametrize(
    ("domain", "entries", "scope"),
    [
        ("other", [], "/other"),
        ("shop", [], "/mall/shop"),
        ("shop", [("client", "a")], "/mall/shop"),
        ("shop", [("generic_key", "costly")], "/mall/shop/costly"),
        ("shop", [("generic_key", "costly"), ("client", "a")], "/mall/shop/costly"),
        ("shop", [("generic_key", "costly"), ("path", "/reports/new")], "/mall/new"),
        ("shop", [("generic_key", "costly"), ("path", "/reports/2025/1")], "/mall/shop/costly"),
        ("shop", [("generic_key", "costly"), ("path", "/reports")], "/mall/path"),
        ("shop", [("client", "a"), ("generic_key", "costly")], "/mall/shop"),
        ("shop", [("generic_key", "costlier")], "/mall/shop"),
        ("listed", [("a", "1"), ("b", "2")], "/listed/ab"),
        ("listed", [("a", "2")], "/listed/a"),
        ("listed", [("a", "1")], None),
        ("listed", [("a", "2"), ("b", "2")], None),
        ("listed", [("a", "1"), ("b", "2"), ("c", "3")], None),
        ("listed", [("b", "2")], None),
        ("listed", [], None),
    ],
)
def test_the_node_of_the_last_entry_names_the_scope(
    mapping: EnvoyMapping, domain: str, entries: list[tuple[str, str]], scope: str | None
) -> None:
    found = question(mapping, domain, *entries)
    assert (found and found.scope) == scope


def test_entries_are_attributes_by_their_names(mapping: EnvoyMapping) -> None:
    found = question(mapping, "shop", ("x-tenant", "t"), ("tenant", "u"), ("client", "c"))
    assert found is not None
    assert found.attributes == {"tenant": "t", "tenant_2": "u", "client": "c"}


def test_hits_are_a_cost_in_the_unit(mapping: EnvoyMapping) -> None:
    rows = ("generic_key", "costly"), ("path", "/reports/1")
    for hits, cost in ((None, {"requests": 1, "rows": 1}), (7, {"requests": 1, "rows": 7}), (0, 0)):
        found = question(mapping, "shop", *rows, hits=hits)
        assert found is not None
        assert (found.cost, found.is_late) == (cost, False)


def test_a_late_cost_counts_no_request(mapping: EnvoyMapping) -> None:
    late = question(mapping, "shop", ("generic_key", "llm"), hits=7)
    look = question(mapping, "shop", ("generic_key", "llm"), hits=0)
    assert late is not None
    assert look is not None
    assert (late.cost, late.is_late) == ({"tokens": 7}, True)
    assert (look.cost, look.is_late) == (0, False)


@pytest.mark.parametrize(
    ("override", "text"),
    [
        (Override(500, Unit.MINUTE), "500/min"),
        (Override(5, Unit.HOUR, 12), "5/12h"),
        (Override(0, Unit.WEEK, 1), "0/week"),
        (Override(9, 77), "9/unknown"),
    ],
)
def test_the_limit_that_envoy_brings_along_is_an_attribute(
    mapping: EnvoyMapping, override: Override, text: str
) -> None:
    entries = (("plan", "forged"),)
    asking = Request("shop", (Descriptor(entries, override=override), Descriptor(entries)))
    with_one, without = questions_of(asking, mapping)
    assert with_one is not None
    assert without is not None
    assert with_one.attributes == {"plan": text}
    assert without.attributes == {}, "an entry cannot claim to be it"


# -- what is charged


def left(service: RateLimitService, domain: str, *entries: tuple[str, str]) -> int:
    (status,) = service.answer(Request(domain, (Descriptor(entries, 0),))).statuses
    return status.remaining if status.code == Code.OK else -1


def test_a_policy_permits_overrides_by_naming_them(service: RateLimitService) -> None:
    entries = ("generic_key", "llm"), ("x-tenant", "a")
    for rate, capacity in ((500, 500), (501, 100)):
        asking = Descriptor(entries, 0, override=Override(rate, Unit.MINUTE))
        (status,) = service.answer(Request("shop", (asking,))).statuses
        assert status.limit is not None
        assert status.limit.requests == capacity


def test_a_late_cost_is_charged_whatever_is_left(
    service: RateLimitService, clock: FakeClock
) -> None:
    llm = ("generic_key", "llm"), ("x-tenant", "a")
    assert left(service, "shop", *llm) == 100
    for _ in range(2):
        answer = asked(service, request("shop", descriptor(*llm, hits=150)))
    assert answer.overall_code == Code.OVER_LIMIT
    assert answer.statuses[0].duration_until_reset.ToMilliseconds() == 20_000
    assert left(service, "shop", *llm) == -1
    clock.advance(20)
    assert left(service, "shop", *llm) == 0


def test_the_compiled_core_leaves_late_costs_to_python(clock: FakeClock) -> None:
    text = f"{HEAD}domains: {{back: {{unit: tokens, late_cost: true}}}}\n"
    mapping = EnvoyMapping(parse_mapping(text.encode(), "mapping.yaml")[0])
    with Agent.from_policies(POLICIES, clock=clock) as agent:
        service = RateLimitService(agent, mapping)
        for _ in range(4):
            asked(service, request("back", descriptor(("client", "a"), hits=60)))
        clock.advance(141)
        assert limit_left(agent, "tokens") == 1
        assert limit_left(agent, "each") == 10, "no request is counted"


def test_a_refused_descriptor_does_not_give_back_a_late_cost(service: RateLimitService) -> None:
    llm = ("generic_key", "llm"), ("x-tenant", "a")
    refused = descriptor(("generic_key", "costly"), ("x-tenant", "b"), ("path", "/"), hits=0)
    assert left(service, "shop", *llm) == 100
    asked(service, request("shop", descriptor(*llm, hits=30), refused))
    both = request(
        "shop", descriptor(*llm, hits=30), descriptor(("x-tenant", "b"), ("k", "v"), hits=2**40)
    )
    asked(service, both)
    assert left(service, "shop", *llm) == 40


# -- what is given back


def call(
    service: RateLimitService,
    identity: str | None,
    hits: int,
    *,
    back: bool = False,
    client: str = "a",
    tokens: bool = False,
) -> Code:
    entries = [("client", client)]
    if tokens:
        entries.insert(0, ("generic_key", "tokens"))
    if identity is not None:
        entries.append(("x-request-id", identity))
    asking = Request("back", (Descriptor(tuple(entries), hits, is_negative=back),))
    return service.answer(asking).code


@pytest.mark.parametrize("tokens", [False, True])
def test_hits_are_given_back_once_and_at_most_those_charged(
    service: RateLimitService, tokens: bool
) -> None:
    name, full = ("tokens", 100) if tokens else ("each", 10)
    assert call(service, "r1", 8, tokens=tokens) == Code.OK
    call(service, "r1", 3, back=True, tokens=tokens)
    assert limit_left(service._agent, name) == full - 5
    call(service, "r1", 3, back=True, tokens=tokens)
    assert limit_left(service._agent, name) == full - 5, "once"
    assert call(service, "r2", 4, tokens=tokens) == Code.OK
    call(service, "r2", 900, back=True, tokens=tokens)
    assert limit_left(service._agent, name) == full - 5, "at most what was charged"
    assert service.negative_hits == 1


def limit_left(agent: Agent, name: str) -> int | None:
    explained = agent.check("/back", {"client": "a"}, 0).explain()
    return next(limit.remaining for limit in explained.limits if limit.name == name)


def test_a_refused_or_unknown_request_gets_nothing_back(
    service: RateLimitService, caplog: pytest.LogCaptureFixture
) -> None:
    assert call(service, "r1", 9) == Code.OK
    assert call(service, "r2", 9) == Code.OVER_LIMIT
    for identity, client in (("r2", "a"), ("r3", "a"), ("r1", "b"), ("", "a"), (None, "a")):
        call(service, identity, 9, back=True, client=client)
    assert left(service, "back", ("client", "a")) == 1
    assert service.negative_hits == 5
    assert "is_negative_hits" not in caplog.text, "a mapping names the entry"


def test_hits_of_a_domain_without_correlation_are_told_also_after_others(
    service: RateLimitService, caplog: pytest.LogCaptureFixture
) -> None:
    call(service, "unknown", 9, back=True)
    for _ in range(2):
        service.answer(Request("other", (Descriptor((), 1, is_negative=True),)))
    assert caplog.text.count("is_negative_hits") == 1
    assert service.negative_hits == 3


def test_a_charge_in_another_unit_is_not_given_back(service: RateLimitService) -> None:
    """The mapping may have changed between the two calls."""
    assert call(service, "r1", 4) == Code.OK
    text = f"{HEAD}domains: {{back: {{correlation: x-request-id, unit: tokens}}}}\n"
    service.map_by(EnvoyMapping(parse_mapping(text.encode(), "mapping.yaml")[0]))
    call(service, "r1", 4, back=True)
    assert service.negative_hits == 1
    assert limit_left(service._agent, "each") == 6


def test_all_is_given_back_of_a_request_that_another_descriptor_refused(
    service: RateLimitService,
) -> None:
    entries = ("client", "a"), ("x-request-id", "r1")
    asking = Request("back", (Descriptor(entries, 4), Descriptor((("client", "b"),), 11)))
    assert service.answer(asking).code == Code.OVER_LIMIT
    call(service, "r1", 4, back=True)
    assert service.negative_hits == 1
    assert left(service, "back", ("client", "a")) == 10


def test_the_identity_is_no_attribute(mapping: EnvoyMapping) -> None:
    found = question(mapping, "back", ("x-request-id", "r"), ("client", "a"))
    assert found is not None
    assert (found.request, found.attributes) == ("r", {"client": "a"})


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_charges_are_forgotten_after_a_minute_and_when_there_are_many(
    mapping: EnvoyMapping,
) -> None:
    time = Time()
    refunds = Refunds(time)
    with Agent.from_policies(POLICIES) as agent:
        decision = agent.check("/back", {"client": "a"})

        def known(number: int) -> Question:
            found = question(mapping, "back", ("x-request-id", str(number)), ("client", "a"))
            assert found is not None
            return found

        refunds.note(known(0), decision)
        time.now = 59.9
        refunds.note(known(1), decision)
        time.now = 60.0
        assert not refunds.give_back(known(0))
        assert refunds.give_back(known(1))
        for number in range(10_001):
            refunds.note(known(number), decision)
        assert len(refunds._charges) == 10_000
        assert not refunds.give_back(known(0))
        assert refunds.give_back(known(1))
        refunds.note(known(2), decision)
        for number in range(10_001, 20_000):
            refunds.note(known(number), decision)
        assert refunds.give_back(known(2)), "a charge that is noted again is a young one"
        refunds.note(known(5)._replace(request="x" * 257), decision)
        assert not refunds.give_back(known(5)._replace(request="x" * 257))


def test_threads_give_each_charge_back_once(service: RateLimitService) -> None:
    for number in range(10):
        assert call(service, f"r{number}", 1) == Code.OK
    threads = [
        threading.Thread(target=lambda: [call(service, f"r{n}", 1, back=True) for n in range(10)])
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert service.negative_hits == 70
    assert left(service, "back", ("client", "a")) == 10


# -- what the compiled core decides


def test_costs_in_a_unit_are_charged_with_one_request(clock: FakeClock) -> None:
    text = f"{HEAD}domains: {{a: {{scope: /back}}, b: {{scope: /back, unit: tokens}}}}\n"
    mapping = EnvoyMapping(parse_mapping(text.encode(), "mapping.yaml")[0])
    with Agent.from_policies(POLICIES, clock=clock) as agent:
        service = RateLimitService(agent, mapping)
        for name, hits in (("a", 3), ("b", 40), ("a", 3), ("b", 40), ("a", 2)):
            answer = asked(service, request(name, descriptor(("client", "a"), hits=hits)))
            assert answer.overall_code == Code.OK
        assert limit_left(agent, "tokens") == 20
        assert limit_left(agent, "each") == 0, "8 hits, and 2 requests of tokens"
        service.map_by(EnvoyMapping())
        answer = asked(service, request("a", descriptor(("client", "a"))))
        assert not answer.statuses[0].HasField("current_limit"), "no policy covers /a"


def test_requests_do_not_plan_a_domain_again(
    service: RateLimitService, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned: list[Domain] = []
    monkeypatch.setattr(Domain, "_plan", planned.append)
    for domain in ("shop", "listed", "back"):
        for _ in range(3):
            service.decide(request(domain, descriptor(("client", "a"))).SerializeToString())
    assert not planned


def test_domains_that_the_compiled_core_decides(mapping: EnvoyMapping) -> None:
    names = ("shop", "listed", "back", "other")
    assert [mapping.domain(name).core is not None for name in names] == [0, 1, 0, 1]
