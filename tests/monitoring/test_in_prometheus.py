"""The helper that runs a real Prometheus, and the alerts and the dashboard in it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from monitoring_files import rules
from promql import with_variables
from test_dashboard import PANELS, dashboard

from etcd_server import wait_for
from prometheus_server import PrometheusServer, require_tool

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.prometheus, pytest.mark.xdist_group("prometheus")]


@pytest.fixture(scope="module")
def filled(prometheus: PrometheusServer) -> PrometheusServer:
    """Prometheus after some scrapes: rates over ten seconds exist."""
    prometheus.wait_for("sum(rate(ratectl_decisions_total[10s])) > 0")
    return prometheus


def panels() -> Any:
    return pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])


@panels()
def test_every_query_of_a_panel_shows_something(
    filled: PrometheusServer, panel: dict[str, Any]
) -> None:
    for target in panel["targets"]:
        assert filled.query(with_variables(target["expr"])), target["expr"]


def test_queries_of_annotations_are_accepted(filled: PrometheusServer) -> None:
    for mark in dashboard()["annotations"]["list"]:
        filled.query(with_variables(mark["expr"]))


def test_every_rule_is_loaded_and_evaluated_without_an_error(filled: PrometheusServer) -> None:
    def evaluated() -> list[dict[str, Any]]:
        groups = filled.get("/api/v1/rules")["groups"]
        loaded = [rule for group in groups for rule in group["rules"]]
        return [] if any(rule["health"] == "unknown" for rule in loaded) else loaded

    loaded = wait_for(evaluated, "rules evaluated", 30, pause=0.2)
    assert [rule["name"] for rule in loaded] == list(rules())
    assert [rule for rule in loaded if rule["health"] != "ok"] == []
    # The made-up agent rejects a generation.
    pending = wait_for(filled.alerts, "an alert", 30, pause=0.2)
    assert "RatectlGenerationRejected" in {alert["labels"]["alertname"] for alert in pending}


def test_prometheus_scrapes_itself_and_stops() -> None:
    server = PrometheusServer.start({"global": {"scrape_interval": "1s"}}, scrape_itself=True)
    try:
        pid, folder = server.pid, server.folder
        assert server.query("1 + 1") == [({}, 2.0)]
        [(labels, value)] = server.wait_for("up == 1")
        assert (labels["job"], labels["instance"], value) == ("prometheus", server.address, 1.0)
        assert server.query("prometheus_build_info[1m]")
        assert server.query("no_such_metric") == []
        assert server.alerts() == []
        with pytest.raises(ValueError, match="parse error"):
            server.query("sum(")
    finally:
        server.stop()
        server.stop()
    assert not folder.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_wrong_settings_are_an_error_with_the_log() -> None:
    with pytest.raises(RuntimeError, match="field nonsense not found"):
        PrometheusServer.start({"nonsense": True})


def test_a_missing_tool_skips_a_test_unless_it_is_required(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("RATECTL_REQUIRE_PROMETHEUS", "0")
    with pytest.raises(pytest.skip.Exception):
        require_tool("no-such-tool")
    monkeypatch.setenv("RATECTL_REQUIRE_PROMETHEUS", "1")
    with pytest.raises(pytest.fail.Exception):
        require_tool("no-such-tool")
