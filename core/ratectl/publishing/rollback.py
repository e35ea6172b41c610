"""Propose to publish an earlier generation again."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from ratectl.environments.protection import place_of
from ratectl.errors import BundleError, NotFound, NothingPublished, Refused, UsageError
from ratectl.history.generations import (
    highest_generation,
    lived,
    read_base,
    read_encoded,
    read_entry,
    read_rollouts,
)
from ratectl.history.trees import find_entry, tree_to_compare
from ratectl.publishing._publish import vouch_for_entry
from ratectl.publishing.head import publishing_base
from ratectl.publishing.ownership import owners_blob, read_owners
from ratectl.publishing.propose import draft, guarded
from ratectl.publishing.provenance import Provenance, gather
from ratectl.signing.continuation import require_signer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ratectl.environments.target import Target
    from ratectl.history.generations import Live
    from ratectl.publishing.proposal import Proposal
    from ratectl.records import HistoryEntry
    from ratectl.signing.signatures import Signer
    from ratectl.stores.base import Store

__all__ = ["propose_rollback"]


def propose_rollback(
    store: Store,
    to: int | None = None,
    *,
    message: str = "",
    author: str | None = None,
    signer: Signer | None = None,
    now_ns: int | None = None,
    target: Target | None = None,
) -> Proposal:
    """Return the proposal to publish generation ``to`` again, as a new generation.

    ``to``: default the generation before the live one, unless that one is a rollback itself. The
    objections of guards are for information: a rollback needs no reasons. The other parameters
    are those of ``propose``.

    :raises UsageError: there is no such generation, or it has to be named.
    :raises Refused: there is no generation to go back to, or it does not follow from signed records
        which one is meant, or what is live is signed and there is no ``signer``.
    :raises NothingPublished: the store holds no generation.
    :raises Untrusted: the key has not signed generation ``to``.
    """
    base = read_base(store)
    require_signer(store, base.head, signer)
    base = publishing_base(store, signer, base)
    if base.head is None and base.unreadable is None and not highest_generation(store):
        raise NothingPublished(store.url)
    number = _target(store, base, to)
    entry = find_entry(store, number)
    _vouch(store, base, entry, signer, named=to is not None)
    warnings: list[str] = []
    provenance = Provenance(author=gather(".", by=author).author, message=message)
    proposal = draft(
        store,
        place_of(store, target),
        "rollback",
        f"generation {number}",
        base,
        tree_to_compare(store, base, warnings.append),
        read_encoded(store, entry.bundle, entry.origins),
        provenance,
        now_ns,
    )
    proposal = replace(
        proposal,
        signer=signer,
        again=entry,
        reowned=not base.fresh and entry.owners != owners_blob(store, base),
    )
    if not proposal.is_live:
        _warn_of_aborted(store, number, warnings.append)
        _warn_of_owners(store, base, entry, warnings.append)
    return guarded(replace(proposal, warnings=warnings))


def _target(store: Store, base: Live, to: int | None) -> int:
    if to is None and base.head is None:
        raise Refused("no readable generation is live: name the one to publish with --to GEN")
    if to is not None:
        if to == base.generation and base.fresh is None:
            raise UsageError(f"generation {to} is the live one: nothing to go back to")
        return to
    if base.entry is None:
        _refuse_fresh(base)
    before = [each for each in lived(store) if each.generation < base.generation]
    if not before:
        raise Refused(f"generation {base.generation} is live, and the store keeps no earlier one")
    again = _rolled_back(store, base)
    if again is not None:
        older = [each.generation for each in before if each.generation < again]
        raise _ambiguous(base.generation, before[0].generation, again, older)
    return before[0].generation


def _rolled_back(store: Store, base: Live) -> int | None:
    """Return the generation that the live one is a rollback to; None if it is no rollback."""
    with suppress(NotFound):
        return read_entry(store, base.generation).rollback_of
    return None


def _ambiguous(live: int, left: int, again: int, older: Sequence[int]) -> UsageError:
    """Return the error for a second rollback, which would bring back what was rolled back."""
    error = UsageError(
        f"generation {live}, which is live, is a rollback from generation {left} to {again}: "
        "name the one to publish now with --to GEN"
    )
    further = f"--to {older[0]} goes back further" if older else f"none older than {again} is kept"
    error.add_note(f"--to {left} brings back what was rolled back; {further}")
    return error


def _vouch(
    store: Store, base: Live, entry: HistoryEntry, signer: Signer | None, *, named: bool
) -> None:
    """Return if a key may sign that a generation is published again.

    :raises Untrusted: the key has not signed that generation.
    :raises Refused: the generation was not named, and does not follow from signed records.
    """
    if signer is not None:
        vouch_for_entry(store, signer, entry)
    if named:
        return
    _refuse_fresh(base)
    if signer is not None and not _right_before(base, entry):
        raise Refused(
            f"no signature proves that generation {entry.generation} was live before generation "
            f"{base.generation}: it may be an aborted candidate, or an entry of the history may "
            "have been removed. Name the generation to publish with --to GEN"
        )


def _refuse_fresh(base: Live) -> None:
    """:raises Refused: what is live cannot be proved, so nothing follows from it."""
    if base.fresh is not None:
        raise Refused(
            f"the live generation cannot be verified: {base.fresh.because}. Name the generation "
            "to publish with --to GEN"
        )


def _right_before(base: Live, entry: HistoryEntry) -> bool:
    """Return True where signed records prove that a generation was live before ``base``."""
    return entry.generation == base.generation - 1 and entry.action in ("apply", "rollback")


def _warn_of_aborted(store: Store, target: int, warn: Callable[[str], None]) -> None:
    tried = read_rollouts(store, warn).get(target)
    if tried is not None and tried.state == "aborted":
        why = f": {tried.reason}" if tried.reason else ""
        warn(f"generation {target} was never live: {tried.by} aborted it{why}")


def _warn_of_owners(
    store: Store, base: Live, entry: HistoryEntry, warn: Callable[[str], None]
) -> None:
    """Warn of sets that lose what they own, because the generation is from before them."""
    with suppress(NotFound, BundleError):
        known = read_owners(store, entry.owners).sets
        now = read_owners(store, owners_blob(store, base)).sets
        lost = [name for name in now if name not in known]
        if lost:
            one = len(lost) == 1
            who = f"{'set' if one else 'sets'} {', '.join(lost)}"
            loses = "loses what it owns" if one else "lose what they own"
            warn(
                f"{who} {loses}: {'it owns' if one else 'they own'} nothing in generation "
                f"{entry.generation}"
            )
