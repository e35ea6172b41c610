"""The compiled core answers with the bytes with which Python does."""

from __future__ import annotations

import gc
import struct
import sys
from itertools import product
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import ratectl.sidecar.service as service_module
from etcd_server import wait_for
from ratectl import Agent, FakeClock
from ratectl.agent.origins import Origins
from ratectl.engine.api import Engine
from ratectl.sidecar.mapping import EnvoyMapping
from ratectl.sidecar.mapping_file import parse_mapping
from ratectl.sidecar.messages import Descriptor, Request
from ratectl.sidecar.questions import InvalidRequest
from ratectl.sidecar.service import RateLimitService
from ratectl.sidecar.wire import WireError, decode_request, encode_response
from ratectl.stores import open_store
from sidecar.test_rls_wire import MESSAGES, field, varint, written
from support import once, policies, publish_policies

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

POLICIES = """
apiVersion: ratectl/v1
scope: /shop
limits:
  each: {rate: 2/s, burst: 40, per: client}
  pair: {rate: 3/min, burst: 30, per: [client, item]}
budgets:
  all: {rate: 600/min, burst: 100}
overrides:
  - name: gold
    match: {tier: gold}
    limits: {each: {rate: 7/s, burst: 50}}
---
apiVersion: ratectl/v1
scope: /shop/windows
limits:
  hourly: {algorithm: sliding-window, rate: 30/h, per: client}
  rows: {rate: 3/s, burst: 60, per: item, unit: rows}
---
apiVersion: ratectl/v1
scope: /shadow
limits:
  each: {rate: 3/s, burst: 3, mode: shadow}
---
apiVersion: ratectl/v1
scope: /slots
limits:
  slots: {algorithm: concurrency, max: 50, hold: 5s}
---
apiVersion: ratectl/v1
scope: /daily
limits:
  daily: {algorithm: quota, rate: 50/day, resets: "00:00 UTC"}
"""


MAPPING = """
apiVersion: ratectl/v1
kind: EnvoyMapping
domains:
  mapped:
    scope: /shop
    attributes: {tier: item}
    descriptors:
      - key: client
        value: a
        scope: /shop/windows
        descriptors:
          - {key: item, unit: rows}
          - {key: item, value: b, scope: /daily, descriptors: [{key: client}]}
          - {key: tier, value: "n*", scope: /slots}
          - {key: tier, value: gold, scope: /slots, unit: rows}
      - {key: client, value: "x*", scope: /daily, name: daily}
      - {key: client, value: b, scope: /shop, name: b, replaces: [daily, shadow]}
      - {key: client, value: "", scope: /shadow}
      - {key: item, scope: /shadow, name: shadow}
  passing:
    scope: /shop
    unlisted: pass
    descriptors:
      - {key: client, descriptors: [{key: item, scope: /shop/windows, unit: rows}]}
      - {key: client, value: a, scope: /shop}
      - {key: item, value: "b*", scope: /shop}
  late: {scope: /shop, descriptors: [{key: client, value: a, late_cost: true, unit: rows}]}
  itself: {scope: /shop, descriptors: [{key: client, scope: /shop, name: x, replaces: [x]}]}
  several:
    scope: /shop
    charge_refused: true
    descriptors:
      - {key: client, descriptors: [{key: item, scope: /shop/windows}]}
      - {key: item, scope: /daily, charge_refused: false}
      - {key: tier, scope: /slots}
  back: {scope: /shop, correlation: item}
  brought: {scope: /shop, override: tier}
"""


class Twins:
    """Two services with equal buckets, of which one never asks the compiled core for an answer."""

    def __init__(self) -> None:
        mapping = EnvoyMapping(parse_mapping(MAPPING.encode(), "mapping.yaml")[0])
        self.clock = FakeClock()
        self.agents = [Agent.from_policies(POLICIES, clock=self.clock) for _ in range(2)]
        self.services = [RateLimitService(agent, mapping) for agent in self.agents]

    def close(self) -> None:
        for agent in self.agents:
            agent.close()

    def agree(self, data: bytes) -> bytes:
        """Require equal answers; return the beginning of them."""
        core, python = self.services
        try:
            expected = encode_response(python.answer(decode_request(data)))
        except (WireError, InvalidRequest) as error:
            with pytest.raises(type(error)):
                core.decide(data)
            return b""
        assert core.decide(data) == expected
        return expected[:2]


