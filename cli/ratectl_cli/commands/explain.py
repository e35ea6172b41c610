"""``ratectl explain``."""

from typing import Annotated

import typer

from ratectl.errors import UsageError
from ratectl_cli.session import session_of

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
) -> int:
    """Show which limits hold at a scope, and who said so.

    For every value: where it was written, what it beat, and the cap that clipped it. With
    --attr, also which bucket and key a request counts in. Reads only the documents
    of SCOPE and the scopes above it: `ratectl validate` judges the others.

    Examples:
      ratectl explain /payments/checkout
      ratectl explain /payments/checkout --attr client=acme --live
      ratectl explain /web -o json | jq '.limits[].rate'

    Exit codes:
      0   explained
      1   no policy covers the scope
      64  wrong arguments
      65  invalid policies at or above SCOPE, or nothing is published
      69  store unreachable (with --live)
    """
    from ratectl.policy.resolve import resolve
    from ratectl_cli.policies import attributes_of, live_tree, read_for, scope_of
    from ratectl_cli.render.explanation import explanation_blocks, explanation_data

    session = session_of(ctx)
    scope_of(scope)
    attributes = attributes_of(attr or [])
    if live and policies is not None:
        raise UsageError("--live and --policies name two sources: give one")
    generation = None
    files = policies or "policies"
    with session.busy("reading policies"):
        if live:
            with session.store() as store:
                generation, tree = live_tree(store)
        else:
            tree = read_for(scope, files)
    resolved = resolve(tree, scope)
    data = explanation_data(tree, scope, resolved, attributes)
    source = f"generation {generation}" if generation else files
    named = {"generation": generation, "files": None if generation else files}
    session.answer("Explanation", {**named, **data}, lambda: explanation_blocks(data, source))
    return 0 if resolved else 1


__all__ = ["Attributes", "explain"]
