"""A real Prometheus that reads agents' metrics, with the alerts loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from made_up_metrics import MadeUpMetrics
from monitoring_files import ALERTS

from prometheus_server import PrometheusServer

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def prometheus() -> Iterator[PrometheusServer]:
    """Prometheus with the alerts; it scrapes a server with every metric."""
    with MadeUpMetrics() as metrics:
        target = {"targets": [metrics.address], "labels": {"environment": "test"}}
        server = PrometheusServer.start(
            {
                "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                "rule_files": [str(ALERTS)],
                "scrape_configs": [{"job_name": "agents", "static_configs": [target]}],
            }
        )
        try:
            yield server
        finally:
            server.stop()
