"""Publication of a management server's limits: a set of the policy tree, which it owns."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ratectl.errors import Conflict
from ratectl.moving.envoy_import import MAPPING
from ratectl.policy.loading.files import STDIN, Sources
from ratectl.policy.loading.loader import load_sources
from ratectl.publishing.propose import propose
from ratectl.publishing.reading import PolicySource
from ratectl.publishing.sets import SetChoice
from ratectl.stores.registry import open_store

if TYPE_CHECKING:
    from ratectl.moving.envoy_import import Imported
    from ratectl.publishing.proposal import Proposal
    from ratectl.stores.base import Store

__all__ = ["SET", "publish"]

SET: Final = "xds"
"""Name of the set: nobody changes its documents without taking them over."""


def publish(url: str, imported: Imported, origin: str, server: str) -> int | None:
    """Publish policies to a store as the set ``xds``; return the live generation, None for none.

    Nothing is published if the same is live, as after a restart. What guards object to is the
    server's decision: they are answered with ``origin``.

    :raises RatectlError: it cannot be published, or not now.
    """
    with open_store(url) as store:
        try:
            return _published(_proposal(store, imported, origin, server), origin)
        except Conflict:  # another publisher was faster: once more, beside what is live now
            return _published(_proposal(store, imported, origin, server), origin)


def _published(proposal: Proposal, origin: str) -> int | None:
    entry = proposal.apply({each.guard: origin for each in proposal.objections})
    if entry is not None:
        return entry.generation
    return None if proposal.base.head is None else proposal.base.head.generation


def _proposal(store: Store, imported: Imported, origin: str, server: str) -> Proposal:
    texts = {name: text.encode() for name, text in imported.files.items() if name != MAPPING}
    loaded = load_sources(Sources.of(texts or {"policies.yaml": b""}))
    if not texts:
        loaded = replace(loaded, diagnostics=())  # that there are no policies is no finding here
    source = PolicySource(STDIN, loaded)
    choice = SetChoice(SET, prune=True)
    return propose(store, source, message=origin, author=server, choice=choice, allow_empty=True)
