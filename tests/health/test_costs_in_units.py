"""The check of units in ``ratectl doctor``, with a real agent that reports."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

import ratectl
from etcd_server import wait_for
from ratectl.health import examine
from ratectl.health.usage_report import read_usage_report
from ratectl.stores import open_store
from support import policies, publish_policies

if TYPE_CHECKING:
    from pathlib import Path

    from ratectl.engine.cost import Cost

CALLS: dict[str, Any] = {"rate": "60/min", "per": "tenant"}
TOKENS = {**CALLS, "unit": "tokens"}


def verdicts(url: str, limits: dict[str, Any], cost: Cost, expect: str | None) -> list[Any]:
    """Publish, send a request, and return the findings about units once they are as expected."""
    with open_store(url) as store:
        publish_policies(store, policies(**{"/llm": {"limits": limits}}))
    found: list[Any] = []

    def as_expected() -> bool:
        checks = {each.name: each for each in examine(url, datetime.now(UTC))}
        found[:] = [checks[name] for name in ("units",) if name in checks]
        with open_store(url) as store:
            rows = read_usage_report(store, None, lambda _: None).rows
        reported = any(row.total and row.total.allowed for row in rows)
        return reported and [each.status for each in found] == ([expect] if expect else [])

    with ratectl.Agent(url) as agent:
        agent.check("/llm", {"tenant": "a"}, cost=cost)
        wait_for(as_expected)
    return found


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/rates.db"


def test_a_unit_that_no_cost_names_is_a_warning(url: str) -> None:
    (check,) = verdicts(url, {"calls": CALLS, "tokens": TOKENS}, 1, "warning")
    assert check.message == (
        "no request to tokens @ /llm has a cost in tokens: do the services name this unit, like "
        'cost={"tokens": n}?'
    )
    assert check.details == {"limits": [{"scope": "/llm", "limit": "tokens"}]}


def test_a_unit_that_costs_name_is_well(url: str) -> None:
    verdicts(url, {"calls": CALLS, "tokens": TOKENS}, {"tokens": 1}, "ok")


def test_without_units_nothing_is_said(url: str) -> None:
    verdicts(url, {"calls": CALLS}, 1, None)