@pytest.fixture(scope="module")
def twins() -> Iterator[Twins]:
    twins = Twins()
    yield twins
    twins.close()


DOMAINS = st.sampled_from(
    ["shop", "shop/cart", "shop/windows", "shadow", "slots", "daily", "none", "/shop/", "é", ""]
    + 4 * ["mapped", "passing", "several"]
    + ["late", "back", "brought"]
)
KEYS = st.sampled_from(["client", "item", "tier", "client", "x" * 300])
VALUES = st.sampled_from(["a", "b", "gold", "", "é\0", "x" * 200, "n"])
HITS = st.integers(0, 5) | st.sampled_from([2**32 - 1, 2**61, 2**63, 2**64 - 1])
DESCRIPTORS = st.builds(
    Descriptor,
    st.lists(st.tuples(KEYS, VALUES), max_size=18).map(tuple) | st.just((("client", "n"),)),
    st.none() | HITS,
    st.sampled_from([False, False, False, True]),
    st.none(),
)
REQUESTS = st.builds(
    Request,
    DOMAINS,
    st.lists(DESCRIPTORS, min_size=1, max_size=3).map(tuple)
    | st.lists(DESCRIPTORS, min_size=6, max_size=10).map(tuple),
    st.sampled_from([0, 0, 1, 2, 2**32 - 1]),
)


@given(st.lists(st.tuples(REQUESTS, st.sampled_from([0, 0, 0.1, 1, 3600])), max_size=8))
def test_requests_have_the_same_answers(
    twins: Twins, requests: list[tuple[Request, float]]
) -> None:
    for request, pause in requests:
        twins.agree(written(request).SerializeToString())
        twins.clock.advance(pause)


@pytest.mark.parametrize("domain", ["mapped", "passing", "late", "itself"])
def test_each_way_through_a_mapping_has_the_same_answer(domain: str) -> None:
    """Each request comes twice: the compiled core learns its texts from the first."""
    twins = Twins()
    entries = [
        (key, value)
        for key in ("client", "item", "tier")
        for value in ("a", "b", "gold", "", "n1", "xx", "q")
    ]
    ways = [(), *((first,) for first in entries), *product(entries, entries)]
    for way in ways:
        data = written(Request(domain, (Descriptor(way, 1),))).SerializeToString()
        for _ in range(2):
            twins.agree(data)
        twins.clock.advance(60)
    twins.close()


@pytest.mark.parametrize("domain", ["shop", "shop/windows", "several", "passing", "mapped"])
def test_several_descriptors_have_the_same_answers(domain: str) -> None:
    """Some are refused, so that others are given back; then other answers tell what is left."""
    twins, chance, refused = Twins(), Random(domain), 0
    for _ in range(1_500):
        descriptors = [
            Descriptor(
                tuple((key, chance.choice("abc")) for key in chance.choice(WAYS)),
                chance.choice((None, None, 0, 1, 7)),
            )
            for _ in range(chance.choice((2, 2, 3, 5, 8)))
        ]
        data = written(Request(domain, tuple(descriptors))).SerializeToString()
        refused += twins.agree(data) != b"\x08\x01"
        if chance.random() < 0.1:
            twins.clock.advance(chance.choice((0.1, 3, 600)))
    assert 100 < refused < 1_400
    twins.close()


WAYS = (("client",), ("item",), ("tier",), ("client", "item"), ("client", "item", "tier"))


@given(MESSAGES)
@example(field(1, 2, b"\x04shop") + field(2, 2, varint(0)))
@example(field(1, 2, b"\x04shop") + field(2, 2, b"\x02" + field(3, 2, b"\0")))
@example(field(1, 2, b"\x04shop") + field(2, 2, b"\x04" + field(3, 2, b"\2" + field(1, 2, b""))))
@example(field(1, 2, b"\x04shop") + field(2, 2, b"\x04" + field(3, 2, b"\2" + field(1, 0, b"\7"))))
def test_any_fields_have_the_same_answer(twins: Twins, data: bytes) -> None:
    twins.agree(data)
    twins.agree(field(1, 2, b"\x04shop") + data)
    twins.agree(field(1, 2, b"\x04shop") + field(2, 2, varint(len(data)) + data))


