"""Propose a publication: compare policies with the live generation, and ask the guards.

Proposing and applying is the one way to publish::

    with open_store("etcd://127.0.0.1:2379/prod") as store:
        proposal = propose(store, "policies/", message="CHG-8841: tighter checkout")
        for change in proposal.changes:
            print(change)
        entry = proposal.apply({"removals": "CHG-8841: the old shop is closed"})
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from ratectl.changes import guards
from ratectl.changes.compare import compare, summarise
from ratectl.changes.peak_usage import uses
from ratectl.changes.refusal_estimate import refusals
from ratectl.cluster.entries import read_roster
from ratectl.environments.protection import place_of
from ratectl.errors import StoreError, UsageError
from ratectl.fleet.usage import read_usage, totals
from ratectl.history.generations import highest_generation
from ratectl.history.trees import tree_to_compare
from ratectl.kill_switch.switches import known_switches
from ratectl.policy.bundle import EncodedTree
from ratectl.policy.loading.files import STDIN
from ratectl.policy.validation.cluster_bursts import small_bursts
from ratectl.publishing.head import owners_to_respect, publishing_base
from ratectl.publishing.ownership import Owners
from ratectl.publishing.proposal import Proposal
from ratectl.publishing.provenance import gather
from ratectl.publishing.reading import PolicySource, read_source
from ratectl.publishing.saved_plan import SavedPlan, read_plan, still_live
from ratectl.publishing.sets import assemble
from ratectl.stores.registry import is_server

if TYPE_CHECKING:
    import os

    from ratectl.environments.protection import Place
    from ratectl.environments.target import Target
    from ratectl.history.generations import Live
    from ratectl.publishing.provenance import Provenance
    from ratectl.publishing.sets import SetChoice
    from ratectl.signing.signatures import Signer
    from ratectl.stores.base import Store

__all__ = ["draft", "guarded", "propose"]


def propose(
    store: Store,
    source: str | os.PathLike[str] | PolicySource | SavedPlan,
    *,
    message: str = "",
    author: str | None = None,
    choice: SetChoice | None = None,
    signer: Signer | None = None,
    allow_empty: bool = False,
    now_ns: int | None = None,
    target: Target | None = None,
) -> Proposal:
    """Compare policies with the live generation, ask the guards, and return the proposal.

    ``source``: a path of policies or of a saved plan, or what was read from one. ``message``: why,
    for the history. ``author``: default as in ``provenance.gather``. ``choice``: the policies are
    one set of the tree. ``signer``: signs what is published. ``allow_empty``: there may be no
    policy at all; the guard ``empty`` still objects. ``now_ns``: the time by which exceptions are
    in force (nanoseconds since 1970; default: now). ``target``: the environment that was chosen for
    this store, with its protection; the protection that the store itself has counts in any case.

    :raises PolicyError: the policies are invalid.
    :raises UsageError: a path, a name or the time is wrong, or a saved plan cannot be read.
    :raises Refused: there are no policies, ownership forbids it, or it is not the environment
        ``target``.
    :raises Conflict: a saved plan is stale.
    :raises BundleError, NotFound: what the store holds cannot be read, or is not there.
    :raises Untrusted: the key is for another environment.
    """
    if not isinstance(source, PolicySource | SavedPlan):
        plan = read_plan(source)
        source = plan or read_source(source, part=choice is not None, allow_empty=allow_empty)
    place = place_of(store, target)
    if isinstance(source, SavedPlan):
        if choice is not None:
            raise UsageError("a saved plan knows which set it is for: leave out --set")
        return _of_plan(store, place, source, message, author, signer, now_ns)
    return _of_policies(store, place, source, message, author, choice, signer, now_ns)


def _of_policies(
    store: Store,
    place: Place,
    source: PolicySource,
    message: str,
    author: str | None,
    choice: SetChoice | None,
    signer: Signer | None,
    now_ns: int | None,
) -> Proposal:
    warnings: list[str] = []
    provenance = _provenance(source.path, message, author, warnings)
    base = publishing_base(store, signer)
    if base.unreadable is not None:
        warnings.append(f"{base.unreadable}. The policies are compared with no generation")
    live = tree_to_compare(store, base, warnings.append)
    whole = assemble(store, base, None if live is None else live.tree, source, choice, signer)
    if whole.disowned is not None:
        warnings.append(f"{whole.disowned}. PATH is the whole tree, and no set owns a part of it")
    if choice is not None:
        provenance = replace(provenance, set=choice.name)
    tree = whole.loaded.tree
    encoded = EncodedTree.of(tree)
    proposal = draft(store, place, "apply", source.path, base, live, encoded, provenance, now_ns)
    return guarded(
        replace(
            proposal,
            published=whole.merged.published if whole.merged else tree,
            signer=signer,
            diagnostics=whole.loaded.diagnostics,
            warnings=warnings,
            beside=whole.beside(store, base),
            merged=whole.merged,
            reowned=whole.reowned,
        )
    )


def _of_plan(
    store: Store,
    place: Place,
    plan: SavedPlan,
    message: str,
    author: str | None,
    signer: Signer | None,
    now_ns: int | None,
) -> Proposal:
    """Return the proposal of a saved plan; its author is whoever applies it now."""
    warnings: list[str] = []
    new = plan.encoded()
    base = publishing_base(store, signer, still_live(store, plan, place))
    provenance = replace(
        plan.provenance,
        author=gather(".", by=author).author,
        message=message or plan.provenance.message,
    )
    live = tree_to_compare(store, base, warnings.append)
    merged = plan.merged(new.tree)
    before, disowned = owners_to_respect(store, base, signer)
    proposal = replace(
        draft(store, place, "apply", plan.source, base, live, new, provenance, now_ns),
        signer=signer,
        warnings=warnings,
        beside=plan.beside,
        merged=merged,
        reowned=disowned is not None or (plan.beside.owners or Owners()) != before,
    )
    if merged is not None and proposal.is_live:
        # Applied before: what was to be pruned is gone, and what was to be taken is its own.
        moved = merged.moved._replace(pruned=(), taken=())
        proposal = replace(proposal, merged=replace(merged, moved=moved))
    return guarded(proposal)


def _provenance(path: str, message: str, author: str | None, warnings: list[str]) -> Provenance:
    if path == STDIN:  # what comes through a pipe is not what the repository holds
        return replace(gather(".", message, by=author), commit=None, dirty=None)
    return gather(path, message, by=author, warn=warnings.append)


def draft(
    store: Store,
    place: Place,
    action: Literal["apply", "rollback"],
    source: str,
    base: Live,
    live: EncodedTree | None,
    new: EncodedTree,
    provenance: Provenance,
    now_ns: int | None = None,
) -> Proposal:
    """Return a proposal with the changes, before any guard was asked."""
    at = time.time_ns() if now_ns is None else now_ns
    changes = compare(None if live is None else live.tree, new.tree, at)
    return Proposal(
        store=store,
        place=place,
        action=action,
        source=source,
        base=base,
        live=live,
        new=new,
        published=new.tree,
        changes=changes,
        summary=summarise(new.tree, changes),
        provenance=provenance,
    )


def _small_bursts(proposal: Proposal) -> list[str]:
    """Return sentences about bursts that are too small for the processes that share limits.

    The findings about the policies name those that are too small for any number.
    """
    try:
        members = read_roster(proposal.store).sharing
    except StoreError:
        members = 0
    return [str(small) for small in small_bursts(proposal.tree, members) if not small.always]


def guarded(proposal: Proposal) -> Proposal:
    """Return a proposal with the usage that agents report, and the objections of guards."""
    store, changes = proposal.store, proposal.changes
    warnings = [*proposal.warnings]
    switches = known_switches(store, warnings.append).on
    try:
        records = read_usage(store, warnings.append)
    except StoreError as error:
        warnings.append(f"the usage of limits is unknown: {error}")
        records = []
    warnings += _small_bursts(proposal)
    found = uses(changes, totals(records).limits)
    return replace(
        proposal,
        warnings=warnings,
        switches=switches,
        reporting=len(records),
        uses=found,
        refusals=refusals(proposal.old, proposal.tree, changes, records),
        objections=[
            *_first(proposal),
            *guards.objections(proposal.live, proposal.new, changes, found),
        ],
    )


def _first(proposal: Proposal) -> list[guards.Objection]:
    """Return the objection to the first publication in an environment on a server."""
    base, store = proposal.base, proposal.store
    if base.head is not None or base.unreadable is not None or not is_server(store.url):
        return []
    if highest_generation(store):
        return []
    message = f"nothing was ever published in {proposal.place}, so it may be the wrong environment"
    return [guards.Objection(guards.FIRST, message)]
