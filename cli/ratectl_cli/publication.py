"""What `apply` and `rollback` share: show the change, ask, publish, say how to undo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ratectl_cli.text import bold, dim, plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ratectl.compare import Change
    from ratectl.generations import Live
    from ratectl.policy.diagnostics import Diagnostic
    from ratectl.policy.model import PolicyTree
    from ratectl.publish import Provenance
    from ratectl.records import HistoryEntry
    from ratectl_cli.session import Session
    from ratectl_cli.text import Block

__all__ = [
    "Proposal",
    "answer_published",
    "answer_unchanged",
    "is_live",
    "propose",
    "show_changes",
]


@dataclass(frozen=True, slots=True)
class Proposal:
    """What is about to be published, against the head that it was compared with."""

    action: str
    base: Live
    tree: PolicyTree
    changes: Sequence[Change]
    summary: dict[str, int]
    provenance: Provenance
    diagnostics: Sequence[Diagnostic] = ()
    """Warnings about the policies."""


def propose(
    action: str,
    base: Live,
    old: PolicyTree | None,
    tree: PolicyTree,
    provenance: Provenance,
    diagnostics: Sequence[Diagnostic] = (),
) -> Proposal:
    """Compare two trees."""
    from ratectl.compare import compare, summarise
    from ratectl_cli.render.times import now_ns

    changes = compare(old, tree, now_ns())
    return Proposal(action, base, tree, changes, summarise(tree, changes), provenance, diagnostics)


def show_changes(session: Session, proposal: Proposal, title: str) -> None:
    """Print what publishing would change."""
    session.show(_change_blocks(session, proposal, title))


def answer_published(session: Session, proposal: Proposal, entry: HistoryEntry) -> None:
    """Print the new generation."""
    previous = proposal.base.generation
    data = {
        **_data(proposal),
        "published": True,
        "generation": entry.generation,
        "time": entry.time,
        "undo": f"ratectl rollback --to {previous}" if previous else None,
    }

    def blocks() -> Iterator[Block]:
        yield [bold(f"generation {entry.generation} is live", "green")]
        if not session.options.quiet:
            if previous:
                yield [dim("undo:   "), f"ratectl rollback --to {previous}"]
            yield [dim("follow: "), "ratectl agents"]

    session.answer("Publication", data, blocks)


def answer_unchanged(session: Session, proposal: Proposal, what: str) -> None:
    """Print that nothing needed to be published."""
    live = proposal.base.generation
    data = {
        **_data(proposal), "published": False, "generation": live, "time": None, "undo": None
    }  # fmt: skip
    text = f"nothing to do: generation {live}, which is live, {what}"
    session.answer("Publication", data, lambda: [text])


def is_live(proposal: Proposal) -> bool:
    """Whether publishing would change nothing at all."""
    from ratectl.policy.bundle import digest, encode_policies

    head = proposal.base.head
    return head is not None and head.bundle == digest(encode_policies(proposal.tree))


def _change_blocks(session: Session, proposal: Proposal, title: str) -> Iterator[Block]:
    from ratectl_cli.render.changes import change_blocks, changes_line

    yield title
    if proposal.changes:
        yield ""
        yield from change_blocks(proposal.changes, unfold=bool(session.options.verbose))
        yield ""
    else:
        yield "no request will notice: only descriptions, owners, caps or spelling differ"
    yield f"{changes_line(proposal.changes)} ({_declared(proposal.summary)} declared)"


def _declared(summary: Mapping[str, int]) -> str:
    """``4 scopes, 9 limits, 1 exception``."""
    always, others = ("scopes", "limits"), ("budgets", "overrides", "exceptions")
    named = [*always, *(name for name in others if summary.get(name))]
    return ", ".join(plural(summary[name], name[:-1]) for name in named)


def _data(proposal: Proposal) -> dict[str, Any]:
    from ratectl_cli.render.changes import change_data
    from ratectl_cli.render.diagnostics import diagnostic_data

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
        "diagnostics": [diagnostic_data(found) for found in proposal.diagnostics],
    }
