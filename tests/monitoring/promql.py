"""Names and labels in PromQL, as far as the tests of alerts and dashboards need them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from ratectl.agent.metrics.catalogue import CATALOGUE

if TYPE_CHECKING:
    from ratectl.agent.metrics.catalogue import Metric

__all__ = ["ENVOYS", "EXPOSED", "Selector", "grouped", "mistakes", "selectors", "with_variables"]

_SUFFIXES: Final = {
    "counter": ("",),
    "gauge": ("",),
    "histogram": ("_bucket", "_count", "_sum"),
    "gauge histogram": ("_bucket", "_gcount", "_gsum"),
}
TARGET_LABELS: Final = frozenset({"job", "instance", "environment"})
"""Labels that Prometheus gives to each target, and the one that prometheus.yaml adds."""

ENVOYS: Final = ("envoy_cluster_ratelimit_ok", "envoy_cluster_ratelimit_error")
"""Metrics of Envoy: tests/sidecar/test_envoy.py asks a real one for them."""


def _exposed() -> dict[str, tuple[Metric | None, frozenset[str]]]:
    """Series as exposed, each with its metric and its labels."""
    names: dict[str, tuple[Metric | None, frozenset[str]]] = {
        "up": (None, TARGET_LABELS),
        "ALERTS": (None, TARGET_LABELS | {"alertname", "alertstate", "severity"}),
    }
    for name in ENVOYS:
        names[name] = None, TARGET_LABELS | {"envoy_cluster_name"}
    for metric in CATALOGUE:
        for suffix in _SUFFIXES[metric.kind]:
            le = {"le"} if suffix == "_bucket" else set()
            names[metric.name + suffix] = metric, TARGET_LABELS | set(metric.labels) | le
    return names


EXPOSED: Final = _exposed()

_STRING: Final = r'"(?:[^"\\]|\\.)*"'
_GROUPING: Final = re.compile(
    r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)", re.DOTALL
)
_MATCHER: Final = re.compile(rf"(\w+)\s*(=~|!~|!=|=)\s*({_STRING})")
_SELECTOR: Final = re.compile(rf"([a-zA-Z_:][\w:]*)\s*(\{{(?:[^}}\"]|{_STRING})*\}})?")
_WORDS: Final = {"and", "or", "unless", "offset", "bool"}


class Selector(NamedTuple):
    """Selection of series: a name, and matchers as label, operator and value."""

    name: str
    matchers: list[tuple[str, str, str]]


def grouped(expression: str) -> set[str]:
    """Return the labels in ``by``, ``on`` and the like, and those that ``count_values`` makes."""
    listed = ",".join(_GROUPING.findall(expression))
    made = re.findall(r'count_values\b[^"]*"(\w+)"', expression)
    return {label.strip() for label in listed.split(",") if label.strip()} | set(made)


def selectors(expression: str) -> list[Selector]:
    """Return all selections of series. Functions and operators are none."""
    text = re.sub(r"\[[^\]]*\]", "", _GROUPING.sub(" ", expression))
    text = re.sub(rf"({_MATCHER.pattern})|{_STRING}", lambda found: found[1] or "", text)
    found = []
    for match in _SELECTOR.finditer(text):
        called = text[match.end() :].lstrip().startswith("(")
        number = re.search(r"[\d.]$", text[: match.start()])  # the unit of `1h`, or 1e9
        if called or number or match[1] in _WORDS:
            continue
        matchers = [
            (label, op, value[1:-1]) for label, op, value in _MATCHER.findall(match[2] or "")
        ]
        found.append(Selector(match[1], matchers))
    return found


def mistakes(expression: str, values: dict[tuple[str, str], set[str]]) -> list[str]:
    """Return what the catalogue does not have: names, labels, and values of labels.

    ``values``: values by metric and label; other labels may have any value.
    """
    known: set[str] = set()
    wrong = []
    for name, matchers in selectors(expression):
        if name not in EXPOSED:
            wrong.append(f"no metric {name}")
            continue
        metric, labels = EXPOSED[name]
        known |= labels
        for label, operator, value in matchers:
            if label not in labels:
                wrong.append(f"{name} has no label {label}")
            allowed = values.get((metric.name if metric else name, label))
            texts = value.split("|") if "~" in operator else [value]
            if allowed is not None:
                wrong += [f"{name}: no {label} {text}" for text in texts if text not in allowed]
    made = set(re.findall(r'count_values\b[^"]*"(\w+)"', expression))
    return wrong + [f"no label {label}" for label in sorted(grouped(expression) - known - made)]


def with_variables(expression: str) -> str:
    """Replace Grafana's variables, as Grafana does."""
    text = expression.replace("$__rate_interval", "10s")
    return re.sub(r"\$\{?\w+\}?", ".*", text)
