"""``ratectl rollback``."""

from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from ratectl.errors import BundleError, NotFound, UsageError
from ratectl_cli.errors import NothingPublished, Refused
from ratectl_cli.framework.session import Session, session_of
from ratectl_cli.inputs.signing import Sign, signer_for, warn_of_fresh_start

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratectl.history.generations import Live
    from ratectl.records import HistoryEntry
    from ratectl.signing.signatures import Signer
    from ratectl.stores.base import Store
    from ratectl_cli.prompts.publication import Proposal


def rollback(
    ctx: typer.Context,
    to: Annotated[
        int | None,
        typer.Option(
            "--to",
            metavar="GEN",
            min=1,
            help="Generation to publish again.  [default: the one before the live one, unless that "
            "is a rollback]",
        ),
    ] = None,
    message: Annotated[
        str, typer.Option("-m", "--message", metavar="MSG", help="Why, for the history.")
    ] = "",
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")] = False,
    sign: Sign = None,
) -> int:
    """Publish an earlier generation again.

    History is never rewritten: the old content, and who owned it, becomes a new generation. Shows
    what requests would notice, and asks. No guard refuses it: it is the way out. After a rollback,
    another one says where to (--to): the generation before is the one that was rolled back.

    Examples:
      ratectl rollback
      ratectl rollback --to 411 -m "checkout refuses too much" --yes

    Exit codes:
      0    published, or live already
      1    declined
      64   wrong arguments, no such generation, or nobody to ask and no --yes
      69   store unreachable
      75   somebody else published meanwhile, or tries a candidate
      77   there is no generation to go back to, or it was not signed by the key that is named; or
           what is live was not, or the one before was a candidate, and no generation is named
    """
    from ratectl.history.generations import highest_generation, read_base
    from ratectl.publishing.head import publishing_base
    from ratectl.publishing.publish import no_rollout
    from ratectl.publishing.publish import rollback as publish_again
    from ratectl_cli.inputs.policies import entry_of
    from ratectl_cli.prompts import publication

    session = session_of(ctx)
    with session.store() as store:
        with session.busy("comparing with the live generation"):
            base = read_base(store)
            signer = signer_for(sign, base)
            base = publishing_base(store, signer, base)
            if base.head is None and base.unreadable is None and not highest_generation(store):
                raise NothingPublished(store.url)
            target = _target(store, base, to)
            entry = entry_of(store, target)
            _vouch(store, base, entry, signer, named=to is not None)
            proposal = _proposed(session, store, base, entry, message)
        proposal = publication.guarded(session, store, proposal)
        what = f"has the content of generation {target}"
        if publication.is_live(proposal):
            publication.answer_unchanged(session, proposal, what)
            return 0
        no_rollout(base)
        warn_of_fresh_start(session, base)
        _warn_of_aborted(session, store, target)
        _warn_of_owners(session, store, base, entry)
        against = f"generation {base.generation}, which is live" if base.head else "nothing"
        title = f"generation {target} against {against}"
        publication.show_changes(session, proposal, title)
        session.confirm(f"Publish generation {target} again, as generation {base.next}?", yes=yes)
        session.deadline.changing("ratectl history")
        again = publish_again(
            store, target, proposal.provenance, base=base, summary=proposal.summary, signer=signer
        )
        if again is None:
            publication.answer_unchanged(session, proposal, what)
        else:
            publication.answer_published(session, proposal, again)
    return 0


def _proposed(
    session: Session, store: "Store", base: "Live", entry: "HistoryEntry", message: str
) -> "Proposal":
    """The content of an earlier generation, beside what is live."""
    from dataclasses import replace

    from ratectl.history.generations import read_tree
    from ratectl.publishing.ownership import owners_blob
    from ratectl.publishing.provenance import gather
    from ratectl.publishing.publish import Provenance
    from ratectl_cli.inputs.policies import tree_to_compare
    from ratectl_cli.prompts.publication import propose

    tree, old = read_tree(store, entry), tree_to_compare(session, store, base)
    provenance = Provenance(author=gather(".").author, message=message)
    proposal = propose("rollback", base, old, tree, provenance)
    return replace(proposal, reowned=not base.fresh and entry.owners != owners_blob(store, base))


