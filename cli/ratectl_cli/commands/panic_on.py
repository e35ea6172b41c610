"""``ratectl panic on``."""

from pathlib import Path
from typing import Annotated

import typer

from ratectl_cli.framework.session import session_of
from ratectl_cli.inputs.signing import Sign

Local = Annotated[
    bool,
    typer.Option(
        "--local",
        help="By a file on this machine, for the agents of one state directory: needs no store.",
    ),
]
StateDir = Annotated[
    str | None,
    typer.Option(
        "--state-dir",
        metavar="DIR",
        help="Where those agents keep their state.  [default: $XDG_STATE_HOME/ratectl]",
    ),
]
Wait = Annotated[
    bool, typer.Option("--wait", help="Return when every agent obeys: within a second, or so.")
]


def on(
    ctx: typer.Context,
    scope: Annotated[
        str,
        typer.Option("--scope", metavar="SCOPE", help="At and below this scope; / is everywhere."),
    ],
    reason: Annotated[
        str, typer.Option("--reason", metavar="REASON", help="Why, for everybody who wonders.")
    ],
    shadow: Annotated[
        bool, typer.Option("--shadow", help="Go on counting what would have been refused.")
    ] = False,
    only: Annotated[
        bool,
        typer.Option("--only", help="Turn off every other switch, whoever turned it on."),
    ] = False,
    local: Local = False,
    state_dir: StateDir = None,
    wait: Wait = False,
    sign: Sign = None,
) -> int:
    """Refuse nothing at and below a scope, from now on.

    Every agent lets every request there pass, without asking a limit or a budget, until `ratectl
    panic off`. Policies, counts and buckets stay as they are, and publishing goes on as ever.
    Asks nothing, since every second counts: it is undone as fast. At a scope where a switch is on
    already, this one takes its place.

    With --shadow limits are still asked and counted, as if each said `mode: shadow`.

    With --sign, the switches that are on already are signed as well, so they must have been signed
    by the same key; --only repeats none of them.

    When the store is down, --local does the same on one machine: run it on each.

    Examples:
      ratectl panic on --scope / --reason "INC-42: limits refuse everybody" --wait
      ratectl panic on --scope /payments --reason INC-42 --shadow
      ratectl panic on --scope / --reason INC-42 --local --state-dir /var/lib/ratectl

    Exit codes:
      0    it is on
      1    it is on, but no agent is there (--wait)
      64   wrong arguments
      69   store unreachable: --local needs none
      75   others were turning switches all the time
      77   what is live is signed, and no key is named; or what is on already was not signed by
           this key: add --only
      124  out of time: not every agent obeys (--wait), or earlier: `ratectl panic` says what is on
    """
    from ratectl.kill_switch.turning import new_switch
    from ratectl.publishing.provenance import author
    from ratectl_cli.prompts import kill_switch

    session = session_of(ctx)
    switch = new_switch(scope, reason, author(Path()), "shadow" if shadow else "open")
    place = kill_switch.place_of(session, local=local, state_dir=state_dir, wait=wait, key=sign)
    with kill_switch.hinting("on"):
        turned = place.turn(lambda known: known.turned_on(switch), alone=only)
    code = kill_switch.answer_turned(session, turned, switch.scope)
    if isinstance(place, kill_switch.InStore):
        place.warn_of_undeclared(switch.scope)
    return code


__all__ = ["Local", "StateDir", "Wait", "on"]
