"""The page of metrics that Prometheus scrapes."""

from __future__ import annotations

import math
import threading
import time
from typing import TYPE_CHECKING, Final

from ratectl.agent.metrics.prometheus import AgentCollector, export, multiprocess
from ratectl.runtime.cooperative import cooperative

if TYPE_CHECKING:
    from collections.abc import Callable

    from ratectl.agent.agent import Agent

__all__ = ["exposition"]


_SAME: Final = 0.25
"""Seconds for which a page is shown again: clients that go away must not make it many times."""


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

    made: dict[str, tuple[float, bytes]] = {}
    making = threading.Lock()

    def page(accept: str) -> tuple[bytes, str]:
        encoder, kind = choose_encoder(accept)
        with making:  # who asks meanwhile gets the same page
            at, body = made.get(kind, (-math.inf, b""))
            if time.monotonic() - at > _SAME:
                with cooperative():
                    body = encoder(registry)
                made[kind] = time.monotonic(), body
            return body, kind

    return page
