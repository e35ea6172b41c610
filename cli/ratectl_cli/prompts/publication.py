"""What `apply` and `rollback` share: show the change, ask, publish, say how to undo."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ratectl_cli.framework.text import bold, dim, plural
from ratectl_cli.prompts.sets import set_blocks, set_data
from ratectl_cli.prompts.waiting import agents_blocks, agents_data

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ratectl.changes.compare import Change, Named
    from ratectl.changes.guards import Objection
    from ratectl.changes.peak_usage import Use
    from ratectl.changes.refusal_estimate import Refusals
    from ratectl.diagnostics import Diagnostic
    from ratectl.history.generations import Live
    from ratectl.policy.language.model import PolicyTree
    from ratectl.policy.loading.loader import Loaded
    from ratectl.publishing.ownership import Merged
    from ratectl.publishing.publish import Provenance
    from ratectl.publishing.source_files import Beside
    from ratectl.records import HistoryEntry
    from ratectl.signing.signatures import Signer
    from ratectl.stores.base import Store
    from ratectl_cli.framework.session import Session
    from ratectl_cli.framework.text import Block
    from ratectl_cli.prompts.sets import Choice
    from ratectl_cli.prompts.waiting import Waited

__all__ = [
    "Proposal",
    "answer_dry",
    "answer_published",
    "answer_unchanged",
    "compare_with_live",
    "declared",
    "guarded",
    "is_live",
    "pass_guards",
    "proposal_data",
    "propose",
    "provenance_of",
    "show_changes",
    "sign_guard",
    "title_of",
    "warn",
]


@dataclass(frozen=True, slots=True)
class Proposal:
    """What is about to be published, against the head that it was compared with."""

    action: str
    base: Live
    old: PolicyTree | None
    """What is live; None where nothing is, or it cannot be read."""
    tree: PolicyTree
    changes: Sequence[Change]
    summary: dict[str, int]
    provenance: Provenance
    diagnostics: Sequence[Diagnostic] = ()
    """Warnings about the policies."""
    reporting: int = 0
    """Agents that report usage."""
    uses: Mapping[Named, Use] = field(default_factory=dict)
    """How full the fullest bucket was of late, where anybody says so."""
    refusals: Mapping[Named, Refusals] = field(default_factory=dict)
    """What it would have refused of late, where anybody says what there was to refuse."""
    objections: Sequence[Objection] = ()
    """What guards say against it."""
    beside: Beside | None = None
    """What to keep with it."""
    merged: Merged | None = None
    """Where only a set is published."""
    reowned: bool = False
    """Whether it changes who owns what."""

    @property
    def published(self) -> PolicyTree:
        """The tree with the places to keep."""
        return self.tree if self.merged is None else self.merged.published


def propose(
    action: str,
    base: Live,
    old: PolicyTree | None,
    tree: PolicyTree,
    provenance: Provenance,
    diagnostics: Sequence[Diagnostic] = (),
) -> Proposal:
    """Compare two trees."""
    from ratectl.changes.compare import compare, summarise
    from ratectl_cli.render.times import now_ns

    changes = compare(old, tree, now_ns())
    summary = summarise(tree, changes)
    return Proposal(action, base, old, tree, changes, summary, provenance, diagnostics)


def compare_with_live(
    session: Session,
    store: Store,
    base: Live,
    path: str,
    loaded: Loaded,
    provenance: Provenance,
    choice: Choice | None = None,
    signer: Signer | None = None,
) -> Proposal:
    """Propose policies that were read at ``path``, beside the live generation of ``base``.

    ``choice``: they are only a set's part of it. ``signer`` is going to sign what is published.

    :raises PolicyError, Refused: they cannot be published (see ``whole_of``).
    """
    from ratectl_cli.inputs.policies import tree_to_compare
    from ratectl_cli.prompts.sets import whole_of

    if base.unreadable is not None:
        session.warn(f"{base.unreadable}. It is compared with nothing")
    old = tree_to_compare(session, store, base)
    whole = whole_of(store, base, old, loaded, choice, signer)
    if whole.disowned is not None:
        session.warn(f"{whole.disowned}. No set owns anything of the whole tree from PATH")
    if choice is not None:
        provenance = replace(provenance, set=choice.name)
    found = whole.loaded
    proposal = replace(
        propose("apply", base, old, found.tree, provenance, found.diagnostics),
        beside=whole.beside(store, base, path),
        merged=whole.merged,
        reowned=whole.reowned,
    )
    return guarded(session, store, proposal)


def guarded(session: Session, store: Store, proposal: Proposal) -> Proposal:
    """The same, with what agents and guards say of it."""
    from ratectl.changes.guards import objections
    from ratectl.changes.peak_usage import uses
    from ratectl.changes.refusal_estimate import refusals
    from ratectl.errors import StoreError
    from ratectl.fleet.usage import read_usage, totals
    from ratectl_cli.prompts.kill_switch import warn_of_switches

    warn_of_switches(session, store)
    try:
        records = read_usage(store, session.warn)
    except StoreError as error:
        session.warn(f"what limits do now is not known: {error}")
        records = []
    found = uses(proposal.changes, totals(records).limits)
    return replace(
        proposal,
        reporting=len(records),
        uses=found,
        refusals=refusals(proposal.old, proposal.tree, proposal.changes, records),
        objections=objections(proposal.old, proposal.tree, proposal.changes, found),
    )


def sign_guard(store: Store, proposal: Proposal, key: Signer | None) -> Proposal:
    """Return the proposal with objections to signing it, or to leaving it unsigned."""
    objection = _unsigned(proposal) if key is None else _unverified(store, proposal)
    if objection is None:
        return proposal
    return replace(proposal, objections=[*proposal.objections, objection])


def _unsigned(proposal: Proposal) -> Objection | None:
    from ratectl.changes.guards import UNSIGNED, Objection

    head = proposal.base.head
    if head is None or head.signature is None:
        return None
    return Objection(
        UNSIGNED,
        "what is live is signed, and agents that hold public keys would refuse this "
        "(--sign KEY signs it)",
    )


def _unverified(store: Store, proposal: Proposal) -> Objection | None:
    from ratectl.changes.guards import UNVERIFIED, Objection
    from ratectl_cli.inputs.signing import unverified

    why = unverified(store, proposal)
    if why is None:
        return None
    return Objection(
        UNVERIFIED,
        f"what other sets own would be signed as well, and cannot be vouched for: {why} "
        "(look at it first: `ratectl show`)",
    )


def pass_guards(session: Session, proposal: Proposal, reasons: Mapping[str, str]) -> Proposal:
    """The same, if a reason is given for each guard that says no.

    :raises Refused: one is missing.
    """
    from ratectl.changes.guards import unanswered
    from ratectl_cli.errors import Refused

    missing = list(unanswered(proposal.objections, reasons))
    if missing:
        said = "; ".join(each.message for each in missing)
        flags = " ".join(f"{each.flag} REASON" for each in missing)
        raise Refused(f"a guard refuses this: {said}. If it is meant, add {flags}")
    passed = {each.guard: reasons[each.guard].strip() for each in proposal.objections}
    session.show(
        [bold("passed: ", "yellow"), f"{each.message} ({passed[each.guard]})"]
        for each in proposal.objections
    )
    return replace(proposal, provenance=replace(proposal.provenance, passed=passed))


def provenance_of(session: Session, path: str, message: str) -> Provenance:
    """Return who publishes what lies at ``path``, or comes through a pipe (``-``)."""
    from ratectl.publishing.provenance import gather

    if path == "-":  # what comes through a pipe is not what the repository holds
        return replace(gather(".", message), commit=None, dirty=None)
    return gather(path, message, warn=session.warn)


def title_of(proposal: Proposal, source: str) -> str:
    """``policies at 1a2b3c4d5e against generation 3``."""
    base, provenance = proposal.base, proposal.provenance
    if provenance.set:
        source = f"set {provenance.set} of {source}"
    if provenance.commit:
        dirty = ", with uncommitted changes" if provenance.dirty else ""
        source = f"{source} at {provenance.commit[:10]}{dirty}"
    against = f"generation {base.generation}" if base.head else "an empty store"
    return f"{source} against {against}"


def warn(session: Session, proposal: Proposal) -> None:
    """Print warnings about the policies."""
    if session.text and proposal.diagnostics and not session.options.quiet:
        from ratectl_cli.render.diagnostics import diagnostic_blocks

        session.complain(diagnostic_blocks(proposal.diagnostics, session.err))


def show_changes(session: Session, proposal: Proposal, title: str) -> None:
    """Print what publishing would change, as `plan` does; guards have their own say."""
    from ratectl_cli.render.plan import Planned, plan_blocks

    planned = Planned(replace(proposal, objections=()), title, has_changes=True)
    session.show(plan_blocks(planned, None, unfold=bool(session.options.verbose)))


def answer_published(
    session: Session, proposal: Proposal, entry: HistoryEntry, waited: Waited | None = None
) -> None:
    """Print the new generation."""
    previous = proposal.base.generation
    data = {
        **proposal_data(proposal),
        "published": True,
        "generation": entry.generation,
        "time": entry.time,
        "undo": f"ratectl rollback --to {previous}" if previous else None,
        "agents": agents_data(waited),
    }

    def blocks() -> Iterator[Block]:
        yield [bold(f"generation {entry.generation} is live", "green")]
        yield from agents_blocks(waited)
        if not session.options.quiet:
            if previous:
                yield [dim("undo:   "), f"ratectl rollback --to {previous}"]
            yield [dim("follow: "), "ratectl agents"]

    session.answer("Publication", data, blocks)


def answer_unchanged(
    session: Session, proposal: Proposal, what: str, waited: Waited | None = None
) -> None:
    """Print that nothing needed to be published."""
    live = proposal.base.generation
    text = f"nothing to do: generation {live}, which is live, {what}"
    session.show(set_blocks(proposal.merged))
    _answer_unpublished(session, proposal, text, waited)


def answer_dry(session: Session, proposal: Proposal) -> None:
    """Print that nothing was published, as was asked."""
    text = f"not published (--dry-run): it would be generation {proposal.base.next}"
    _answer_unpublished(session, proposal, text, None)


def _answer_unpublished(
    session: Session, proposal: Proposal, text: str, waited: Waited | None
) -> None:
    data = {
        **proposal_data(proposal),
        "published": False,
        "generation": proposal.base.generation or None,
        "time": None,
        "undo": None,
        "agents": agents_data(waited),
    }
    session.answer("Publication", data, lambda: [text, *agents_blocks(waited)])


def is_live(proposal: Proposal) -> bool:
    """Return True where publishing would change nothing at all.

    What is live and cannot be read is to be written anew.
    """
    from ratectl.policy.bundle import digest, encode_policies

    head = proposal.base.head
    if head is None or proposal.base.fresh or proposal.reowned or proposal.old is None:
        return False
    return head.bundle == digest(encode_policies(proposal.tree))


def declared(summary: Mapping[str, int]) -> str:
    """``4 scopes, 9 limits, 1 exception``."""
    always, others = ("scopes", "limits"), ("budgets", "overrides", "exceptions")
    named = [*always, *(name for name in others if summary.get(name))]
    return ", ".join(plural(summary[name], name[:-1]) for name in named)


def proposal_data(proposal: Proposal) -> dict[str, Any]:
    """A proposal for programs."""
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
        "objections": [
            {"guard": each.guard, "message": each.message, "flag": each.flag}
            for each in proposal.objections
        ],
        "passed": dict(provenance.passed),
        **set_data(provenance.set, proposal.merged),
    }
