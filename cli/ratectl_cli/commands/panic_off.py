"""``ratectl panic off``."""

from typing import Annotated

import typer

from ratectl_cli.commands.panic_on import Local, StateDir, Wait
from ratectl_cli.framework.session import session_of
from ratectl_cli.inputs.signing import Sign


def off(
    ctx: typer.Context,
    scope: Annotated[
        str | None,
        typer.Option("--scope", metavar="SCOPE", help="The switch at this scope.  [default: all]"),
    ] = None,
    local: Local = False,
    state_dir: StateDir = None,
    wait: Wait = False,
    sign: Sign = None,
) -> int:
    """Enforce limits again.

    Buckets are as they were left, and have filled since: nobody is refused for what was let pass
    while they were open. Turns off what the store says, or with --local what a file on this
    machine says: who turned a switch on by a file turns it off by the same.

    Without --scope it replaces the store's record, whatever that says: also one that your key has
    not signed, and that `panic on --sign` therefore refuses to add to.

    Examples:
      ratectl panic off
      ratectl panic off --scope /payments --wait
      ratectl panic off --local

    Exit codes:
      0    it is off, or was not on
      1    it is off, but no agent is there (--wait)
      64   wrong arguments
      69   store unreachable
      75   others were turning switches all the time
      77   what is live is signed, and no key is named; or the record was not signed by this key
           (--scope)
      124  out of time: not every agent obeys (--wait), or earlier: `ratectl panic` says what is on
    """
    from ratectl_cli.inputs.policies import scope_of
    from ratectl_cli.prompts import kill_switch

    session = session_of(ctx)
    wanted = None if scope is None else scope_of(scope)
    place = kill_switch.place_of(session, local=local, state_dir=state_dir, wait=wait, key=sign)
    turned = place.turn(lambda known: known.turned_off(wanted), alone=wanted is None)
    return kill_switch.answer_turned(session, turned, wanted)


__all__ = ["off"]
