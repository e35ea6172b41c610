"""A plan, as text, as data, and as a comment on a merge request."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ratectl.changes.limits import RELIEFS
from ratectl_cli.framework.text import Styled, bold, dim, paragraph, plural
from ratectl_cli.render.changes import (
    SIGNS,
    change_blocks,
    change_data,
    change_name,
    changes_line,
    followers_text,
)
from ratectl_cli.render.labels import origin_data, place_text
from ratectl_cli.render.markdown import code, escaped, small
from ratectl_cli.render.publication import declared, flag_of, proposal_data
from ratectl_cli.render.refusals import refusals_data, refusals_text, share_text
from ratectl_cli.render.replayed import replayed_blocks, replayed_data, replayed_markdown
from ratectl_cli.render.sets import set_blocks, set_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratectl.changes.compare import Change
    from ratectl.changes.peak_usage import Use
    from ratectl.changes.refusal_estimate import Refusals
    from ratectl.policy.resolution.effective_limit import Clip, Setting
    from ratectl.publishing.proposal import Proposal
    from ratectl_cli.framework.text import Block, Piece
    from ratectl_cli.render.replayed import Replayed

__all__ = ["Planned", "plan_blocks", "plan_data", "plan_markdown"]

_ROWS: Final = 200
"""Most rows of a table in a comment: platforms limit the size of comments."""


@dataclass(frozen=True, slots=True)
class Planned:
    """Proposal that `plan` shows, and its effect on recorded traffic."""

    proposal: Proposal
    title: str
    has_changes: bool
    replayed: Replayed | None = None
    """Replay of recorded traffic; None without --replay."""

    @property
    def candidate(self) -> int | None:
        """Generation that is being tried; nothing can be applied until its rollout has ended."""
        candidate = self.proposal.base.candidate
        return candidate.generation if candidate else None

    @property
    def own(self) -> list[Change]:
        """Changes that do not follow from a change at a scope above."""
        return [change for change in self.proposal.changes if not change.inherited]

    def github_lines(self) -> str:
        """Return outputs for later steps of a GitHub job."""
        base = self.proposal.base.generation
        changes = len(self.own)
        return f"has_changes={str(self.has_changes).lower()}\nchanges={changes}\nbase={base}\n"

    def use(self, change: Change) -> Use | None:
        """Return the recent peak of the fullest bucket of a limit; None if unknown."""
        return self.proposal.uses.get(change.named)

    def use_text(self, change: Change) -> str:
        """Return a sentence about the recent peak usage; empty if unknown."""
        use = self.use(change)
        if use is None:
            return ""
        where = "" if use.scope == change.scope else f" at {use.scope}"
        held = f"the fullest bucket recently held {use.peak}{where}"
        return f"{held}: above the new limit of {change.most}" if use.over else held

    def refusals(self, change: Change) -> Refusals | None:
        """Return what a limit would have refused recently; None if unknown."""
        return self.proposal.refusals.get(change.named)

    def refusals_text(self, change: Change) -> str:
        """Return a sentence about recent refusals.

        It is empty if there is no earlier limit to compare with, and ``?`` if agents report usage,
        but not that of this limit.
        """
        refusals = self.refusals(change)
        if refusals is not None:
            return f"refused recently: {refusals_text(refusals)}"
        expected = self.proposal.reporting and change.old and change.kind not in RELIEFS
        return "refused recently: ?" if expected else ""

    def place(self, change: Change) -> str:
        """Return the place that defines the changed value; empty if unknown."""
        origin = self._origin(change)
        return place_text(origin) if origin and origin["file"] else ""

    def cap_text(self, change: Change) -> str:
        """Return how a cap clips the value, or no longer does; empty without a cap."""
        origin = change.origin
        if origin and origin.clip:
            clip = origin.clip
            return f"clipped from {clip.asked} by the cap of {_owner(clip.cap)}"
        if origin and origin.lifted:
            clip = origin.lifted
            return f"no longer clipped to {clip.value} by the cap of {_owner(clip.cap)}"
        return ""

    def data(self, change: Change) -> dict[str, Any]:
        """Return a change for programs."""
        use = self.use(change)
        return {
            **change_data(change),
            "origin": self._origin(change),
            "clip": _clip_data(change.origin.clip if change.origin else None),
            "lifted": _clip_data(change.origin.lifted if change.origin else None),
            "most": change.most,
            "use": use._asdict() if use else None,
            "refusals": refusals_data(self.refusals(change)),
        }

    def _origin(self, change: Change) -> dict[str, Any] | None:
        if change.origin is None:
            return None
        return origin_data(self.proposal.tree, change.origin.path, change.origin.setting)


def _owner(cap: Setting) -> str:
    """Return the scope or the override that sets a cap."""
    return f"the override {cap.via.ref}" if cap.via else cap.scope


def _clip_data(clip: Clip | None) -> dict[str, Any] | None:
    """Return the value asked for, the clipped one, and the scope and the override of the cap."""
    if clip is None:
        return None
    return {
        "asked": str(clip.asked),
        "value": str(clip.value),
        "cap": clip.cap.scope,
        "override": clip.cap.via.ref if clip.cap.via else None,
    }


def plan_data(planned: Planned, saved: str | None) -> dict[str, Any]:
    """Return a plan for programs; ``saved`` is the file that it was saved to."""
    return {
        **proposal_data(planned.proposal),
        "changes": [planned.data(change) for change in planned.proposal.changes],
        "has_changes": planned.has_changes,
        "reporting": planned.proposal.reporting,
        "replay": replayed_data(planned.replayed),
        "candidate": planned.candidate,
        "saved": saved,
    }


def plan_blocks(
    planned: Planned, saved: str | None, *, unfold: bool, selector: str = ""
) -> Iterator[Block]:
    """Yield a plan for people; ``saved`` is the file that it was saved to.

    ``selector``: option that chooses the same store.
    """
    proposal = planned.proposal
    if not planned.has_changes:
        live = f"generation {proposal.base.generation}, which is live,"
        yield paragraph(f"no changes: {live} has the same policies")
    else:
        yield planned.title
        if proposal.changes:
            yield ""
            yield from change_blocks(
                proposal.changes, unfold=unfold, notes=lambda change: _notes(planned, change)
            )
            yield ""
            yield from _usage_note(planned)
        else:
            yield paragraph(
                "no request is affected: only descriptions, owners, caps or spelling differ"
            )
        counted = f"{changes_line(proposal.changes)} ({declared(proposal.summary)} declared)"
        yield paragraph(counted)
    yield from set_blocks(proposal.merged)
    if planned.replayed is not None:
        yield from replayed_blocks(planned.replayed, unfold=unfold)
        yield from [""] if proposal.objections or saved is not None else []
    for objection in proposal.objections:
        option = f"{flag_of(objection.guard)} REASON"
        yield paragraph([bold("guarded: ", "yellow"), f"{objection.message} ({option})"])
    if proposal.obstacle is not None:
        yield paragraph([bold("notice: ", "yellow"), proposal.obstacle])
    if saved is not None:
        yield [dim("apply: "), f"ratectl apply {shlex.quote(saved)}{selector}"]


def _notes(planned: Planned, change: Change) -> Iterator[Piece]:
    place, cap, use = planned.place(change), planned.cap_text(change), planned.use(change)
    defined = f"defined at {place}" if place else ""
    if cap or defined:
        yield dim("; ".join(filter(None, (cap, defined))))
    if use is not None:
        yield Styled(planned.use_text(change), "bold yellow" if use.over else "dim")
    refused = planned.refusals(change)
    more = refused is not None and refused.least > refused.refused
    text = planned.refusals_text(change)
    if text:
        yield Styled(text, "bold yellow" if more else "dim")


def _usage_note(planned: Planned) -> Iterator[Block]:
    """Yield a note if a limit gets tighter and no agent reports usage."""
    cut = [change for change in planned.own if change.before and change.kind not in RELIEFS]
    if not cut:
        return
    if not planned.proposal.reporting:
        yield paragraph(
            dim(
                "no agent reports usage: it is unknown how full buckets are and what would be "
                "refused"
            )
        )


# Markdown ---------------------------------------------------------------------------------------


def plan_markdown(planned: Planned) -> str:
    """Return a plan as a comment on a merge request, in Markdown for GitHub and GitLab."""
    proposal = planned.proposal
    lines = [f"### ratectl plan: {escaped(changes_line(proposal.changes))}", ""]
    if not planned.has_changes:
        lines += [
            f"Generation {proposal.base.generation}, which is live, has the same policies.",
            "",
        ]
        lines += _of_set(proposal)
        lines += replayed_markdown(planned.replayed) if planned.replayed else ()
        lines += _notice(proposal)
        return "\n".join(lines)
    lines += [f"{escaped(planned.title)} ({declared(proposal.summary)} declared).", ""]
    if proposal.changes:
        lines += _table(planned)
    else:
        lines += ["No request is affected: only descriptions, owners, caps or spelling differ.", ""]
    lines += _of_set(proposal)
    if planned.replayed is not None:
        lines += replayed_markdown(planned.replayed)
    lines += _notice(proposal)
    for objection in proposal.objections:
        option = code(f"{flag_of(objection.guard)} REASON")
        lines += [f"**Guarded**: {escaped(objection.message)} ({option}).", ""]
    lines += _findings(planned)
    return "\n".join(lines)


def _of_set(proposal: Proposal) -> Iterator[str]:
    for word, text in set_lines(proposal.merged):
        yield f"**{word.capitalize()}**: {escaped(text)}."
        yield ""


def _notice(proposal: Proposal) -> list[str]:
    obstacle = proposal.obstacle
    return [] if obstacle is None else [f"**Notice**: {escaped(obstacle)}.", ""]


def _table(planned: Planned) -> Iterator[str]:
    known = any(planned.use(change) or planned.refusals(change) for change in planned.own)
    titles = ["", "scope", "limit", "before", "after", "defined at"]
    titles += ["fullest bucket recently", "refused recently"] if known else []
    yield f"| {' | '.join(titles)} |"
    yield "|---" * len(titles) + "|"
    below = followers_text(planned.proposal.changes)
    for change in planned.own[:_ROWS]:
        cells = [
            f"`{SIGNS[change.kind][0]}` {change.kind}",
            code(change.scope),
            code(change_name(change)),
            code(change.before),
            code(change.after) + small(below.get(change.named, "")),
            code(planned.place(change)) + small(planned.cap_text(change)),
        ]
        if known:
            cells += _of_traffic(planned, change)
        yield f"| {' | '.join(cells)} |"
    if len(planned.own) > _ROWS:
        yield ""
        yield f"… and {len(planned.own) - _ROWS} more."
    yield ""


def _of_traffic(planned: Planned, change: Change) -> list[str]:
    use, refused = planned.use(change), planned.refusals(change)
    over = _warned(use is not None and use.over)
    more = _warned(refused is not None and refused.least > refused.refused)
    return [
        f"{use.peak} of {_most(change)}{over}" if use else "?" if change.old else "",
        f"{share_text(refused)}{more}" if refused else "?" if change.old else "",
    ]


def _warned(really: bool) -> str:
    return " ⚠️" if really else ""


def _most(change: Change) -> str:
    return "no limit" if change.most is None else str(change.most)


def _findings(planned: Planned) -> Iterator[str]:
    findings = planned.proposal.diagnostics
    if findings:
        yield f"{plural(len(findings), 'warning')}:"
        yield ""
        yield from (f"- {code(str(finding))}" for finding in findings[:_ROWS])
        yield ""
