"""Grafana's dashboard: panels that are complete, and queries that use what the agent exports."""

from __future__ import annotations

import re
from itertools import combinations
from typing import Any

import pytest
from monitoring_files import DASHBOARD, LABEL_VALUES, dashboard
from promql import EXPOSED, grouped, mistakes, selectors, with_variables

PANELS = [panel for panel in dashboard()["panels"] if panel["type"] != "row"]
ROWS = [panel["title"] for panel in dashboard()["panels"] if panel["type"] == "row"]
VARIABLES = {variable["name"] for variable in dashboard()["templating"]["list"]}

every_panel = pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])


def expressions() -> list[str]:
    """Queries of all panels and annotations."""
    marks = [mark["expr"] for mark in dashboard()["annotations"]["list"]]
    return [target["expr"] for panel in PANELS for target in panel["targets"]] + marks


def test_the_dashboard_can_be_imported() -> None:
    shown = dashboard()
    assert shown["schemaVersion"] >= 39
    assert shown["uid"] == "ratectl"
    assert shown["id"] is None, "Grafana gives the number"
    assert ROWS == ["Overview", "Limits", "Cluster", "Agents", "Engine", "Failures"]
    assert {"datasource", "job", "environment", "scope"} == VARIABLES
    ids = [panel["id"] for panel in shown["panels"]]
    assert len(ids) == len(set(ids))
    assert not re.search(r"[0-9a-f]{8}-", DASHBOARD.read_text("utf-8")), (
        "no data source of one installation"
    )


@every_panel
def test_a_panel_is_described_and_has_queries(panel: dict[str, Any]) -> None:
    assert len(panel["description"]) > 30
    assert panel["description"].endswith((".", "`."))
    assert panel["datasource"]["uid"] == "${datasource}"
    assert panel["targets"]
    for target in panel["targets"]:
        assert target["datasource"] == panel["datasource"]
        assert re.findall(r"\$(\w+)", target["expr"]), "follows the choice of a job"
        assert set(re.findall(r"\$(\w+)", target["expr"])) <= VARIABLES | {"__rate_interval"}


def test_panels_do_not_overlap() -> None:
    places = [panel["gridPos"] for panel in dashboard()["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for one, other in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below, (one, other)


@every_panel
def test_a_panel_uses_metrics_labels_and_values_that_exist(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        assert selectors(target["expr"])
        assert mistakes(target["expr"], LABEL_VALUES) == []


@every_panel
def test_legends_use_labels_of_the_result(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        expression = target["expr"]
        labels = grouped(expression)
        if not re.search(r"\bby\b", expression):
            labels = labels.union(*(EXPOSED[each.name][1] for each in selectors(expression)))
        assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= labels


def test_variables_list_labels_that_exist() -> None:
    for variable in dashboard()["templating"]["list"]:
        if variable["type"] == "query":
            found = re.fullmatch(r"label_values\((\w+)(?:{(.*)})?, (\w+)\)", variable["definition"])
            assert found
            assert found[3] in EXPOSED[found[1]][1]
            assert variable["query"]["query"] == variable["definition"]
            assert mistakes(f"{found[1]}{{{found[2] or ''}}}", LABEL_VALUES) == []


def test_every_metric_is_on_the_dashboard() -> None:
    used = {EXPOSED[each.name][0] for text in expressions() for each in selectors(text)}
    names = {metric.name for metric, _ in EXPOSED.values() if metric}
    assert names == {metric.name for metric in used if metric}


def test_variables_are_replaced_as_grafana_does() -> None:
    assert with_variables('a{job=~"$job"}[$__rate_interval]') == 'a{job=~".*"}[10s]'