EACH = Descriptor((("client", "a"), ("item", "b")))
USUAL = written(Request("shop", (EACH,)))
NAMES = {b"client": "client", b"item": "item"}
ROOT = ("/shop", None, None, False)


def plans(names: dict[bytes, str]) -> dict[bytes, Any]:
    return {b"shop": (ROOT, names, False, False)}


@given(st.binary(max_size=4), st.integers(0, 60), st.integers(0, 60))
def test_damaged_requests_have_the_same_answer(
    twins: Twins, noise: bytes, at: int, end: int
) -> None:
    data = USUAL.SerializeToString()
    twins.agree(data)  # the texts are known from now on
    twins.agree(data[:at] + noise + data[at + len(noise) :])
    twins.agree(data[:end])


@once
class TestCore:
    """The compiled core is the one that answers."""

    def test_the_usual_request_needs_no_python(self, monkeypatch: pytest.MonkeyPatch) -> None:
        read: list[bytes] = []

        def decode(data: bytes) -> Request:
            read.append(data)
            return decode_request(data)

        monkeypatch.setattr(service_module, "decode_request", decode)
        twins = Twins()
        service = twins.services[0]
        data = USUAL.SerializeToString()
        for _ in range(10):
            assert service.decide(data)[:2] == b"\x08\x01"
        assert len(read) == 1, "the first one tells which texts are in common"
        other = written(Request("shop", (Descriptor((("item", "c"), ("client", "d")), 3),)))
        service.decide(other.SerializeToString())
        assert len(read) == 1
        for entries in (
            (("client", "a"), ("item", "b")),
            (("client", "a"), ("item", "c")),
            (("tier", "x"), ("client", "b")),
        ):
            mapped = written(Request("mapped", (Descriptor(entries),))).SerializeToString()
            service.decide(mapped)
            before = len(read)
            for _ in range(3):
                assert service.decide(mapped)[:2] == b"\x08\x01"
            assert len(read) == before
        twins.close()

    @pytest.mark.parametrize(("count", "of_python"), [(2, False), (8, False), (9, True)])
    def test_several_descriptors_need_no_python(
        self, count: int, of_python: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        twins = Twins()
        service = twins.services[0]
        each = [Descriptor((("client", f"c{number}"),), 0) for number in range(count)]
        data = written(Request("shop", tuple(each))).SerializeToString()
        for _ in range(3):
            service.decide(data)
        monkeypatch.setattr(service_module, "decode_request", None)
        if of_python:
            with pytest.raises(TypeError):
                service.decide(data)
        else:
            assert service.decide(data)[:2] == b"\x08\x01"
        twins.close()

    def test_a_refusal_needs_no_python(self, monkeypatch: pytest.MonkeyPatch) -> None:
        twins = Twins()
        service = twins.services[0]
        data = USUAL.SerializeToString()
        refusals = [found for found in told(service, data) if found[:2] == b"\x08\x02"]
        monkeypatch.setattr(service_module, "decode_request", None)
        monkeypatch.setattr(service_module, "encode_response", None)
        assert service.decide(data) == refusals[0] == refusals[-1]
        assert b"<policies>:6:16" in refusals[0]
        several = written(Request("shop", (EACH, EACH))).SerializeToString()
        with pytest.raises(TypeError):  # what others charge is given back
            service.decide(several)
        own = written(Request("shop", (EACH._replace(hits=1),))).SerializeToString()
        with pytest.raises(TypeError):  # a mapping may want it to be charged
            service.decide(own)
        twins.close()

    def test_a_refusal_names_the_line_as_soon_as_it_is_known(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        known: list[bool] = []
        place = Origins.place
        monkeypatch.setattr(
            Origins, "place", lambda self, *value: place(self, *value) if known else None
        )
        with Agent.from_policies(POLICIES) as agent:
            service = RateLimitService(agent)
            data = USUAL.SerializeToString()
            assert b"<policies>:6:16" not in told(service, data)[-1]
            known.append(True)
            assert [b"<policies>:6:16" in service.decide(data) for _ in range(3)] == [True] * 3

    def test_what_it_knows_of_limits_is_of_their_generation(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path}/rates.db"
        data = USUAL.SerializeToString()
        with open_store(url) as store, Agent(url, state_dir=tmp_path / "state") as agent:
            service = RateLimitService(agent)
            for generation, burst in enumerate((40, 60), 1):
                each = {"rate": "2/s", "burst": burst, "per": "client"}
                publish_policies(store, policies(**{"/shop": {"limits": {"each": each}}}))
                wait_for(lambda: agent.generation == generation, "the generation")  # noqa: B023
                wanted = f'"each";q={burst};w={burst // 2}'.encode()
                assert [wanted in service.decide(data) for _ in range(3)] == [True] * 3
                refusals = [found for found in told(service, data) if found[:2] == b"\x08\x02"]
                assert len(refusals) > 5
                assert all(wanted in each for each in refusals)
                number = struct.pack("<d", generation)
                assert all(b"\x0ageneration\x12\x09\x11" + number in each for each in refusals)

    def test_wrong_arguments(self) -> None:
        with Agent.from_policies(POLICIES) as agent:
            rls: Any = agent._engine.rls
            for arguments in ((), ({}, None), ({}, None, ""), ([], None, b""), (None, None, b"")):
                with pytest.raises(TypeError):
                    rls(*arguments)
            data = USUAL.SerializeToString()
            assert rls({}, None, data) is None
            assert rls(plans({b"client": "client"}), None, data) is None
            agent.check("/shop", {"client": "a", "item": "b"})  # the core decides what is not new
            with pytest.raises(TypeError):
                rls(plans(NAMES), None, data)
            ((decision, scope, attributes, cost),) = rls(plans(NAMES), lambda *_: None, data)
            assert decision.allowed
            assert (scope, attributes, cost) == ("/shop", {"client": "a", "item": "b"}, 1)

    @pytest.mark.parametrize(
        "plan",
        [
            None,
            (),
            (None, NAMES, False, False),
            ((), NAMES, False, False),
            (ROOT, None, False, False),
            (("/shop", None, 7, True), NAMES, False, False),
            (("/shop", None, {b"client": None}, True), NAMES, False, False),
            (("/shop", None, {b"client": ()}, True), NAMES, False, False),
            (("/shop", None, {b"client": (7, None)}, True), NAMES, False, False),
            (("/shop", None, {b"client": ({b"a": 7}, None)}, True), NAMES, False, False),
            (("/shop", None, {b"client": ({}, ("/shop",))}, True), NAMES, False, False),
            (("/shop", [], None, True), NAMES, False, False),
        ],
    )
    def test_wrong_plans(self, plan: Any) -> None:
        with Agent.from_policies(POLICIES) as agent:
            rls: Any = agent._engine.rls
            with pytest.raises((TypeError, IndexError, SystemError)):
                rls(USUAL.SerializeToString(), {b"shop": plan}, lambda *_: None)

    @pytest.mark.parametrize("wrong", [(), (b"", b"", b""), (b"", "", b"", b""), 7, [b""] * 4])
    def test_wrong_parts_of_an_answer(self, wrong: Any) -> None:
        with Agent.from_policies(POLICIES) as agent:
            rls: Any = agent._engine.rls
            agent.check("/shop", {"client": "a", "item": "b"})
            try:
                found = rls(USUAL.SerializeToString(), plans(NAMES), lambda *_: wrong)
            except (TypeError, IndexError):
                return
            assert found[0][0].allowed

    @pytest.mark.parametrize("count", [1, 4])
    @pytest.mark.parametrize("hits", [0, None, 10**9])
    def test_nothing_leaks(self, count: int, hits: int | None) -> None:
        with Agent.from_policies(POLICIES) as agent:
            service = RateLimitService(agent)
            each = [Descriptor((("client", f"c{n}"), ("item", "b")), hits) for n in range(count)]
            data = written(Request("shop", tuple(each))).SerializeToString()
            for _ in range(1_100):
                service.decide(data)
            gc.collect()
            before = sys.getallocatedblocks()
            for _ in range(5_000 if hits else 30_000):
                service.decide(data)
            gc.collect()
            # Threads of other tests may allocate some, too.
            assert sys.getallocatedblocks() - before < 3_000


def told(service: RateLimitService, data: bytes) -> list[bytes]:
    """Ask until long after the limits are used up."""
    return [service.decide(data) for _ in range(100)]


def test_engines_without_a_core_leave_it_to_python() -> None:
    assert Engine.rls(None, {}, lambda *_: None, b"") is None  # type: ignore[arg-type]
