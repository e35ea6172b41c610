"""A real Envoy that reports what requests have cost when they end, and gives hits back."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import yaml

from etcd_server import wait_for
from ratectl import Agent
from ratectl.sidecar import Sidecar
from sidecar.meshes import DOCS, Config, mesh, virtual_host
from support import once

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ratectl.sidecar.service import RateLimitService

pytestmark = [once, pytest.mark.envoy, pytest.mark.xdist_group("envoy")]

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


@contextmanager
def asked_by_envoy(
    folder: Path, example: str
) -> Iterator[tuple[Callable[..., int], RateLimitService, Agent]]:
    """Run Envoy with the rate limits of an example in the documentation, and a sidecar."""

    def use(config: Config) -> Config:
        host = virtual_host(config)
        del host["rate_limits"]
        host |= yaml.safe_load((DOCS / f"{example}.yaml").read_text())
        return config

    with (
        mesh(folder, use, **{"domain: shop": f"domain: {example}"}) as run,
        Agent.from_policies(POLICIES) as agent,
        Sidecar(agent, f"127.0.0.1:{run.rls}", rls_mapping=DOCS / "mapping.yaml") as sidecar,
    ):
        wait_for(lambda: "ratelimit" in run.get("first").headers, "Envoy to connect", 60)

        def get(client: str, **headers: str) -> int:
            return run.get(client, **headers).status_code

        yield get, sidecar._methods.service, agent


def left(agent: Agent, scope: str, client: str) -> tuple[bool, int | None, float | None]:
    decision = agent.check(scope, {"client": client}, 0)
    return decision.allowed, decision.remaining, decision.retry_after


def test_tokens_of_an_answer_are_charged_when_it_ends(
    tmp_path: Path, figure: Callable[[str], None]
) -> None:
    with asked_by_envoy(tmp_path, "llm") as (get, _, agent):
        assert get("a", x_tokens="60") == 200
        wait_for(lambda: left(agent, "/llm", "a")[1] == 40, "the charge", 10)
        assert get("a", x_tokens="1000") == 200
        wait_for(lambda: not left(agent, "/llm", "a")[0], "the debt", 10)
        assert left(agent, "/llm", "a")[2] == pytest.approx(960 * 864, rel=0.01)
        for _ in range(3):
            assert get("a", x_tokens="60") == 429
        assert get("b") == 200, "another client; an answer that names no tokens"
        assert left(agent, "/llm", "a")[2] == pytest.approx(960 * 864, rel=0.01)
    figure("costs of answers, limit 100: 60 and 1000 tokens pass, then 960 are owed: 429")


def test_a_request_gets_back_what_it_was_charged(
    tmp_path: Path, figure: Callable[[str], None]
) -> None:
    with asked_by_envoy(tmp_path, "refunds") as (get, service, agent):
        assert get("a") == 200
        assert get("a", x_refund="1") == 200
        wait_for(lambda: left(agent, "/shop", "a")[1] == 2, "the refund", 10)
        assert get("a", x_refund="9") == 200
        wait_for(lambda: left(agent, "/shop", "a")[1] == 2, "what was charged, and no more", 10)
        assert get("a") == 200
        assert get("a") == 200
        assert left(agent, "/shop", "a")[1] == 0
        for _ in range(3):
            assert get("a", x_refund="1") == 429
        assert left(agent, "/shop", "a")[1] == 0
    assert service.negative_hits == 0, "Envoy's own answers have no such header"
    figure("hits given back: 1 of 1 charged, 1 where Envoy gives 9 back, none after a 429")
