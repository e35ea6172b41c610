"""A real Prometheus scrapes real agents: planted faults raise their alerts, and no others.

The rules are the shipped ones, sixty times as fast: a minute of theirs takes a second.
"""

from __future__ import annotations

import json
import re
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from monitoring_files import ALERTS

from etcd_server import EtcdServer, wait_for
from prometheus_server import PrometheusServer
from ratectl import Agent
from ratectl.stores import open_store
from support import once, policies, publish_policies

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [once, pytest.mark.prometheus, pytest.mark.etcd, pytest.mark.xdist_group("prometheus")]

FAST = {"s": "ms", "m": "s", "h": "m"}

LIMITS = {"spike": {"rate": "10000/s", "per": "tenant"}}
OLD = policies(**{"/mail": {"limits": LIMITS}})
NEW = policies(**{"/mail": {"limits": LIMITS}, "/other": {"limits": LIMITS}})

HARMLESS = {"RatectlLimitsWithoutSeries", "RatectlShadowWouldRefuse"}


def faster(text: str) -> str:
    """Return a text with each duration of minutes or hours a sixtieth as long."""
    return re.sub(
        r"(?<=[\[\s])(\d+)([mh])(?=[\])\s]|$)", lambda match: match[1] + FAST[match[2]], text
    )


def fast_rules() -> dict[str, Any]:
    rules: dict[str, Any] = yaml.safe_load(ALERTS.read_text("utf-8"))
    for group in rules["groups"]:
        group.pop("interval", None)
        for rule in group["rules"]:
            rule["expr"] = faster(rule["expr"])
            rule["for"] = faster(f" {rule['for']}").strip()
    return rules


class Traffic:
    """Requests to agents, until it is stopped."""

    def __init__(self, agents: list[Agent]) -> None:
        self._agents, self._stop = agents, threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.02):
            for agent in self._agents:
                agent.check("/mail", {"tenant": "acme"})

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


@pytest.fixture
def etcd() -> Iterator[EtcdServer]:
    server = EtcdServer.start()
    yield server
    server.stop()


def firing(prometheus: PrometheusServer) -> set[tuple[str, str]]:
    """Return the alerts that fire, each with its instance."""
    return {
        (alert["labels"]["alertname"], alert["labels"].get("instance", ""))
        for alert in prometheus.alerts()
        if alert["state"] == "firing" and alert["labels"]["alertname"] not in HARMLESS
    }


def test_durations_are_made_shorter() -> None:
    assert faster("rate(x[1h] offset 10m) > 300") == "rate(x[1m] offset 10s) > 300"


def test_planted_faults_raise_their_alerts_and_no_others(etcd: EtcdServer, tmp_path: Path) -> None:
    url = etcd.store_url("alerts")
    with ExitStack() as parts, open_store(url) as store:
        publish_policies(store, OLD)
        following = [
            parts.enter_context(Agent(url, id=name, state_dir=tmp_path / name, report_interval=0.5))
            for name in ("one", "two")
        ]
        staying = parts.enter_context(Agent.from_policies(OLD))
        agents = [*following, staying]
        addresses = [str(agent.serve(metrics="127.0.0.1:0").metrics) for agent in agents]
        traffic = Traffic(agents)
        parts.callback(traffic.stop)
        rules = tmp_path / "alerts.json"
        rules.write_text(json.dumps(fast_rules()))
        prometheus = PrometheusServer.start(
            {
                "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                "rule_files": [str(rules)],
                "scrape_configs": [
                    {"job_name": "mail", "static_configs": [{"targets": addresses}]}
                ],
            }
        )
        parts.callback(prometheus.stop)

        # Healthy: three agents, one generation, traffic.
        prometheus.wait_for("count(ratectl_generation == 1) == 3")
        prometheus.wait_for("count_over_time(ratectl_generation[30s]) > 20", 60)
        assert firing(prometheus) == set()

        # A generation that one agent does not follow.
        publish_policies(store, NEW)
        differs = {("RatectlGenerationDiffers", addresses[2])}
        wait_for(lambda: firing(prometheus) >= differs, "the generation differs", 40)
        assert firing(prometheus) == differs

        # The store is gone.
        etcd.stop()
        cut = {("RatectlStoreDisconnected", address) for address in addresses[:2]}
        wait_for(lambda: firing(prometheus) >= cut, "the store is cut", 60)
        assert firing(prometheus) <= cut | differs

        # No agent is asked any more.
        traffic.stop()
        silence = {("RatectlNoChecks", "")}
        wait_for(lambda: firing(prometheus) >= silence, "silence is noticed", 90)
        assert firing(prometheus) == silence | cut | differs
