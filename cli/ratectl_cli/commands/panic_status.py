"""``ratectl panic status``."""

import typer

from ratectl_cli.commands.options import Local, StateDir
from ratectl_cli.framework.session import session_of


def status(ctx: typer.Context, local: Local = False, state_dir: StateDir = None) -> int:
    """Show which switches are on, and which agents obey.

    Shows switches in the store, switches in a file on this machine, and switches that agents
    report, also those in files on other machines. With --local, shows only the file.

    Examples:
      ratectl panic
      ratectl panic status -o json | jq -e '.switches == []'
      ratectl panic status --local

    Exit codes:
      0   always, if the store answers
      64  wrong arguments
      65  the record cannot be read: `ratectl panic off` replaces it
      69  store unreachable: --local needs no store
    """
    from ratectl_cli.prompts import kill_switch

    session = session_of(ctx)
    place = kill_switch.place_of(session, local=local, state_dir=state_dir, wait=False)
    with kill_switch.hinting("status"):
        place.answer_status()
    return 0


__all__ = ["status"]
