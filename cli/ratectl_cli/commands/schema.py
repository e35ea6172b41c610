"""``ratectl schema``."""

import json
from typing import Annotated

import typer

from ratectl.errors import UsageError
from ratectl_cli.framework.session import session_of


def schema(
    ctx: typer.Context,
    kind: Annotated[
        str | None,
        typer.Option("--kind", metavar="KIND", help="Only documents of this kind, like Policy."),
    ] = None,
) -> int:
    """Print the JSON Schema of policy files, for editors.

    Draft-07, with a description and examples for every field. `ratectl init` writes it beside the
    policies, and names it in the first line of each file, where editors look for it.

    Examples:
      ratectl schema > schemas/policy.v1.schema.json
      ratectl schema --kind Policy | jq '.properties | keys'

    Exit codes:
      0   printed
      64  there is no such kind
    """
    from ratectl.policy.language.kinds import KINDS
    from ratectl.policy.language.schema import schema_text

    session = session_of(ctx)
    if kind is not None and kind not in KINDS:
        raise UsageError(f"there is no kind {kind!r}; there are: {', '.join(KINDS)}")
    text = schema_text(kind)
    if session.text:
        session.emit(text)
    else:
        session.answer("Schema", {"schema": json.loads(text)}, list)
    return 0


__all__ = ["schema"]
