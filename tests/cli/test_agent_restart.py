"""``ratectl agent run`` that is restarted goes on with its counters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
from test_agent_endpoints import agent_run

from etcd_server import wait_for
from ratectl.sidecar.service import METHOD
from ratectl.stores import open_store
from sidecar.envoys_messages import OK, OVER, descriptor, request
from support import once, policies, publish_policies

if TYPE_CHECKING:
    from pathlib import Path

from envoy.service.ratelimit.v3.rls_pb2 import RateLimitResponse

TREE = policies(**{"/mail": {"limits": {"spike": {"rate": "2/day", "burst": 2}}}})
ASKED = request("mail", descriptor()).SerializeToString()


def codes(url: str, tmp_path: Path, *options: str) -> list[int]:
    """Run a sidecar, and return its answers to three requests."""
    path = tmp_path / "rls.sock"
    with agent_run(url, tmp_path, "--rls", f"unix:{path}", *options) as running:
        running.logged("rls on unix:")
        with grpc.insecure_channel(f"unix:{path}") as channel:
            check = channel.unary_unary("/grpc.health.v1.Health/Check")
            decide = channel.unary_unary(METHOD)
            wait_for(lambda: check(b"", timeout=20) == b"\x08\x01", "a generation", 20)
            return [
                RateLimitResponse.FromString(decide(ASKED, timeout=20)).overall_code
                for _ in range(3)
            ]


@once
def test_limit_that_is_used_up_is_used_up_after_a_restart(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/rates.db"
    with open_store(url) as store:
        publish_policies(store, TREE)
    assert codes(url, tmp_path, "--id", "edge") == [OK, OK, OVER]
    assert codes(url, tmp_path, "--id", "edge") == [OVER, OVER, OVER]
    assert codes(url, tmp_path, "--id", "edge", "--no-keep-counters") == [OK, OK, OVER]
    assert codes(url, tmp_path, "--id", "other") == [OK, OK, OVER]
