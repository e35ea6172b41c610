"""Metrics for OpenTelemetry, through its API: ``pip install 'ratectl[opentelemetry]'``.

    >>> from ratectl.contrib.opentelemetry import export
    >>> export(agent)  # doctest: +SKIP

docs/metrics.md has the names.
"""

from ratectl.agent.metrics.opentelemetry import export

__all__ = ["export"]
