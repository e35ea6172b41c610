"""ratectl: rate limits as policies, published as generations, enforced in memory.

    >>> import ratectl
    >>> agent = ratectl.Agent("etcd://127.0.0.1:2379/prod")              # doctest: +SKIP
    >>> decision = agent.check("/payments/checkout", {"tenant": "acme"}) # doctest: +SKIP

The names below are the public API; everything else may change without notice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ratectl.version import __version__

if TYPE_CHECKING:
    from ratectl.agent import Agent
    from ratectl.agent.state import AgentStatus
    from ratectl.engine.decision import Decision
    from ratectl.errors import PolicyError, RatectlError, StoreError, UsageError

__all__ = [
    "Agent",
    "AgentStatus",
    "Decision",
    "PolicyError",
    "RatectlError",
    "StoreError",
    "UsageError",
    "__version__",
]

_HOMES = {
    "Agent": "ratectl.agent",
    "AgentStatus": "ratectl.agent.state",
    "Decision": "ratectl.engine.decision",
    "PolicyError": "ratectl.errors",
    "RatectlError": "ratectl.errors",
    "StoreError": "ratectl.errors",
    "UsageError": "ratectl.errors",
}


def __getattr__(name: str) -> Any:
    """Import on first use: the CLI's `--help` must not wait for pydantic."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'ratectl' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(home), name)
