"""Metrics for Prometheus, through ``prometheus_client``: ``pip install 'ratectl[prometheus]'``.

    >>> from ratectl.contrib.prometheus import export
    >>> export(agent)  # doctest: +SKIP

The program's own endpoint of metrics then shows the agent's too. docs/metrics.md has the names.
"""

from ratectl.agent.metrics.prometheus import AgentCollector, export

__all__ = ["AgentCollector", "export"]
