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
    from ratectl.agent.client_address import TrustedProxies
    from ratectl.agent.fake_clock import FakeClock
    from ratectl.agent.reservation import Reservation
    from ratectl.agent.serving.endpoints import Endpoints
    from ratectl.agent.serving.tls import Tls
    from ratectl.agent.state import AgentStatus
    from ratectl.agent.usage.summary import AgentUsage, LimitUsage, PoolUsage
    from ratectl.engine.decision import Decision, Reason
    from ratectl.engine.explanation import Explanation, LimitExplanation
    from ratectl.errors import (
        BundleError,
        Conflict,
        GuardRefused,
        Limited,
        NoAgents,
        NotFound,
        NothingPublished,
        OutcomeUnknown,
        PolicyError,
        RatectlError,
        Refused,
        StoreError,
        Untrusted,
        UsageError,
    )
    from ratectl.fleet.convergence import Enough, wait_for_agents
    from ratectl.policy.read import load_valid
    from ratectl.publishing.proposal import Proposal
    from ratectl.publishing.propose import propose
    from ratectl.publishing.rollback import propose_rollback
    from ratectl.publishing.sets import SetChoice
    from ratectl.signing.signatures import Signer
    from ratectl.stores import open_store

__all__ = [
    "Agent",
    "AgentStatus",
    "AgentUsage",
    "BundleError",
    "Conflict",
    "Decision",
    "Endpoints",
    "Enough",
    "Explanation",
    "FakeClock",
    "GuardRefused",
    "LimitExplanation",
    "LimitUsage",
    "Limited",
    "NoAgents",
    "NotFound",
    "NothingPublished",
    "OutcomeUnknown",
    "PolicyError",
    "PoolUsage",
    "Proposal",
    "RatectlError",
    "Reason",
    "Refused",
    "Reservation",
    "SetChoice",
    "Signer",
    "StoreError",
    "Tls",
    "TrustedProxies",
    "Untrusted",
    "UsageError",
    "__version__",
    "load_valid",
    "open_store",
    "propose",
    "propose_rollback",
    "wait_for_agents",
]

_HOMES = {
    "Agent": "ratectl.agent",
    "AgentStatus": "ratectl.agent.state",
    "AgentUsage": "ratectl.agent.usage.summary",
    "BundleError": "ratectl.errors",
    "Conflict": "ratectl.errors",
    "Decision": "ratectl.engine.decision",
    "Endpoints": "ratectl.agent.serving.endpoints",
    "Enough": "ratectl.fleet.convergence",
    "Explanation": "ratectl.engine.explanation",
    "FakeClock": "ratectl.agent.fake_clock",
    "GuardRefused": "ratectl.errors",
    "LimitExplanation": "ratectl.engine.explanation",
    "LimitUsage": "ratectl.agent.usage.summary",
    "Limited": "ratectl.errors",
    "NoAgents": "ratectl.errors",
    "NotFound": "ratectl.errors",
    "NothingPublished": "ratectl.errors",
    "OutcomeUnknown": "ratectl.errors",
    "PolicyError": "ratectl.errors",
    "PoolUsage": "ratectl.agent.usage.summary",
    "Proposal": "ratectl.publishing.proposal",
    "RatectlError": "ratectl.errors",
    "Reason": "ratectl.engine.decision",
    "Refused": "ratectl.errors",
    "Reservation": "ratectl.agent.reservation",
    "SetChoice": "ratectl.publishing.sets",
    "Signer": "ratectl.signing.signatures",
    "StoreError": "ratectl.errors",
    "Tls": "ratectl.agent.serving.tls",
    "TrustedProxies": "ratectl.agent.client_address",
    "Untrusted": "ratectl.errors",
    "UsageError": "ratectl.errors",
    "load_valid": "ratectl.policy.read",
    "open_store": "ratectl.stores",
    "propose": "ratectl.publishing.propose",
    "propose_rollback": "ratectl.publishing.rollback",
    "wait_for_agents": "ratectl.fleet.convergence",
}


def __getattr__(name: str) -> Any:
    """Import on first use: the CLI's `--help` must not wait for pydantic."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'ratectl' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(home), name)
