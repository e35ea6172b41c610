"""``ratectl plan``."""

from enum import StrEnum
from typing import Annotated

import typer

from ratectl.errors import UsageError
from ratectl_cli.commands.options import PolicyPath, Prune, SetName, TakeOwnership
from ratectl_cli.framework.session import session_of


class Format(StrEnum):
    """Formats of a plan for people."""

    TEXT = "text"
    MARKDOWN = "markdown"


def plan(
    ctx: typer.Context,
    path: PolicyPath = None,
    out: Annotated[
        str | None,
        typer.Option("--out", metavar="FILE", help="Save the plan, for `ratectl apply FILE`."),
    ] = None,
    message: Annotated[
        str,
        typer.Option(
            "-m", "--message", metavar="MSG", help="Reason, for the history; saved with the plan."
        ),
    ] = "",
    detailed_exitcode: Annotated[
        bool,
        typer.Option("--detailed-exitcode", help="Exit with 2 if there is something to apply."),
    ] = False,
    format_: Annotated[
        Format,
        typer.Option(
            "--format",
            metavar="text|markdown",
            show_default=False,
            help="Format of the plan; markdown is for a comment on a merge request.  [default: "
            "text]",
        ),
    ] = Format.TEXT,
    github_output: Annotated[
        bool,
        typer.Option(
            "--github-output",
            help="Write has_changes, changes and base to the file that GITHUB_OUTPUT names.",
        ),
    ] = False,
    replay: Annotated[
        str | None,
        typer.Option(
            "--replay",
            metavar="LOG",
            help="Replay this log through the new and the live policies; - for stdin. Needs --map.",
        ),
    ] = None,
    map_file: Annotated[
        str | None,
        typer.Option(
            "--map", metavar="FILE", help="Map that tells how lines of the log become requests."
        ),
    ] = None,
    set_: SetName = None,
    prune: Prune = False,
    take_ownership: TakeOwnership = None,
) -> int:
    """Show what publishing policies would change.

    Publishes nothing. Compares PATH with the live generation: not the text, but the effect on
    requests. Shows which limits become tighter or looser, for which requests, and where the change
    is defined. If agents report usage, also shows how full the fullest bucket was recently, and
    what share of requests would be refused. A saved plan contains everything that it would
    publish; `ratectl apply` accepts it only while the generation that it was compared with is
    live.

    --replay shows the effect on recorded traffic, like `ratectl simulate --against live`.

    Examples:
      ratectl plan policies/
      ratectl plan policies/ --out plan.json && ratectl apply plan.json
      ratectl plan policies/ --format markdown --github-output > comment.md
      ratectl plan policies/ --replay access.log.gz --map web.map.yaml

    Exit codes:
      0    planned
      1    no line of the log could be replayed: nothing is saved (--replay)
      2    planned, and there is something to apply (--detailed-exitcode)
      64   wrong arguments, an invalid map, or no such log
      65   invalid policies
      69   store unreachable, or the log cannot be read, or the plan not written
      77   nothing to apply, it belongs to another set, or the plan may not be written there
    """
    from ratectl_cli.inputs.sets import choice_of
    from ratectl_cli.prompts.planning import PlanOptions, planned

    session = session_of(ctx)
    if not session.text and format_ is not Format.TEXT:
        raise UsageError(f"--format {format_} is text: leave out -o {session.options.output}")
    if out is not None and out.strip() in ("", "-"):
        raise UsageError(f"--out takes the name of a file, not {out!r}: the plan is saved to it")
    options = PlanOptions(
        out=out,
        message=message,
        detailed_exitcode=detailed_exitcode,
        markdown=format_ is Format.MARKDOWN,
        github_output=github_output,
        replay=replay,
        map_file=map_file,
        choice=choice_of(set_, prune=prune, take=take_ownership),
    )
    return planned(session, session.policies if path is None else path, options)


__all__ = ["plan"]
