"""``ratectl cluster forget``."""

from typing import Annotated

import typer

from ratectl_cli.commands.options import Confirm, Yes
from ratectl_cli.framework.session import session_of


def forget(
    ctx: typer.Context,
    member: Annotated[
        str, typer.Argument(metavar="ID", help="Id of the member: see `ratectl cluster`.")
    ],
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Remove it even if its process may run. DANGER: requests above the limits.",
        ),
    ] = False,
    yes: Yes = False,
    confirm: Confirm = None,
) -> int:
    """Remove a member that is gone.

    Removes the member's entry from the store. Nobody owns its share then; a member that runs takes
    it over at once, else the next one that joins. You rarely need this: members that run remove an
    entry that was not renewed for 30 seconds. Before it removes the entry, the command watches it
    for 12 seconds: a member that runs renews its entry every 10 seconds.

    DANGER: if the process still runs, it uses its share until it next renews its entry, for up to
    30 seconds. For this time two members use the share, and more requests are admitted than the
    limits allow. Stop the process first. With --force, the command does not look if it runs.

    Examples:
      ratectl cluster forget edge-1.5f0c2a9e
      ratectl cluster forget edge-1.5f0c2a9e --yes --force

    Exit codes:
      0    removed
      1    declined
      64   wrong arguments, no such member, or nobody to ask and no --yes
      69   store unreachable
      75   others changed members at the same time
      77   the member runs: stop it; or the environment's name is missing (--confirm)
      124  out of time: see `ratectl cluster`
    """
    from ratectl_cli.prompts.cluster import forget_member

    return forget_member(session_of(ctx), member, force=force, yes=yes, confirm=confirm)


__all__ = ["forget"]
