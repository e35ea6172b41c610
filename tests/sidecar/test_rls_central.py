"""Limits that a server counts (``across: redis``): the sidecar waits for it in threads."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from envoy.service.ratelimit.v3.rls_pb2 import RateLimitResponse

from etcd_server import wait_for
from ratectl import Agent
from ratectl.sidecar import Sidecar
from ratectl.sidecar.mapping import EnvoyMapping
from ratectl.sidecar.mapping_file import parse_mapping
from ratectl.sidecar.service import METHOD, RateLimitService
from ratectl.sidecar.sidecar import SERVERS
from sidecar.envoys_messages import OK, OVER, asked, descriptor, request
from sidecar.servers import needed
from support import once

if TYPE_CHECKING:
    from collections.abc import Iterator

    from valkey_server import ValkeyServer

pytestmark = [once, pytest.mark.valkey]

POLICIES = """
apiVersion: ratectl/v1
scope: /shop
limits:
  local: {rate: 80/day, burst: 80, per: client}
  each: {rate: 5/day, burst: 5, per: client, across: redis}
"""
ASKED = request("shop", descriptor(("client", "a"))).SerializeToString()


@contextmanager
def calling(server: Any, valkey: ValkeyServer, deadline: float) -> Iterator[Any]:
    with (
        Agent.from_policies(POLICIES, redis=valkey.url, redis_deadline=deadline) as agent,
        Sidecar(agent, "127.0.0.1:0", server=needed(server)) as sidecar,
        grpc.insecure_channel(str(sidecar.rls)) as channel,
    ):
        yield channel.unary_unary(METHOD)


@pytest.mark.parametrize("server", SERVERS)
def test_the_server_counts(server: Any, valkey: ValkeyServer) -> None:
    with calling(server, valkey, 10) as call:
        calls = [call.future(ASKED, timeout=20) for _ in range(20)]
        answers = [RateLimitResponse.FromString(each.result()) for each in calls]
    assert sorted(answer.overall_code for answer in answers) == [OK] * 5 + [OVER] * 15
    assert {answer.statuses[0].current_limit.name for answer in answers} == {"each"}
    assert any(b"each" in key for key in valkey.client().keys("*"))


@pytest.mark.parametrize("server", SERVERS)
def test_calls_wait_no_longer_than_the_deadline(server: Any, valkey: ValkeyServer) -> None:
    with calling(server, valkey, 0.5) as call:
        call(ASKED, timeout=20)
        valkey.pause()
        try:
            began = time.monotonic()
            calls = [call.future(ASKED, timeout=60) for _ in range(8)]
            for each in calls:
                assert RateLimitResponse.FromString(each.result()).overall_code in (OK, OVER)
            assert time.monotonic() - began < 20
        finally:
            valkey.resume()


@pytest.mark.parametrize("setting", ["late_cost: true", "charge_refused: true"])
def test_costs_of_responses_are_charged_in_full(valkey: ValkeyServer, setting: str) -> None:
    """Envoy asks with 0 hits before, and with all of them when the request has ended."""
    text = f"apiVersion: ratectl/v1\nkind: EnvoyMapping\ndomains: {{shop: {{{setting}}}}}\n"
    mapping = EnvoyMapping(parse_mapping(text.encode(), "mapping.yaml")[0])
    with Agent.from_policies(POLICIES, redis=valkey.url, redis_deadline=10) as agent:
        service = RateLimitService(agent, mapping)

        def ask(hits: int) -> Any:
            return asked(service, request("shop", descriptor(("client", "a"), hits=hits)))

        assert ask(0).overall_code == OK
        ask(3)
        assert ask(0).overall_code == OK
        ask(50)  # of which two are left
        wait_for(lambda: ask(0).overall_code == OVER, "the charge")
        other = asked(service, request("shop", descriptor(("client", "b"), hits=5)))
        assert other.overall_code == OK
