"""``ratectl rule``."""

from typing import Annotated

import typer

from ratectl.errors import UsageError
from ratectl_cli.framework.session import session_of


def rule(
    ctx: typer.Context,
    code: Annotated[
        str | None, typer.Argument(metavar="CODE", help="Code, like RC201.  [default: list all]")
    ] = None,
) -> int:
    """Explain a code that `ratectl validate` reports.

    Shows what the code means, why it matters, and a wrong and a right example. Without a code,
    lists all codes. RC1xx: a file cannot be read as policies. RC2xx: the tree of policies is
    inconsistent. RC3xx: it is consistent, but probably not as intended. RC4xx: a test makes no
    sense.

    Examples:
      ratectl rule RC201
      ratectl rule
      ratectl rule RC201 -o json | jq -r .good

    Exit codes:
      0   explained
      64  there is no such code
    """
    from ratectl.policy.codes import CODES
    from ratectl_cli.render import rules as render

    session = session_of(ctx)
    if code is None:
        session.answer("Rules", render.rules_data(), render.rules_blocks)
        return 0
    wanted = code.strip().upper()
    if wanted not in CODES:
        meant = f"did you mean ratectl rule RC{wanted}?" if f"RC{wanted}" in CODES else None
        error = UsageError(f"there is no error or warning {code if code.isalnum() else repr(code)}")
        error.add_note(meant or "`ratectl rule` lists the codes")
        raise error
    session.answer("Rule", render.rule_data(wanted), lambda: render.rule_blocks(wanted))
    return 0


__all__ = ["rule"]
