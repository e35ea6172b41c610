"""Options that more than one command declares."""

from typing import TYPE_CHECKING, Annotated

import typer

from ratectl.errors import UsageError

if TYPE_CHECKING:
    from ratectl_cli.framework.session import Session

__all__ = [
    "Attributes", "Confirm", "Live", "Local", "Message", "Policies", "PolicyPath", "PolicyPaths",
    "Prune", "SetName", "Sign", "StateDir", "TakeOwnership", "UsageScope", "WaitForSwitch", "Watch",
    "Yes", "files_of",
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
PolicyPaths = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PATH",
        help="Files, directories, or - for stdin.  [default: the folder that ratectl.yaml "
        "names, or ./policies]",
        show_default=False,
    ),
]
PolicyPath = Annotated[
    str | None,
    typer.Argument(
        metavar="PATH",
        help="File or directory of policies, or - for stdin.  [default: the folder that "
        "ratectl.yaml names, or ./policies]",
        show_default=False,
    ),
]
Policies = Annotated[
    str | None,
    typer.Option(
        "--policies",
        metavar="DIR",
        help="Use these files.  [default: the folder that ratectl.yaml names, or ./policies]",
    ),
]
Live = Annotated[bool, typer.Option("--live", help="Use the live generation.")]


def files_of(session: "Session", policies: str | None, *, live: bool) -> str | None:
    """Return the path of the policies to use; None for the live generation.

    :raises UsageError: both sources are named.
    """
    if live and policies is not None:
        raise UsageError("--live and --policies name two sources: give one")
    if live:
        return None
    return session.policies if policies is None else policies


Message = Annotated[
    str, typer.Option("-m", "--message", metavar="MSG", help="Reason, for the history.")
]
Yes = Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")]
Confirm = Annotated[
    str | None,
    typer.Option(
        "--confirm",
        metavar="NAME",
        help="Name of the environment, where changes need it (see `ratectl env`).",
    ),
]

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

# Usage ------------------------------------------------------------------------------------------

UsageScope = Annotated[
    str | None,
    typer.Argument(
        metavar="SCOPE",
        help="Show this scope, all scopes below it, and the budgets above it.  [default: all]",
    ),
]
Watch = Annotated[
    bool, typer.Option("--watch", help="Show the usage live on the terminal, until q or Ctrl-C.")
]
