"""Alerts for Prometheus: their names, texts and runbook, and when they fire."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from monitoring_files import ALERTS, CONFIG, LABEL_VALUES, RUNBOOK_URL, TESTS, rules
from promql import EXPOSED, grouped, mistakes, selectors

from prometheus_server import promtool

AREAS = {
    "metrics": {"RatectlAllAgentsGone", "RatectlAgentGone"},
    "checks": {"RatectlNoChecks", "RatectlAgentNoChecks"},
    "reports": {"RatectlNoReports"},
    "store": {"RatectlStoreDisconnected", "RatectlNoContact"},
    "generations": {
        "RatectlGenerationDiffers",
        "RatectlRolloutLong",
        "RatectlGenerationRejected",
        "RatectlWaitingForPolicies",
    },
    "failures": {"RatectlFailOpen", "RatectlFailRefused", "RatectlProblem"},
    "sidecars": {"RatectlEnvoyUnanswered"},
    "requests": {"RatectlUnknownScope", "RatectlAbsentAttributes"},
    "limits": {
        "RatectlNearLimitKeys",
        "RatectlNearLimitSustained",
        "RatectlRefusedJump",
        "RatectlRefusedShareHigh",
        "RatectlShadowWouldRefuse",
    },
    "engine": {"RatectlOverflow", "RatectlSlowDecisions", "RatectlLimitsWithoutSeries"},
    "switches": {"RatectlKillSwitchOn"},
    "cluster": {"RatectlClusterAlone", "RatectlClusterOwnerSilent", "RatectlClusterNotRenewed"},
}
"""Alerts by what they watch."""

every_rule = pytest.mark.parametrize("name", rules())


def test_every_area_has_its_alerts() -> None:
    assert set().union(*AREAS.values()) == set(rules())


@every_rule
def test_an_alert_uses_metrics_labels_and_values_that_exist(name: str) -> None:
    expression = rules()[name]["expr"]
    assert selectors(expression)
    assert mistakes(expression, LABEL_VALUES) == []


@every_rule
def test_an_alert_waits_and_has_a_severity_and_texts(name: str) -> None:
    rule = rules()[name]
    assert re.fullmatch(r"Ratectl[A-Z]\w+", name)
    assert re.fullmatch(r"\d+[mh]", rule["for"])
    assert rule["labels"]["severity"] in {"page", "ticket", "info"}
    annotations = rule["annotations"]
    assert list(annotations) == ["summary", "description", "runbook_url"]
    assert not annotations["summary"].endswith(".")
    assert annotations["description"].endswith(".")
    assert annotations["runbook_url"] == f"{RUNBOOK_URL}#{name.lower()}"


@every_rule
def test_texts_use_labels_that_the_expression_has(name: str) -> None:
    rule = rules()[name]
    labels = grouped(rule["expr"]).union(
        *(EXPOSED[selector.name][1] for selector in selectors(rule["expr"]))
    )
    used = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
    assert used <= labels


@every_rule
def test_a_division_has_a_divisor_above_zero(name: str) -> None:
    lines = rules()[name]["expr"].splitlines()
    for line in lines:
        if line.strip().startswith("/"):
            assert re.search(r"\) > [\d.]+\)$", line), line


@every_rule
def test_an_alert_has_cases_in_which_it_fires_and_is_silent(name: str) -> None:
    cases = [
        (block["name"], case["exp_alerts"])
        for block in yaml.safe_load(TESTS.read_text("utf-8"))["tests"]
        for case in block["alert_rule_test"]
        if case["alertname"] == name
    ]
    assert {title.split()[0] for title, _ in cases} == {name}
    fires = [alerts for title, alerts in cases if title.startswith(f"{name} fires: ")]
    silent = [alerts for title, alerts in cases if title.startswith(f"{name} is silent: ")]
    assert any(fires)
    assert [] in fires, "before `for` has passed"
    assert silent
    assert not any(silent)


@pytest.mark.prometheus
def test_promtool_accepts_the_rules_and_the_settings() -> None:
    assert f"{len(rules())} rules found" in promtool("check", "rules", ALERTS)
    promtool("check", "config", CONFIG)
    assert ALERTS.name in yaml.safe_load(CONFIG.read_text("utf-8"))["rule_files"]


@pytest.mark.prometheus
def test_alerts_fire_when_they_should_and_are_silent_otherwise() -> None:
    assert "SUCCESS" in promtool("test", "rules", TESTS)


@pytest.mark.prometheus
@every_rule
def test_the_cases_notice_an_alert_that_never_fires(name: str, tmp_path: Any) -> None:
    never = rules()[name] | {"expr": "vector(0) > 1"}
    document = yaml.safe_load(TESTS.read_text("utf-8"))
    document["tests"] = [
        block for block in document["tests"] if block["name"].startswith(f"{name} fires")
    ]
    (tmp_path / ALERTS.name).write_text(
        yaml.safe_dump({"groups": [{"name": "g", "rules": [never]}]})
    )
    (tmp_path / TESTS.name).write_text(yaml.safe_dump(document))
    with pytest.raises(AssertionError, match="FAILED"):
        promtool("test", "rules", tmp_path / TESTS.name)
