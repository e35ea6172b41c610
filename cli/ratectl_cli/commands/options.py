"""Options that more than one command declares."""

from typing import Annotated

import typer

__all__ = [
    "Attributes", "Local", "Message", "Prune", "SetName", "Sign", "StateDir", "TakeOwnership",
    "WaitForSwitch", "Yes",
]  # fmt: skip

Attributes = Annotated[
    list[str] | None,
    typer.Option(
        "-a",
        "--attr",
        metavar="NAME=VALUE",
        help="Attribute of the request. Repeatable.",
    ),
]
Message = Annotated[
    str, typer.Option("-m", "--message", metavar="MSG", help="Reason, for the history.")
]
Yes = Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")]

# Sets of a tree ---------------------------------------------------------------------------------

SetName = Annotated[
    str | None,
    typer.Option(
        "--set",
        metavar="NAME",
        help="PATH is the part of the tree that this set owns.",
    ),
]
Prune = Annotated[
    bool,
    typer.Option("--prune", help="Remove policies that the set owns and PATH does not contain."),
]
TakeOwnership = Annotated[
    list[str] | None,
    typer.Option(
        "--take-ownership",
        metavar="SCOPE",
        help="Let this set take over policies of PATH at and below SCOPE. Repeatable.",
    ),
]

# Signing ----------------------------------------------------------------------------------------

Sign = Annotated[
    str | None,
    typer.Option(
        "--sign",
        metavar="KEY",
        envvar="RATECTL_SIGN_KEY",
        show_envvar=False,
        help="File of the private key to sign with.  [env: RATECTL_SIGN_KEY]",
    ),
]

# Kill switches ----------------------------------------------------------------------------------

Local = Annotated[
    bool,
    typer.Option(
        "--local",
        help="Use a file on this machine, which the agents of one state directory read. Needs "
        "no store.",
    ),
]
StateDir = Annotated[
    str | None,
    typer.Option(
        "--state-dir",
        metavar="DIR",
        help="State directory of those agents.  [default: $XDG_STATE_HOME/ratectl]",
    ),
]
WaitForSwitch = Annotated[
    bool, typer.Option("--wait", help="Return when every agent obeys, usually within a second.")
]
