"""``ratectl panic off``."""

from typing import Annotated

import typer

from ratectl_cli.commands.options import Local, Sign, StateDir, WaitForSwitch
from ratectl_cli.framework.session import session_of


def off(
    ctx: typer.Context,
    scope: Annotated[
        str | None,
        typer.Option(
            "--scope",
            metavar="SCOPE",
            help="Turn off the switch at this scope.  [default: all switches]",
        ),
    ] = None,
    local: Local = False,
    state_dir: StateDir = None,
    wait: WaitForSwitch = False,
    sign: Sign = None,
) -> int:
    """Turn limits on again.

    Buckets continue from their state before, and have refilled since: no request is refused because
    of requests that were allowed meanwhile. Turns off switches in the store, or with --local in a
    file on this machine. A switch that was turned on in a file must be turned off in that file.

    Without --scope, it replaces the record in the store, even if your key has not signed that
    record (`panic on --sign` does not add to such a record).

    Examples:
      ratectl panic off
      ratectl panic off --scope /payments --wait
      ratectl panic off --local

    Exit codes:
      0    it is off, or was not on
      1    it is off, but there is no agent (--wait)
      64   wrong arguments
      69   store unreachable
      75   other commands changed switches at the same time
      77   the live generation is signed, and --sign is missing; or the record was not signed by
           this key (--scope)
      124  out of time: not every agent obeys (--wait), or nothing was turned: see `ratectl panic`
    """
    from ratectl.policy.language.scopes import checked_scope
    from ratectl_cli.prompts import kill_switch

    session = session_of(ctx)
    wanted = None if scope is None else checked_scope(scope)
    place = kill_switch.place_of(session, local=local, state_dir=state_dir, wait=wait, key=sign)
    turned = place.turn_off(wanted)
    return kill_switch.answer_turned(session, turned, wanted)


__all__ = ["off"]
