"""``ratectl rollback``."""

from typing import TYPE_CHECKING, Annotated

import typer

from ratectl.errors import UsageError
from ratectl_cli.errors import NothingPublished, Refused
from ratectl_cli.session import session_of
from ratectl_cli.signing import Sign, signer_for

if TYPE_CHECKING:
    from ratectl.generations import Live
    from ratectl.publish import Provenance
    from ratectl.stores.base import Store


def rollback(
    ctx: typer.Context,
    to: Annotated[
        int | None,
        typer.Option(
            "--to",
            metavar="GEN",
            min=1,
            help="Generation to publish again.  [default: the one before the live one]",
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
    what requests would notice, and asks. No guard refuses it: it is the way out.

    Examples:
      ratectl rollback
      ratectl rollback --to 411 -m "checkout refuses too much" --yes

    Exit codes:
      0    published, or live already
      1    declined
      64   wrong arguments, no such generation, or nobody to ask and no --yes
      69   store unreachable
      75   somebody else published meanwhile, or tries a candidate
      77   there is no generation to go back to, or it was not signed by the key that is named
    """
    from dataclasses import replace

    from ratectl.generations import read_live, read_tree
    from ratectl.provenance import gather
    from ratectl.publish import rollback as publish_again
    from ratectl.sets import owners_blob
    from ratectl_cli import publication
    from ratectl_cli.policies import entry_of, tree_to_compare

    session = session_of(ctx)
    with session.store() as store:
        with session.busy("comparing with the live generation"):
            base = read_live(store)
            if base.head is None:
                raise NothingPublished(store.url)
            target = _target(store, base, to)
            signer = signer_for(sign, base)
            entry = entry_of(store, target)
            tree = read_tree(store, entry)
            old = tree_to_compare(session, store, base)
            reowned = entry.owners != owners_blob(store, base)
        author = gather(".").author
        provenance = _who(author, message)
        proposal = publication.propose("rollback", base, old, tree, provenance)
        proposal = replace(proposal, reowned=reowned)
        proposal = publication.guarded(session, store, proposal)
        what = f"has the content of generation {target}"
        if publication.is_live(proposal):
            publication.answer_unchanged(session, proposal, what)
            return 0
        title = f"generation {target} against generation {base.generation}, which is live"
        publication.show_changes(session, proposal, title)
        session.confirm(f"Publish generation {target} again, as generation {base.next}?", yes=yes)
        session.deadline.changing("ratectl history")
        again = publish_again(
            store, target, provenance, base=base, summary=proposal.summary, signer=signer
        )
        if again is None:
            publication.answer_unchanged(session, proposal, what)
        else:
            publication.answer_published(session, proposal, again)
    return 0


def _target(store: "Store", base: "Live", to: int | None) -> int:
    from ratectl.generations import lived

    if to is not None:
        if to == base.generation:
            raise UsageError(f"generation {to} is the live one: nothing to go back to")
        return to
    before = [each.generation for each in lived(store) if each.generation < base.generation]
    if not before:
        raise Refused(f"generation {base.generation} is live: none before it is kept")
    return before[0]


def _who(author: str, message: str) -> "Provenance":
    from ratectl.publish import Provenance

    return Provenance(author, message)


__all__ = ["rollback"]
