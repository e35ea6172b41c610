"""``ratectl blame``."""

from typing import Annotated

import typer

from ratectl.errors import NotFound
from ratectl_cli.commands.options import Attributes
from ratectl_cli.framework import clock
from ratectl_cli.framework.session import session_of


def blame(
    ctx: typer.Context,
    scope: Annotated[str, typer.Argument(metavar="SCOPE", help="Scope, like /payments/checkout.")],
    attr: Attributes = None,
) -> int:
    """Show which generation last changed each value at a scope.

    Shows the values of the live generation for requests that no override or exception matches. With
    --attr: the values for a request with these attributes, with the overrides and exceptions that
    apply to it now, in every generation. A value has changed if requests are affected: `60/min` and
    `1/s` are the same rate of a token bucket.

    Examples:
      ratectl blame /payments/checkout
      ratectl blame /payments/checkout --attr tier=gold
      ratectl blame / -o json

    Exit codes:
      0   printed
      64  wrong arguments
      65  nothing is published, no policy covers the scope, or a damaged generation
      69  store unreachable
    """
    from ratectl.history.blame import blame as read_blame
    from ratectl.history.generations import read_tree
    from ratectl.history.trees import find_entry
    from ratectl.policy.language.scopes import ancestry, checked_scope
    from ratectl.policy.validation.names import unused_attributes
    from ratectl_cli.inputs.policies import attributes_of
    from ratectl_cli.render.blame import blame_data, blame_table

    session = session_of(ctx)
    scope = checked_scope(scope)
    attributes = attributes_of(attr) if attr else None
    with session.store() as store, session.busy("reading generations"):
        live = find_entry(store, None)
        tree = read_tree(store, live)
        values = read_blame(store, live, scope, attributes, clock.now_ns(), tree)
    if values is None:
        raise NotFound(f"no policy of generation {live.generation} covers {scope}")
    declared = next(each for each in ancestry(scope) if each in tree.policies)
    if declared != scope:
        session.say(f"{scope} is not declared: it uses the limits of {declared}")
    for message in unused_attributes(tree, scope, attributes or ()):
        session.say(message)
    data = {
        "scope": scope,
        "declared_scope": declared,
        "attributes": attributes or {},
        "live": live.generation,
        "values": blame_data(values),
    }
    session.answer("Blame", data, lambda: [blame_table(values, clock.now())])
    return 0


__all__ = ["blame"]
