"""A real Envoy that asks a real sidecar, configured by the file of the documentation."""

from __future__ import annotations

import json
import re
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

import pytest

from etcd_server import free_port, wait_for
from ratectl import Agent
from ratectl.sidecar import Sidecar
from ratectl.sidecar.sidecar import SERVERS
from ratectl.stores import open_store
from sidecar.meshes import Load, mesh, with_second
from sidecar.servers import needed
from support import once, policies, publish_policies

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ratectl.stores.base import Store

pytestmark = [once, pytest.mark.envoy, pytest.mark.xdist_group("envoy")]

POLICIES = """
apiVersion: ratectl/v1
scope: /shop
limits:
  each: {rate: 3/day, burst: 3, per: client}
"""


@pytest.mark.parametrize("server", SERVERS)
def test_requests_pass_until_the_limit_is_used_up(
    tmp_path: Path, server: Any, figure: Callable[[str], None]
) -> None:
    with (
        mesh(tmp_path) as run,
        Agent.from_policies(POLICIES) as agent,
        Sidecar(agent, f"127.0.0.1:{run.rls}", server=needed(server)),
    ):
        answers = [run.get("a") for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert answers[0].headers["ratelimit-policy"] == '"each";q=3;w=86400'
        assert answers[0].headers["ratelimit"].startswith('"each";r=2;t=')
        assert answers[3].headers["ratelimit"].startswith('"each";r=0;t=')
        assert 0 < int(answers[3].headers["retry-after"]) <= 86_400 / 3
        assert answers[3].headers["x-envoy-ratelimited"] == "true"
        assert run.get("b").status_code == 200
        counters = run.envoy.counters("ratelimit")
        assert counters["cluster.shop.ratelimit.ok"] == 4
        assert counters["cluster.shop.ratelimit.over_limit"] == 1
        log = wait_for(lambda: refusal_in(tmp_path / "access.log"), "the access log", 30)
    assert log == {
        "generation": 1,
        "limit": "each",
        "reason": "limited",
        "scope": "/shop",
        "source": "<policies>:5:16",
    }
    wait = answers[3].headers["retry-after"]
    figure(f"{server}: of 4 requests, 3 pass, and one is 429: retry-after {wait}, {log['source']}")


def refusal_in(log: Path) -> dict[str, Any] | None:
    """Return the metadata of the refusal in Envoy's log."""
    lines = log.read_text().splitlines() if log.exists() else []
    found = [line.split(" ", 2)[2] for line in lines if line.startswith("429 /cart ")]
    return json.loads(found[0]) if found else None


@pytest.mark.parametrize(("denies", "expected"), [("false", 200), ("true", 500)])
def test_without_a_sidecar_envoys_setting_decides(
    tmp_path: Path, denies: str, expected: int, figure: Callable[[str], None]
) -> None:
    change = {"failure_mode_deny: false": f"failure_mode_deny: {denies}"}
    with mesh(tmp_path, **change) as run, Agent.from_policies(POLICIES) as agent:
        assert run.get("a").status_code == expected
        with Sidecar(agent, f"127.0.0.1:{run.rls}"):
            wait_for(lambda: "ratelimit" in run.get("b").headers, "Envoy to connect again", 60)
            assert [run.get("c").status_code for _ in range(4)] == [200, 200, 200, 429]
        assert run.get("c").status_code == expected
        # The names in the alert RatectlEnvoyUnanswered.
        metrics = run.envoy.get("/stats/prometheus")
        for name in ("ok", "error"):
            line = rf'^envoy_cluster_ratelimit_{name}{{envoy_cluster_name="shop"}} [1-9]'
            assert re.search(line, metrics, re.MULTILINE), name
    figure(f"no sidecar, failure_mode_deny {denies}: {expected}")


def test_of_two_sidecars_one_that_has_ended_is_not_asked(
    tmp_path: Path, figure: Callable[[str], None]
) -> None:
    """As with DNS of a service whose pod has gone: its address stays in the cluster."""
    second = free_port()
    with (
        mesh(tmp_path, partial(with_second, second)) as run,
        Agent.from_policies(POLICIES) as agent,
        Sidecar(agent, f"127.0.0.1:{run.rls}"),
    ):
        healthy = "cluster.ratectl.membership_healthy"
        with Sidecar(agent, f"127.0.0.1:{second}"):
            wait_for(lambda: run.envoy.counters(healthy)[healthy] == 2, "both", 60)
        ended = monotonic()
        wait_for(lambda: run.envoy.counters(healthy)[healthy] == 1, "the end of one", 60)
        figure(f"one of two sidecars ends: Envoy knows {monotonic() - ended:.1f} s later")
        # Its thread for requests hears of it a moment later.
        wait_for(lambda: all("ratelimit" in run.get("a").headers for _ in range(10)), "answers", 60)


def test_new_generations_under_load_fail_no_request(
    tmp_path: Path, figure: Callable[[str], None]
) -> None:
    url = f"sqlite:///{tmp_path}/rates.db"
    deny = {"failure_mode_deny: false": "failure_mode_deny: true"}
    with (
        open_store(url) as store,
        mesh(tmp_path, **deny) as run,
        Agent(url, state_dir=tmp_path / "state") as agent,
        Sidecar(agent, f"127.0.0.1:{run.rls}"),
    ):
        _publish(store, agent, 1)
        wait_for(lambda: "ratelimit" in run.get("b").headers, "Envoy to connect", 60)
        with Load(run) as load:
            for generation in range(2, 11):
                _publish(store, agent, generation)
                load.more(20)
    assert set(load.statuses) == {200, 429}
    figure(f"nine new generations, failure_mode_deny true: {load}")


def _publish(store: Store, agent: Agent, generation: int) -> None:
    """Publish a large limit and a small one in turn, and wait until it is in force."""
    rate, burst = ("1000000/s", 1_000_000) if generation % 2 else ("1/day", 1)
    each = {"rate": rate, "burst": burst, "per": "client"}
    publish_policies(store, policies(**{"/shop": {"limits": {"each": each}}}))
    wait_for(lambda: agent.generation == generation, "the generation", 30)


def test_a_sidecar_that_restarts_under_load_fails_no_request(
    tmp_path: Path, figure: Callable[[str], None]
) -> None:
    """Envoy lets requests pass meanwhile, as its configuration says."""
    with mesh(tmp_path) as run, Agent.from_policies(POLICIES) as agent, Load(run) as load:
        for _ in range(3):
            with Sidecar(agent, f"127.0.0.1:{run.rls}"):
                wait_for(lambda: "ratelimit" in run.get("b").headers, "Envoy to connect", 60)
                load.more(20)
            load.more(20)
    assert set(load.statuses) == {200, 429}
    figure(f"three restarts, failure_mode_deny false: {load}")
