"""``ratectl diff``."""

from typing import Annotated

import typer

from ratectl.errors import UsageError
from ratectl_cli.commands.options import PolicyPath, Prune, SetName
from ratectl_cli.framework.session import session_of


def diff(
    ctx: typer.Context,
    path: PolicyPath = None,
    from_: Annotated[
        int | None,
        typer.Option(
            "--from",
            metavar="GEN",
            min=1,
            help="Generation to compare with.  [default: the live one]",
        ),
    ] = None,
    to: Annotated[
        int | None,
        typer.Option(
            "--to", metavar="GEN", min=1, help="Compare this generation, instead of PATH."
        ),
    ] = None,
    set_: SetName = None,
    prune: Prune = False,
) -> int:
    """Compare policies with the live generation, or two generations.

    Compares the effect on requests: `60/min` and `1/s` are one token bucket, and a comment is no
    difference. Without --from, it shows what `ratectl apply PATH` would do. Run it on a schedule to
    detect drift: exit code 1 means that the files or the live policies have changed.

    Examples:
      ratectl diff policies/
      ratectl diff --from 411 --to 412
      ratectl diff --from 411 policies/
      ratectl diff --set payments --prune policies/

    Exit codes:
      0   no request is affected
      1   there are differences
      64  wrong arguments, or no such generation
      65  invalid policies, nothing published, or a damaged generation
      69  store unreachable
      77  PATH contains policies of another set, or nothing (--set)
    """
    from ratectl_cli.inputs.sets import choice_of
    from ratectl_cli.prompts import comparing

    session = session_of(ctx)
    if path is not None and to is not None:
        raise UsageError("--to replaces PATH: leave one of them out")
    if path is None and to is None:
        path = session.policies
    choice = choice_of(set_, prune=prune)
    if choice is None:
        return comparing.compared(session, path, from_, to)
    if path is None or from_ is not None:
        raise UsageError("--set compares PATH with the live generation: leave out --from and --to")
    return comparing.set_compared(session, path, choice)


__all__ = ["diff"]
