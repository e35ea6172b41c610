"""The reader of PromQL that tests of alerts and dashboards use."""

from __future__ import annotations

from monitoring_files import LABEL_VALUES
from promql import Selector, grouped, mistakes, selectors


def test_selectors_are_names_with_matchers() -> None:
    text = (
        'sum by (job, le) (rate(a_total{x="1", y=~"b|c"}[1h] offset 10m)) / on (z) (b > 0.5) and up'
    )
    assert selectors(text) == [
        Selector("a_total", [("x", "=", "1"), ("y", "=~", "b|c")]),
        Selector("b", []),
        Selector("up", []),
    ]
    assert grouped(text) == {"job", "le", "z"}


def test_mistakes_are_names_labels_and_values_that_do_not_exist() -> None:
    assert (
        mistakes(
            'sum by (scope) (rate(ratectl_decisions_total{outcome="allowed"}[5m]))', LABEL_VALUES
        )
        == []
    )
    wrong = (
        'sum by (tenant) (ratectl_decisions_total{outcome=~"allowed|denied", host="a"}) + ratectl_x'
    )
    assert mistakes(wrong, LABEL_VALUES) == [
        "ratectl_decisions_total: no outcome denied",
        "ratectl_decisions_total has no label host",
        "no metric ratectl_x",
        "no label tenant",
    ]
    assert mistakes("ratectl_limit_utilization_ratio", LABEL_VALUES) == [
        "no metric ratectl_limit_utilization_ratio"
    ]


def test_a_label_that_count_values_makes_is_known() -> None:
    assert mistakes('count_values by (job) ("number", ratectl_generation)', LABEL_VALUES) == []
