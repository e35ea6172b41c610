"""The page of metrics that Prometheus scrapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratectl.agent.metrics.prometheus import AgentCollector, export, multiprocess

if TYPE_CHECKING:
    from collections.abc import Callable

    from ratectl.agent.agent import Agent

__all__ = ["exposition"]


def exposition(agent: Agent) -> Callable[[str], tuple[bytes, str]]:
    """Return a function from an Accept header to the page and its content type.

    The page has the metrics of the agent and of the process; in the multi-process mode of
    ``prometheus_client``, those of all processes.
    """
    from prometheus_client import CollectorRegistry, ProcessCollector
    from prometheus_client.exposition import choose_encoder
    from prometheus_client.multiprocess import MultiProcessCollector

    registry = CollectorRegistry()
    if multiprocess():
        export(agent, registry)
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    else:
        registry.register(AgentCollector(agent))
        ProcessCollector(registry=registry)

    def page(accept: str) -> tuple[bytes, str]:
        encoder, kind = choose_encoder(accept)
        return encoder(registry), kind

    return page
