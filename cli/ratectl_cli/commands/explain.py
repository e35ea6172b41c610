"""``ratectl explain``."""

from typing import Annotated, Any

import typer

from ratectl.errors import UsageError
from ratectl_cli.framework.session import session_of

Attributes = Annotated[
    list[str] | None,
    typer.Option(
        "-a",
        "--attr",
        metavar="NAME=VALUE",
        help="Attribute of the request; repeat it for more.",
    ),
]


def explain(
    ctx: typer.Context,
    scope: Annotated[str, typer.Argument(metavar="SCOPE", help="Such as /payments/checkout.")],
    attr: Attributes = None,
    policies: Annotated[
        str | None,
        typer.Option(
            "--policies", metavar="DIR", help="Explain these files.  [default: ./policies]"
        ),
    ] = None,
    live: Annotated[bool, typer.Option("--live", help="Explain the live generation.")] = False,
    at: Annotated[
        str | None,
        typer.Option(
            "--at", metavar="TIME", help="When, such as 2026-11-28T12:00Z.  [default: now]"
        ),
    ] = None,
    delta: Annotated[
        bool, typer.Option("--delta", help="Show only what differs from the scope above.")
    ] = False,
) -> int:
    """Show which limits hold at a scope, and who said so.

    For every value: where it was written, what it beat, and the cap that clipped it. With
    --attr, the overrides and exceptions that apply, why others do not, and which bucket and
    key the request counts in. --at decides which exceptions are in force. Reads only the
    documents of SCOPE and the scopes above it: `ratectl validate` judges the others.

    Examples:
      ratectl explain /payments/checkout
      ratectl explain /payments/checkout --attr client=acme --attr tier=gold --live
      ratectl explain /payments/checkout --at 2026-11-28T12:00+01:00
      ratectl explain /web --delta -o json | jq '.limits[].rate'

    Exit codes:
      0   explained
      1   no policy covers the scope
      64  wrong arguments
      65  invalid policies at or above SCOPE, or nothing is published
      69  store unreachable (with --live)
    """
    from ratectl.history.trees import live_tree
    from ratectl.policy.resolution.resolver import Resolver
    from ratectl_cli.inputs.policies import attributes_of, instant_of, read_for, scope_of
    from ratectl_cli.render.delta import above_of, delta_data
    from ratectl_cli.render.explanation import explanation_blocks, explanation_data
    from ratectl_cli.render.times import now_ns

    session = session_of(ctx)
    scope_of(scope)
    attributes = attributes_of(attr or [])
    when = now_ns() if at is None else instant_of("--at", at).ns
    if live and policies is not None:
        raise UsageError("--live and --policies name two sources: give one")
    generation = None
    files = "policies" if policies is None else policies
    with session.busy("reading policies"):
        if live:
            with session.store() as store:
                generation, tree = live_tree(store)
        else:
            tree = read_for(scope, files)
    resolver = Resolver(tree, when)

    def explained(scope: str) -> dict[str, Any]:
        resolved = resolver.enforced(scope, attributes)
        return explanation_data(tree, scope, resolved, attributes, when)

    data = explained(scope)
    if delta and data["reason"] is None:
        above = above_of(scope, tree)
        data = delta_data(data, explained(above) if above else None)
    source = f"generation {generation}" if generation else files
    if at is not None:
        source += f" · at {data['at']}"
    named = {"generation": generation, "files": None if generation else files}
    unfold = bool(session.options.verbose)
    session.answer(
        "Explanation",
        {**named, **data},
        lambda: explanation_blocks(data, source, unfold=unfold),
    )
    return 1 if data["reason"] else 0


__all__ = ["Attributes", "explain"]
