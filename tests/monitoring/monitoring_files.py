"""Files for Prometheus and Grafana, and the values that labels have."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

__all__ = [
    "ALERTS",
    "CONFIG",
    "LABEL_VALUES",
    "RUNBOOK",
    "RUNBOOK_URL",
    "TESTS",
    "dashboard",
    "rules",
]

ROOT: Final = Path(__file__).parents[2]
PROMETHEUS: Final = ROOT / "docs" / "examples" / "prometheus"
ALERTS: Final = PROMETHEUS / "alerts.yaml"
TESTS: Final = PROMETHEUS / "alerts_test.yaml"
CONFIG: Final = PROMETHEUS / "prometheus.yaml"
DASHBOARD: Final = ROOT / "docs" / "examples" / "grafana" / "ratectl.json"
RUNBOOK: Final = ROOT / "docs" / "runbook.md"
RUNBOOK_URL: Final = "https://github.com/ratectl/ratectl/blob/main/docs/runbook.md"


def _concerns() -> set[str]:
    """Concerns of problems that the agent's code sets."""
    sources = "\n".join(
        path.read_text("utf-8") for path in (ROOT / "core" / "ratectl" / "agent").rglob("*.py")
    )
    return set(re.findall(r"\bproblem\(\s*\"([\w-]+)\"", sources))


CONCERNS: Final = _concerns()
LABEL_VALUES: Final = {
    ("ratectl_decisions_total", "outcome"): {"allowed", "refused", "never", "shadow_refused"},
    ("ratectl_decisions_total", "kind"): {"limit", "budget"},
    ("ratectl_failed_decisions_total", "outcome"): {"allowed", "refused"},
    ("ratectl_problems", "concern"): CONCERNS,
    ("ratectl_cluster_state", "state"): {"joining", "lent", "waiting", "own_share", "alone"},
    ("ratectl_cluster_pool_tokens", "place"): {"free", "held"},
    ("ratectl_cluster_polls_total", "direction"): {"sent", "received"},
    ("ratectl_cluster_replies_total", "direction"): {"sent", "received"},
    ("ratectl_cluster_transport_bytes_total", "direction"): {"sent", "received"},
    ("ratectl_cluster_messages_total", "outcome"): {"sent", "received", "dropped"},
    ("ratectl_cluster_connections_total", "outcome"): {"opened", "refused", "lost"},
    ("ratectl_cluster_renewals_total", "outcome"): {"renewed", "failed"},
    ("ALERTS", "alertstate"): {"pending", "firing"},
}
"""Values of labels by metric and label, where they are fixed."""


@cache
def rules() -> dict[str, dict[str, Any]]:
    """Alert rules by name, in the order of the file."""
    groups = yaml.safe_load(ALERTS.read_text("utf-8"))["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


@cache
def dashboard() -> dict[str, Any]:
    """Grafana's dashboard."""
    found: dict[str, Any] = json.loads(DASHBOARD.read_text("utf-8"))
    return found
