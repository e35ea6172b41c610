"""`ratectl explain`: resolve the limits at a scope, and print where each value comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ratectl.cluster.entries import read_roster
from ratectl.history.trees import live_tree
from ratectl.policy.resolution.resolver import Resolver
from ratectl.policy.validation.names import unused_attributes
from ratectl_cli.framework import clock
from ratectl_cli.inputs.policies import attributes_of, instant_of, read_for, scope_of
from ratectl_cli.render.delta import above_of, delta_data
from ratectl_cli.render.explanation import explanation_blocks, explanation_data

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ratectl.policy.language.model import PolicyTree
    from ratectl.records import AgentRecord, UsageRecord
    from ratectl.stores.base import Store
    from ratectl_cli.framework.session import Session
    from ratectl_cli.framework.text import Block

__all__ = ["explained"]


def explained(
    session: Session,
    scope: str,
    attr: Sequence[str],
    *,
    files: str | None,
    at: str | None,
    delta: bool,
    key: bool = False,
) -> int:
    """Explain the limits at a scope; return the exit code.

    ``files``: policies to explain; None for the live generation. ``at``: instant as it was
    written on the command line; None for now. ``delta``: only what differs from the scope above.
    ``key``: add what agents report of the request's keys; only for the live generation.
    """
    scope_of(scope, "explain")
    attributes = attributes_of(attr)
    when = clock.now_ns() if at is None else instant_of("--at", at).ns
    with session.busy("reading policies"):
        if files is None:
            policies = _live(session, reports=key)
        else:
            policies = _Policies(read_for(scope, files), files)
    data = _data(policies, scope, attributes, when, delta=delta)
    for message in unused_attributes(policies.tree, scope, attributes):
        session.say(message)
    source = policies.source if at is None else f"{policies.source} · at {data['at']}"
    unfold = bool(session.options.verbose)
    keys = None if policies.reports is None else _keys(data, *policies.reports)

    def blocks() -> Iterator[Block]:
        yield from explanation_blocks(data, source, unfold=unfold)
        if keys is not None:
            yield from _key_blocks(keys)

    document = {"generation": policies.generation, "files": files, **data}
    session.answer("Explanation", document | ({"keys": keys} if keys else {}), blocks)
    return 1 if data["reason"] else 0


class _Policies(NamedTuple):
    """Policies to explain."""

    tree: PolicyTree
    source: str
    """The files, or the generation."""
    generation: int | None = None
    reports: tuple[list[AgentRecord], list[UsageRecord]] | None = None
    """Reports of agents, if they were asked for."""
    members: int | None = None
    """Processes that share limits across the cluster; None if unknown."""


def _live(session: Session, *, reports: bool) -> _Policies:
    with session.store() as store:
        generation, tree = live_tree(store)
        read = _reports(session, store) if reports else None
        members = read_roster(store).sharing
    return _Policies(tree, f"generation {generation}", generation, read, members)


def _data(
    policies: _Policies, scope: str, attributes: Mapping[str, str], when: int, *, delta: bool
) -> dict[str, Any]:
    """Return the explanation, or only what differs from the scope above."""
    tree, resolver = policies.tree, Resolver(policies.tree, when)

    def at_scope(scope: str) -> dict[str, Any]:
        resolved = resolver.enforced(scope, attributes)
        return explanation_data(tree, scope, resolved, attributes, when, policies.members)

    data = at_scope(scope)
    if not delta or data["reason"] is not None:
        return data
    above = above_of(scope, tree)
    return delta_data(data, at_scope(above) if above else None)


# Reports of agents: most explanations need none, so their modules are imported here.


def _reports(session: Session, store: Store) -> tuple[list[AgentRecord], list[UsageRecord]]:
    from ratectl.fleet.usage import read_agents, read_usage

    return read_agents(store, session.warn), read_usage(store, session.warn)


def _keys(
    data: dict[str, Any], agents: list[AgentRecord], records: list[UsageRecord]
) -> dict[str, Any]:
    from ratectl_cli.render.key_usage import keys_data

    return keys_data(data, agents, records)


def _key_blocks(keys: dict[str, Any]) -> Iterator[Block]:
    from ratectl_cli.render.key_usage import key_blocks

    return key_blocks(keys, clock.now())
