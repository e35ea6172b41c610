"""A real Envoy that reports what requests have cost when they end, and gives hits back."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml

from envoy_server import EnvoyServer
from etcd_server import free_port, wait_for
from ratectl import Agent
from ratectl.sidecar import Sidecar
from support import once

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ratectl.sidecar.service import RateLimitService

pytestmark = [once, pytest.mark.envoy, pytest.mark.xdist_group("envoy")]

DOCS = Path(__file__).parents[2] / "docs" / "envoy"
POLICIES = """
apiVersion: ratectl/v1
scope: /llm
limits:
  tokens: {rate: 100/day, burst: 100, per: client, unit: tokens}
---
apiVersion: ratectl/v1
scope: /shop
limits:
  each: {rate: 3/day, burst: 3, per: client}
"""


class _Service(BaseHTTPRequestHandler):
    """Answers with the headers of the request."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        for name in ("x-tokens", "x-refund"):
            if name in self.headers:
                self.send_header(name, self.headers[name])
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        pass


@contextmanager
def asked_by_envoy(
    folder: Path, example: str
) -> Iterator[tuple[Callable[..., int], RateLimitService, Agent]]:
    """Run Envoy with the rate limits of an example in the documentation."""
    service = ThreadingHTTPServer(("127.0.0.1", 0), _Service)
    threading.Thread(target=service.serve_forever, daemon=True).start()
    front = free_port()
    with (
        Agent.from_policies(POLICIES) as agent,
        Sidecar(agent, "127.0.0.1:0", mapping=DOCS / "mapping.yaml") as sidecar,
    ):
        text = (DOCS / "envoy.yaml").read_text()
        for old, new in {
            "8000}": f"{service.server_port}}}",
            "8081}": f"{sidecar.rls.port}}}",
            "10000}": f"{front}}}",
            "timeout: 0.1s": "timeout: 10s",
            "domain: shop": f"domain: {example}",
            "/dev/stdout": f"{folder}/access.log",
        }.items():
            text = text.replace(old, new)
        config = yaml.safe_load(text)
        route = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]
        (host,) = route["typed_config"]["route_config"]["virtual_hosts"]
        del host["rate_limits"]
        host |= yaml.safe_load((DOCS / f"{example}.yaml").read_text())
        envoy = EnvoyServer(config, folder)

        def get(**headers: str) -> int:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            return httpx.get(f"http://127.0.0.1:{front}/", headers=named, timeout=30).status_code

        try:
            yield get, sidecar._methods.service, agent
        finally:
            envoy.stop()
            service.shutdown()
            service.server_close()


def left(agent: Agent, scope: str, client: str) -> tuple[bool, int | None, float | None]:
    decision = agent.check(scope, {"client": client}, 0)
    return decision.allowed, decision.remaining, decision.retry_after


def test_tokens_of_an_answer_are_charged_when_it_ends(tmp_path: Path) -> None:
    with asked_by_envoy(tmp_path, "llm") as (get, _, agent):
        assert get(x_client="a", x_tokens="60") == 200
        wait_for(lambda: left(agent, "/llm", "a")[1] == 40, "the charge", 10)
        assert get(x_client="a", x_tokens="1000") == 200
        wait_for(lambda: not left(agent, "/llm", "a")[0], "the debt", 10)
        assert left(agent, "/llm", "a")[2] == pytest.approx(960 * 864, rel=0.01)
        for _ in range(3):
            assert get(x_client="a", x_tokens="60") == 429
        assert get(x_client="b") == 200, "another client; an answer that names no tokens"
        assert left(agent, "/llm", "a")[2] == pytest.approx(960 * 864, rel=0.01)


def test_a_request_gets_back_what_it_was_charged(tmp_path: Path) -> None:
    with asked_by_envoy(tmp_path, "refunds") as (get, service, agent):
        assert get(x_client="a") == 200
        assert get(x_client="a", x_refund="1") == 200
        wait_for(lambda: left(agent, "/shop", "a")[1] == 2, "the refund", 10)
        assert get(x_client="a", x_refund="9") == 200
        wait_for(lambda: left(agent, "/shop", "a")[1] == 2, "what was charged, and no more", 10)
        assert get(x_client="a") == 200
        assert get(x_client="a") == 200
        assert left(agent, "/shop", "a")[1] == 0
        for _ in range(3):
            assert get(x_client="a", x_refund="1") == 429
        assert left(agent, "/shop", "a")[1] == 0
    assert service.negative_hits == 0, "Envoy's own answers have no such header"
