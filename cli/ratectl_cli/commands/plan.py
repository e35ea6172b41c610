"""``ratectl plan``."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from ratectl.errors import UsageError
from ratectl_cli.framework.session import Session, session_of
from ratectl_cli.inputs.sets import Prune, SetName, Take, choice_of

if TYPE_CHECKING:
    from pathlib import Path

    from ratectl.publishing.proposal import Proposal
    from ratectl_cli.inputs.replays import Recording
    from ratectl_cli.render.plan import Planned
    from ratectl_cli.render.replayed import Replayed


class Format(StrEnum):
    """Forms of a plan for people."""

    TEXT = "text"
    MARKDOWN = "markdown"


def plan(
    ctx: typer.Context,
    path: Annotated[
        str, typer.Argument(metavar="PATH", help="File or directory of policies, or - for stdin.")
    ],
    out: Annotated[
        str | None,
        typer.Option("--out", metavar="FILE", help="Save the plan, for `ratectl apply FILE`."),
    ] = None,
    message: Annotated[
        str, typer.Option("-m", "--message", metavar="MSG", help="Why; saved with the plan.")
    ] = "",
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="Exit 2 where there is something to apply.")
    ] = False,
    format_: Annotated[
        Format,
        typer.Option(
            "--format",
            metavar="text|markdown",
            show_default=False,
            help="Form of the text; markdown is for a comment on a merge request.  [default: text]",
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
            help="Replay this log through both; - for stdin. Needs --map.",
        ),
    ] = None,
    map_file: Annotated[
        str | None,
        typer.Option("--map", metavar="FILE", help="How the lines of the log become requests."),
    ] = None,
    set_: SetName = None,
    prune: Prune = False,
    take_ownership: Take = None,
) -> int:
    """Show what publishing policies would change.

    Publishes nothing. Compares what requests would notice, not text, with the live generation:
    which limits become tighter or looser, for whom, where that is said, and, where agents report
    usage, how full the fullest bucket was of late, and what share of requests would be refused. A
    saved plan holds all that it would publish; `ratectl apply` takes it only while the generation
    that it was compared with is live.

    --replay shows what recorded traffic would notice, as `ratectl simulate --against live` does.

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
    from pathlib import Path

    from ratectl.publishing.propose import propose
    from ratectl.runtime.whole_files import write_whole
    from ratectl_cli.framework.deadline import tidy
    from ratectl_cli.inputs.policies import read_source
    from ratectl_cli.inputs.replays import no_request
    from ratectl_cli.prompts import publication
    from ratectl_cli.render.plan import Planned
    from ratectl_cli.render.publication import title_of
    from ratectl_cli.render.times import now_ns

    session = session_of(ctx)
    if not session.text and format_ is not Format.TEXT:
        raise UsageError(f"--format {format_} is text: leave out -o {session.options.output}")
    if out is not None and out.strip() in ("", "-"):
        raise UsageError(f"--out takes the name of a file, not {out!r}: the plan is saved to it")
    choice = choice_of(set_, prune=prune, take=take_ownership)
    outputs = _github_file() if github_output else None
    recording = _recording(path, replay, map_file)
    with session.busy("reading policies"):
        source = read_source(path, part=choice is not None)
    with session.store() as store, session.busy("comparing with the live generation"):
        proposal = propose(store, source, message=message, choice=choice, now_ns=now_ns())
        saved = None if out is None else proposal.save()
    publication.warn(session, proposal)
    planned = Planned(
        proposal,
        title=title_of(proposal, path),
        has_changes=not proposal.is_live,
        replayed=_replayed(session, proposal, recording),
    )
    publication.warn_of_policies(session, proposal)
    if planned.replayed is not None and not planned.replayed.report.requests:
        _answer(session, planned, None, format_)
        no_request(session, planned.replayed.log, planned.replayed.report)
        return 1
    if saved is not None and out is not None:
        tidy(write_whole)(Path(out), saved.encode())
    if outputs is not None:
        with outputs.open("a", encoding="utf-8") as file:
            file.write(planned.github_lines())
    _answer(session, planned, out, format_)
    return 2 if detailed_exitcode and planned.has_changes else 0


def _recording(path: str, log: str | None, map_file: str | None) -> "Recording | None":
    from ratectl_cli.inputs.replays import Recording

    if log is None and map_file is None:
        return None
    if log is None or map_file is None:
        given, missing = ("--map", "--replay LOG") if log is None else ("--replay", "--map FILE")
        raise UsageError(f"{given} needs {missing}: a log, and how its lines become requests")
    if path == log == "-":
        raise UsageError("standard input can be read only once: give one -")
    return Recording.of(log, map_file, "--replay")


def _replayed(
    session: Session, proposal: "Proposal", recording: "Recording | None"
) -> "Replayed | None":
    """The log through the policies planned, and through the live ones where they can be read."""
    from ratectl.policy.language.model import PolicyTree
    from ratectl_cli.inputs.replays import replay_recording
    from ratectl_cli.render.replayed import Replayed

    if recording is None:
        return None
    sides = [("planned", proposal.tree)]
    if proposal.base.head is None:
        sides.append(("nothing live", PolicyTree({})))
    elif proposal.old is not None:
        sides.append((f"generation {proposal.base.generation}", proposal.old))
    report = replay_recording(session, recording, sides)
    return Replayed(recording.log, recording.map, report)


def _github_file() -> "Path":
    import os
    from pathlib import Path

    named = os.environ.get("GITHUB_OUTPUT")
    if not named:
        raise UsageError("--github-output writes to the file that GITHUB_OUTPUT names: it is unset")
    return Path(named)


def _answer(session: Session, planned: "Planned", out: str | None, format_: Format) -> None:
    from ratectl_cli.render import plan as render

    if format_ is Format.MARKDOWN:
        session.emit(render.plan_markdown(planned))
        return
    unfold = bool(session.options.verbose)
    session.answer(
        "Plan",
        render.plan_data(planned, out),
        lambda: render.plan_blocks(planned, out, unfold=unfold),
    )


__all__ = ["plan"]
