"""A plan, as text, as data, and as a comment on a merge request."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ratectl.changes.limits import RELIEFS
from ratectl.publishing._publish import being_tried
from ratectl_cli.framework.text import Styled, bold, dim, plural
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
    from ratectl.policy.resolution.effective_limit import Clip
    from ratectl.publishing.proposal import Proposal
    from ratectl_cli.framework.text import Block, Piece
    from ratectl_cli.render.replayed import Replayed

__all__ = ["Planned", "plan_blocks", "plan_data", "plan_markdown"]

_ROWS: Final = 200
"""In a comment, which may not be long."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A proposal that is not published, and what is known of the limits that it changes."""

    proposal: Proposal
    title: str
    has_changes: bool
    replayed: Replayed | None = None
    """What recorded traffic notices, if that was asked."""

    @property
    def candidate(self) -> int | None:
        """The generation that is being tried now: until that is over, nothing can be applied."""
        candidate = self.proposal.base.candidate
        return candidate.generation if candidate else None

    @property
    def own(self) -> list[Change]:
        """The changes that follow from no other."""
        return [change for change in self.proposal.changes if not change.inherited]

    def github_lines(self) -> str:
        """What later steps of a GitHub job can read."""
        base = self.proposal.base.generation
        changes = len(self.own)
        return f"has_changes={str(self.has_changes).lower()}\nchanges={changes}\nbase={base}\n"

    def use(self, change: Change) -> Use | None:
        """How full the fullest bucket was of late; None where nobody knows."""
        return self.proposal.uses.get(change.named)

    def use_text(self, change: Change) -> str:
        """Nothing where nobody knows."""
        use = self.use(change)
        if use is None:
            return ""
        where = "" if use.scope == change.scope else f" at {use.scope}"
        if not use.over:
            return f"the fullest bucket lately held {use.peak}{where}"
        return (
            f"the fullest bucket lately held {use.peak}{where}: more than the {change.most} to be"
        )

    def refusals(self, change: Change) -> Refusals | None:
        """What it would have refused of late; None where nobody knows what there was."""
        return self.proposal.refusals.get(change.named)

    def refusals_text(self, change: Change) -> str:
        """Nothing where nothing can be asked; ``?`` where nobody knows of a limit that is there."""
        found = self.refusals(change)
        if found is not None:
            return f"refused lately: {refusals_text(found)}"
        asked = self.proposal.reporting and change.old and change.kind not in RELIEFS
        return "refused lately: ?" if asked else ""

    def place(self, change: Change) -> str:
        """Where what makes the difference is said; nothing where that is not known."""
        origin = self._origin(change)
        return place_text(origin) if origin and origin["file"] else ""

    def cap_text(self, change: Change) -> str:
        """What a cap has to do with it; nothing where it has not."""
        origin = change.origin
        if origin and origin.clip:
            clip = origin.clip
            return f"clipped from {clip.asked} by the cap of {clip.cap.scope}"
        if origin and origin.lifted:
            clip = origin.lifted
            return f"no longer clipped to {clip.value} by the cap of {clip.cap.scope}"
        return ""

    def data(self, change: Change) -> dict[str, Any]:
        """A change for programs."""
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


def _clip_data(clip: Clip | None) -> dict[str, Any] | None:
    """A value as it is asked for, as a cap has it, and whose cap that is."""
    if clip is None:
        return None
    return {"asked": str(clip.asked), "value": str(clip.value), "cap": clip.cap.scope}


def plan_data(planned: Planned, saved: str | None) -> dict[str, Any]:
    """A plan for programs; ``saved`` is the file that it was saved to."""
    return {
        **proposal_data(planned.proposal),
        "changes": [planned.data(change) for change in planned.proposal.changes],
        "has_changes": planned.has_changes,
        "reporting": planned.proposal.reporting,
        "replay": replayed_data(planned.replayed),
        "candidate": planned.candidate,
        "saved": saved,
    }