def _vouch(
    store: "Store", base: "Live", entry: "HistoryEntry", signer: "Signer | None", *, named: bool
) -> None:
    """Return if a key may sign that a generation is published again.

    :raises Untrusted: the key has not signed that generation.
    :raises Refused: which one is meant follows from what cannot be proved.
    """
    from ratectl.publishing.publish import vouch_for_entry

    if signer is not None:
        vouch_for_entry(store, signer, entry)
    if named:
        return
    _refuse_fresh(base)
    if signer is not None and not _right_before(base, entry):
        raise Refused(
            f"generation {entry.generation} is not known to have been live before generation "
            f"{base.generation}: nobody signs what became of a candidate, or that an entry of the "
            "history was removed. Say with --to which generation is meant"
        )


def _refuse_fresh(base: "Live") -> None:
    """:raises Refused: what is live cannot be proved, so nothing follows from it."""
    if base.fresh is not None:
        raise Refused(
            f"what is live cannot be vouched for: {base.fresh.because}. Say with --to which "
            "generation is meant"
        )


def _right_before(base: "Live", entry: "HistoryEntry") -> bool:
    """Return True where signed records prove that a generation was live before ``base``."""
    return entry.generation == base.generation - 1 and entry.action in ("apply", "rollback")


def _target(store: "Store", base: "Live", to: int | None) -> int:
    from ratectl.history.generations import lived

    if to is None and base.head is None:
        raise Refused("nothing is live that can be read: say with --to which generation is meant")
    if to is not None:
        if to == base.generation and base.fresh is None:
            raise UsageError(f"generation {to} is the live one: nothing to go back to")
        return to
    if base.entry is None:
        _refuse_fresh(base)
    before = [each for each in lived(store) if each.generation < base.generation]
    if not before:
        raise Refused(f"generation {base.generation} is live: none before it is kept")
    again = _rolled_back(store, base)
    if again is not None:
        older = [each.generation for each in before if each.generation < again]
        raise _which(base.generation, before[0].generation, again, older)
    return before[0].generation


def _rolled_back(store: "Store", base: "Live") -> int | None:
    """The generation that what is live is a rollback to; None where it is none."""
    from ratectl.history.generations import read_entry

    with suppress(NotFound):
        return read_entry(store, base.generation).rollback_of
    return None


def _which(live: int, left: int, again: int, older: "Sequence[int]") -> UsageError:
    """For a rollback after a rollback: one more step would bring back what was rolled back."""
    error = UsageError(
        f"generation {live}, which is live, is a rollback from generation {left} to {again}: say "
        "with --to which one is meant now"
    )
    further = f"--to {older[0]} goes back further" if older else f"none older than {again} is kept"
    error.add_note(f"--to {left} brings back what was rolled back; {further}")
    return error


def _warn_of_aborted(session: Session, store: "Store", target: int) -> None:
    from ratectl.history.generations import read_rollouts

    tried = read_rollouts(store, session.warn).get(target)
    if tried is not None and tried.state == "aborted":
        why = f": {tried.reason}" if tried.reason else ""
        session.warn(f"generation {target} was never live: {tried.by} aborted it{why}")


def _warn_of_owners(session: Session, store: "Store", base: "Live", entry: "HistoryEntry") -> None:
    """Warn where sets lose what they own, as the generation does not know them."""
    from ratectl.publishing.ownership import owners_blob, read_owners

    with suppress(NotFound, BundleError):
        known = read_owners(store, entry.owners).sets
        now = read_owners(store, owners_blob(store, base)).sets
        lost = [name for name in now if name not in known]
        if lost:
            one = len(lost) == 1
            who = f"{'set' if one else 'sets'} {', '.join(lost)}"
            loses = "loses what it owns" if one else "lose what they own"
            session.warn(
                f"{who} {loses}: generation {entry.generation} is from before "
                f"{'it' if one else 'them'}"
            )


__all__ = ["rollback"]
