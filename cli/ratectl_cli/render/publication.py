"""A proposal and its publication, as text and as data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ratectl_cli.framework.text import bold, dim, plural
from ratectl_cli.render.changes import change_data
from ratectl_cli.render.diagnostics import diagnostic_data
from ratectl_cli.render.sets import set_blocks, set_data
from ratectl_cli.render.waited import agents_blocks, agents_data

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ratectl.publishing.proposal import Proposal
    from ratectl.records import HistoryEntry
    from ratectl_cli.framework.recommended import Selector
    from ratectl_cli.framework.text import Block
    from ratectl_cli.render.waited import Waited

__all__ = [
    "declared",
    "flag_of",
    "passed_blocks",
    "proposal_data",
    "published_blocks",
    "published_data",
    "title_of",
    "unpublished_blocks",
    "unpublished_data",
]


def flag_of(guard: str) -> str:
    """Return the option that passes a guard, with a reason."""
    return f"--allow-{guard}"


def title_of(proposal: Proposal, source: str) -> str:
    """Return a title such as ``policies at 1a2b3c4d5e against generation 3``."""
    base, provenance = proposal.base, proposal.provenance
    if provenance.set:
        source = f"set {provenance.set} of {source}"
    if provenance.commit:
        dirty = ", with uncommitted changes" if provenance.dirty else ""
        source = f"{source} at {provenance.commit[:10]}{dirty}"
    against = f"generation {base.generation}" if base.head else "an empty store"
    return f"{source} against {against}"


def declared(summary: Mapping[str, int]) -> str:
    """Return a count such as ``4 scopes, 9 limits, 1 exception``."""
    always, others = ("scopes", "limits"), ("budgets", "overrides", "exceptions")
    named = [*always, *(name for name in others if summary.get(name))]
    return ", ".join(plural(summary[name], name[:-1]) for name in named)


def proposal_data(proposal: Proposal) -> dict[str, Any]:
    """Return a proposal for programs."""
    provenance = proposal.provenance
    return {
        "action": proposal.action,
        "base": proposal.base.generation or None,
        "author": provenance.author,
        "message": provenance.message,
        "commit": provenance.commit,
        "dirty": provenance.dirty,
        "summary": dict(proposal.summary),
        "changes": [change_data(change) for change in proposal.changes],
        "diagnostics": [diagnostic_data(finding) for finding in proposal.diagnostics],
        "objections": [
            {
                "guard": objection.guard,
                "message": objection.message,
                "flag": flag_of(objection.guard),
            }
            for objection in proposal.objections
        ],
        "passed": dict(provenance.passed),
        **set_data(provenance.set, proposal.merged),
    }


def passed_blocks(proposal: Proposal) -> Iterator[Block]:
    """Yield a line for objection guard that was passed, with the reason."""
    passed = proposal.provenance.passed
    for objection in proposal.objections:
        yield [bold("passed: ", "yellow"), f"{objection.message} ({passed[objection.guard]})"]


def published_data(
    proposal: Proposal, entry: HistoryEntry, waited: Waited | None = None, *, selector: Selector
) -> dict[str, Any]:
    """Return a publication for programs. ``selector``: options to repeat."""
    previous = proposal.base.generation
    return {
        **proposal_data(proposal),
        "published": True,
        "generation": entry.generation,
        "time": entry.time,
        "undo": f"ratectl rollback{selector.changing} --to {previous}" if previous else None,
        "agents": agents_data(waited),
    }


def published_blocks(
    proposal: Proposal,
    entry: HistoryEntry,
    waited: Waited | None = None,
    *,
    selector: Selector,
    quiet: bool,
) -> Iterator[Block]:
    """Yield the new generation, and how to undo it."""
    previous = proposal.base.generation
    yield [bold(f"generation {entry.generation} is live", "green")]
    yield from agents_blocks(waited)
    if not quiet:
        if previous:
            yield [dim("undo:   "), f"ratectl rollback{selector.changing} --to {previous}"]
        yield [dim("follow: "), f"ratectl agents{selector.reading}"]


def unpublished_data(proposal: Proposal, waited: Waited | None = None) -> dict[str, Any]:
    """Return a proposal that was not published, for programs."""
    return {
        **proposal_data(proposal),
        "published": False,
        "generation": proposal.base.generation or None,
        "time": None,
        "undo": None,
        "agents": agents_data(waited),
    }


def unpublished_blocks(
    proposal: Proposal, why: str, waited: Waited | None = None, *, sets: bool
) -> Iterator[Block]:
    """Yield why nothing was published. ``sets``: with what the set leaves, removes and takes."""
    if sets:
        yield from set_blocks(proposal.merged)
    yield why
    yield from agents_blocks(waited)