def plan_blocks(planned: Planned, saved: str | None, *, unfold: bool) -> Iterator[Block]:
    """A plan for people."""
    proposal = planned.proposal
    if not planned.has_changes:
        yield f"no changes: generation {proposal.base.generation}, which is live, says the same"
    else:
        yield planned.title
        if proposal.changes:
            yield ""
            yield from change_blocks(
                proposal.changes, unfold=unfold, notes=lambda change: _notes(planned, change)
            )
            yield ""
            yield from _of_use(planned)
        else:
            yield "no request will notice: only descriptions, owners, caps or spelling differ"
        yield f"{changes_line(proposal.changes)} ({declared(proposal.summary)} declared)"
    yield from set_blocks(proposal.merged)
    if planned.replayed is not None:
        yield from replayed_blocks(planned.replayed, unfold=unfold)
        yield from [""] if proposal.objections or saved is not None else []
    for each in proposal.objections:
        yield [bold("guarded: ", "yellow"), f"{each.message} ({flag_of(each.guard)} REASON)"]
    tried = being_tried(proposal.base)
    if tried is not None:
        yield [bold("notice: ", "yellow"), tried]
    if saved is not None:
        yield [dim("apply: "), f"ratectl apply {shlex.quote(saved)}"]


def _notes(planned: Planned, change: Change) -> Iterator[Piece]:
    place, cap, use = planned.place(change), planned.cap_text(change), planned.use(change)
    said = f"said at {place}" if place else ""
    if cap or said:
        yield dim("; ".join(filter(None, (cap, said))))
    if use is not None:
        yield Styled(planned.use_text(change), "bold yellow" if use.over else "dim")
    refused = planned.refusals(change)
    more = refused is not None and refused.least > refused.refused
    text = planned.refusals_text(change)
    if text:
        yield Styled(text, "bold yellow" if more else "dim")


def _of_use(planned: Planned) -> Iterator[Block]:
    """Who said how full buckets were; that nobody did is said as well."""
    cut = [change for change in planned.own if change.before and change.kind not in RELIEFS]
    if not cut:
        return
    if not planned.proposal.reporting:
        yield dim(
            "no agent reports usage: how full buckets are, and what would be refused, is not known"
        )


# Markdown ---------------------------------------------------------------------------------------


def plan_markdown(planned: Planned) -> str:
    """A plan as a comment on a merge request, in what GitHub and GitLab both understand."""
    proposal = planned.proposal
    lines = [f"### ratectl plan: {escaped(changes_line(proposal.changes))}", ""]
    if not planned.has_changes:
        lines += [f"Generation {proposal.base.generation}, which is live, says the same.", ""]
        lines += _of_set(proposal)
        lines += replayed_markdown(planned.replayed) if planned.replayed else ()
        lines += _notice(proposal)
        return "\n".join(lines)
    lines += [f"{escaped(planned.title)} ({declared(proposal.summary)} declared).", ""]
    if proposal.changes:
        lines += _table(planned)
    else:
        lines += ["No request will notice: only descriptions, owners, caps or spelling differ.", ""]
    lines += _of_set(proposal)
    if planned.replayed is not None:
        lines += replayed_markdown(planned.replayed)
    lines += _notice(proposal)
    for each in proposal.objections:
        option = code(f"{flag_of(each.guard)} REASON")
        lines += [f"**Guarded**: {escaped(each.message)} ({option}).", ""]
    lines += _findings(planned)
    return "\n".join(lines)


def _of_set(proposal: Proposal) -> Iterator[str]:
    for word, text in set_lines(proposal.merged):
        yield f"**{word.capitalize()}**: {escaped(text)}."
        yield ""


def _notice(proposal: Proposal) -> list[str]:
    tried = being_tried(proposal.base)
    return [] if tried is None else [f"**Notice**: {escaped(tried)}.", ""]


def _table(planned: Planned) -> Iterator[str]:
    known = any(planned.use(change) or planned.refusals(change) for change in planned.own)
    titles = ["", "scope", "limit", "before", "after", "said at"]
    titles += ["fullest bucket lately", "refused lately"] if known else []
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
    found = planned.proposal.diagnostics
    if found:
        yield f"{plural(len(found), 'warning')}:"
        yield ""
        yield from (f"- {code(str(each))}" for each in found[:_ROWS])
        yield ""
