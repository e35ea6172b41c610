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
    from collections.abc import Sequence

    from ratectl_cli.framework.session import Session

__all__ = ["explained"]


def explained(
    session: Session,
    scope: str,
    attr: Sequence[str],
    *,
    files: str | None,
    at: str | None,
    delta: bool,
) -> int:
    """Explain the limits at a scope; return the exit code.

    ``files``: policies to explain; None for the live generation. ``at``: instant as it was
    written on the command line; None for now. ``delta``: only what differs from the scope above.
    """
    scope_of(scope, "explain")
    attributes = attributes_of(attr)
    when = clock.now_ns() if at is None else instant_of("--at", at).ns
    generation = None
    with session.busy("reading policies"):
        if files is None:
            with session.store() as store:
                generation, tree = live_tree(store)
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
    session.answer(
        "Explanation",
        {"generation": generation, "files": files, **data},
        lambda: explanation_blocks(data, source, unfold=unfold),
    )
    return 1 if data["reason"] else 0
