"""`ratectl plan`: compare with what is live, save the plan, and print it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ratectl.errors import UsageError
from ratectl.policy.language.model import PolicyTree
from ratectl.publishing.propose import propose
from ratectl.runtime.whole_files import write_whole
from ratectl_cli.framework import clock
from ratectl_cli.framework.deadline import tidy
from ratectl_cli.inputs.policies import read_source
from ratectl_cli.inputs.replays import Recording, replay_recording
from ratectl_cli.prompts import publication
from ratectl_cli.prompts.replaying import complain_of_no_request
from ratectl_cli.render import plan as render
from ratectl_cli.render.publication import title_of
from ratectl_cli.render.replayed import Replayed

if TYPE_CHECKING:
    from ratectl.publishing.proposal import Proposal
    from ratectl.publishing.sets import SetChoice
    from ratectl_cli.framework.session import Session

__all__ = ["PlanOptions", "planned"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions:
    """Options of `plan`."""

    out: str | None
    """File to save the plan to."""
    message: str
    detailed_exitcode: bool
    markdown: bool
    github_output: bool
    replay: str | None
    map_file: str | None
    choice: SetChoice | None


def planned(session: Session, path: str, options: PlanOptions) -> int:
    """Plan to publish the policies at a path; return the exit code."""
    out = options.out
    outputs = _github_file() if options.github_output else None
    recording = _recording(path, options.replay, options.map_file)
    with session.busy("reading policies"):
        source = read_source(path, part=options.choice is not None)
    with session.store() as store, session.busy("comparing with the live generation"):
        proposal = propose(
            store,
            source,
            message=options.message,
            choice=options.choice,
            now_ns=clock.now_ns(),
            target=session.target,
        )
        saved = None if out is None else proposal.save()
    publication.warn(session, proposal)
    plan = render.Planned(
        proposal,
        title=title_of(proposal, path),
        has_changes=not proposal.is_live,
        replayed=_replayed(session, proposal, recording),
    )
    publication.warn_of_policies(session, proposal)
    if plan.replayed is not None and not plan.replayed.report.requests:
        _answer(session, plan, None, markdown=options.markdown)
        complain_of_no_request(session, plan.replayed.log, plan.replayed.report)
        return 1
    if saved is not None and out is not None:
        tidy(write_whole)(Path(out), saved.encode())
    if outputs is not None:
        with outputs.open("a", encoding="utf-8") as file:
            file.write(plan.github_lines())
    _answer(session, plan, out, markdown=options.markdown)
    return 2 if options.detailed_exitcode and plan.has_changes else 0


def _recording(path: str, log: str | None, map_file: str | None) -> Recording | None:
    if log is None and map_file is None:
        return None
    if log is None or map_file is None:
        given, missing = ("--map", "--replay LOG") if log is None else ("--replay", "--map FILE")
        raise UsageError(f"{given} needs {missing}: a log, and a map of its lines to requests")
    if path == log == "-":
        raise UsageError("standard input can be read only once: give one -")
    return Recording.of(log, map_file, "--replay")


def _replayed(session: Session, proposal: Proposal, recording: Recording | None) -> Replayed | None:
    """Replay through the planned policies, and through the live ones if they can be read."""
    if recording is None:
        return None
    sides = [("planned", proposal.tree)]
    if proposal.base.head is None:
        sides.append(("nothing live", PolicyTree({})))
    elif proposal.old is not None:
        sides.append((f"generation {proposal.base.generation}", proposal.old))
    report = replay_recording(session, recording, sides)
    return Replayed(recording.log, recording.map, report)


def _github_file() -> Path:
    named = os.environ.get("GITHUB_OUTPUT")
    if not named:
        raise UsageError("--github-output writes to the file that GITHUB_OUTPUT names: it is unset")
    return Path(named)


def _answer(session: Session, plan: render.Planned, out: str | None, *, markdown: bool) -> None:
    if markdown:
        session.emit(render.plan_markdown(plan))
        return
    unfold, selector = bool(session.options.verbose), session.selector.reading
    session.answer(
        "Plan",
        render.plan_data(plan, out),
        lambda: render.plan_blocks(plan, out, unfold=unfold, selector=selector),
    )
