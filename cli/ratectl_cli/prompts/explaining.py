"""`ratectl explain`: resolve the limits at a scope, and print where each value comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ratectl.history.trees import live_tree
from ratectl.policy.resolution.resolver import Resolver
from ratectl.policy.validation.names import unused_attributes
from ratectl_cli.framework import clock
from ratectl_cli.inputs.policies import attributes_of, instant_of, read_for, scope_of
from ratectl_cli.render.delta import above_of, delta_data
from ratectl_cli.render.explanation import explanation_blocks, explanation_data

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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
    generation, reports = None, None
    with session.busy("reading policies"):
        if files is None:
            with session.store() as store:
                generation, tree = live_tree(store)
                if key:
                    reports = _reports(session, store)
        else:
            tree = read_for(scope, files)
    resolver = Resolver(tree, when)

    def at_scope(scope: str) -> dict[str, Any]:
        resolved = resolver.enforced(scope, attributes)
        return explanation_data(tree, scope, resolved, attributes, when)

    data = at_scope(scope)
    if delta and data["reason"] is None:
        above = above_of(scope, tree)
        data = delta_data(data, at_scope(above) if above else None)
    for message in unused_attributes(tree, scope, attributes):
        session.say(message)
    source = files if files is not None else f"generation {generation}"
    if at is not None:
        source += f" · at {data['at']}"
    unfold = bool(session.options.verbose)
    keys = None if reports is None else _keys(data, *reports)

    def blocks() -> Iterator[Block]:
        yield from explanation_blocks(data, source, unfold=unfold)
        if keys is not None:
            yield from _key_blocks(keys)

    session.answer(
        "Explanation",
        {"generation": generation, "files": files, **data, **({"keys": keys} if keys else {})},
        blocks,
    )
    return 1 if data["reason"] else 0


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
