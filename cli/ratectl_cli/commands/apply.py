"""``ratectl apply``."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from ratectl_cli.session import Session, session_of

if TYPE_CHECKING:
    from ratectl.policy.loader import Loaded
    from ratectl.publish import Provenance
    from ratectl.stores.base import Store
    from ratectl_cli.publication import Proposal


def apply(
    ctx: typer.Context,
    path: Annotated[
        str, typer.Argument(metavar="PATH", help="File or directory of policies, or - for stdin.")
    ],
    message: Annotated[
        str, typer.Option("-m", "--message", metavar="MSG", help="Why, for the history.")
    ] = "",
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")] = False,
) -> int:
    """Publish policies as the next generation.

    Validates PATH, shows what requests would notice against the live generation, asks, and
    publishes: all of it or nothing. PATH is the whole tree: what it does not hold is removed.
    Policies that are live already make no generation. A value above a cap is a warning where the
    live generation says the same: agents clip it, and the cap may be lowered at once.

    Examples:
      ratectl apply policies/
      ratectl apply policies/ -m "CHG-8841: tighter checkout" --yes
      RATECTL_STORE=etcd://etcd:2379/prod ratectl apply policies/ --yes -o json

    Exit codes:
      0    published, or live already
      1    declined
      64   wrong arguments, or nobody to ask and no --yes
      65   invalid policies
      69   store unreachable
      75   somebody else published meanwhile
      77   nothing to apply
    """
    from ratectl.generations import read_live
    from ratectl_cli import publication
    from ratectl_cli.policies import publishable, read_usable, tree_to_compare

    session = session_of(ctx)
    with session.busy("reading policies"):
        loaded = read_usable(path)
    provenance = _provenance(path, message)
    with session.store() as store:
        with session.busy("comparing with the live generation"):
            base = read_live(store)
            old = tree_to_compare(session, store, base)
            loaded = publishable(loaded, old)
            proposal = publication.propose(
                "apply", base, old, loaded.tree, provenance, loaded.diagnostics
            )
        _warn(session, loaded)
        if publication.is_live(proposal):
            publication.answer_unchanged(session, proposal, f"says the same as {path}")
            return 0
        publication.show_changes(session, proposal, _title(proposal, path))
        session.confirm(f"Publish as generation {base.generation + 1}?", yes=yes)
        return _publish(session, proposal, store, path)


def _warn(session: Session, loaded: "Loaded") -> None:
    if session.text and loaded.diagnostics and not session.options.quiet:
        from ratectl_cli.render.diagnostics import diagnostic_blocks

        session.complain(diagnostic_blocks(loaded.diagnostics, session.err))


def _publish(session: Session, proposal: "Proposal", store: "Store", path: str) -> int:
    from ratectl.publish import publish
    from ratectl_cli import publication

    with session.busy("publishing"):
        entry = publish(
            store,
            proposal.tree,
            proposal.provenance,
            base=proposal.base,
            summary=proposal.summary,
        )
    if entry is None:
        publication.answer_unchanged(session, proposal, f"says the same as {path}")
    else:
        publication.answer_published(session, proposal, entry)
    return 0


def _provenance(path: str, message: str) -> "Provenance":
    from ratectl.provenance import gather

    found = gather("." if path == "-" else path, message)
    # What comes through a pipe is not what the repository holds.
    return replace(found, commit=None, dirty=None) if path == "-" else found


def _title(proposal: "Proposal", path: str) -> str:
    base, provenance = proposal.base, proposal.provenance
    source = path
    if provenance.commit:
        dirty = ", with uncommitted changes" if provenance.dirty else ""
        source = f"{path} at {provenance.commit[:10]}{dirty}"
    against = f"generation {base.generation}" if base.head else "an empty store"
    return f"{source} against {against}"


__all__ = ["apply"]
