"""``ratectl panic on``."""

from pathlib import Path
from typing import Annotated

import typer

from ratectl_cli.commands.options import Local, Sign, StateDir, WaitForSwitch
from ratectl_cli.framework.session import session_of


def on(
    ctx: typer.Context,
    scope: Annotated[
        str,
        typer.Option(
            "--scope",
            metavar="SCOPE",
            help="Turn off limits at and below this scope; / is every scope.",
        ),
    ],
    reason: Annotated[
        str, typer.Option("--reason", metavar="REASON", help="Reason, shown to other people.")
    ],
    shadow: Annotated[
        bool, typer.Option("--shadow", help="Count what would have been refused.")
    ] = False,
    only: Annotated[
        bool,
        typer.Option("--only", help="Turn off every other switch."),
    ] = False,
    local: Local = False,
    state_dir: StateDir = None,
    wait: WaitForSwitch = False,
    sign: Sign = None,
) -> int:
    """Turn off all limits at and below a scope.

    No limit or budget refuses a request there, in any agent, until `ratectl panic off`. Policies,
    counts and buckets stay as they are, and publishing works as usual. Asks no question, because
    every second counts; `panic off` is as fast. A switch that is on at this scope already is
    replaced.

    With --sign, the switches that are on already are signed again, so they must have been signed
    by the same key; with --only they are turned off instead.

    If the store is down, --local does the same on one machine: run it on each machine.

    Examples:
      ratectl panic on --scope / --reason "INC-42: limits refuse everybody" --wait
      ratectl panic on --scope /payments --reason INC-42 --shadow
      ratectl panic on --scope / --reason INC-42 --local --state-dir /var/lib/ratectl

    Exit codes:
      0    it is on
      1    it is on, but there is no agent (--wait)
      64   wrong arguments
      69   store unreachable: --local needs no store
      75   other commands changed switches at the same time
      77   the live generation is signed, and --sign is missing; or a switch that is on was not
           signed by this key: add --only
      124  out of time: not every agent obeys (--wait), or nothing was turned: see `ratectl panic`
    """
    from ratectl.kill_switch.turning import new_switch
    from ratectl.publishing.provenance import author
    from ratectl_cli.prompts import kill_switch

    session = session_of(ctx)
    switch = new_switch(scope, reason, author(Path()), "shadow" if shadow else "open")
    place = kill_switch.place_of(session, local=local, state_dir=state_dir, wait=wait, key=sign)
    with kill_switch.hinting("on"):
        turned = place.turn_on(switch, only=only)
    code = kill_switch.answer_turned(session, turned, switch.scope)
    if isinstance(place, kill_switch.InStore):
        place.warn_of_undeclared(switch.scope)
    return code


__all__ = ["on"]
