"""``ratectl fmt``."""

from typing import Annotated

import typer

from ratectl.errors import UsageError
from ratectl_cli.commands.options import PolicyPaths
from ratectl_cli.framework.session import session_of


def fmt(
    ctx: typer.Context,
    paths: PolicyPaths = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit with 1 if a file would change.")
    ] = False,
    diff: Annotated[
        bool,
        typer.Option("--diff", help="Show the changes and write nothing; exit codes as --check."),
    ] = False,
) -> int:
    """Format policy files.

    Puts fields into the order of the language, writes rates like 10/min, and uses one layout.
    Comments and blank lines are kept. The meaning never changes: it is compared before a file is
    written. If one file has errors or cannot be written, no file is changed. With -, formats stdin
    to stdout.

    Examples:
      ratectl fmt
      ratectl fmt --check policies/
      ratectl fmt --diff policies/ | git apply
      ratectl fmt - < draft.yaml

    Exit codes:
      0   formatted, or nothing to do
      1   files would change (with --check or --diff)
      64  wrong arguments
      65  a file has errors
      69  a full disk, or another failure of the system
      77  a file cannot be written: none is changed
    """
    from ratectl_cli.prompts import formatting

    session = session_of(ctx)
    names = paths or [session.policies]
    if "-" not in names:
        return formatting.files_formatted(session, names, check=check, diff=diff)
    if len(names) > 1:
        raise UsageError("'-' goes to standard output: give no other path")
    return formatting.stream_formatted(session, check=check, diff=diff)


__all__ = ["fmt"]
