"""A policy tree beside the live generation: what publishing it changes, and how to publish it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

from ratectl.changes import guards
from ratectl.changes.guards import Objection
from ratectl.errors import GuardRefused, UsageError
from ratectl.policy.language.model import PolicyTree
from ratectl.publishing import _publish
from ratectl.publishing.ownership import others_untouched, owners_blob, read_owners
from ratectl.publishing.saved_plan import SavedPlan, save_plan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ratectl.changes.compare import Change, Named
    from ratectl.changes.peak_usage import Use
    from ratectl.changes.refusal_estimate import Refusals
    from ratectl.diagnostics import Diagnostic
    from ratectl.environments.protection import Place
    from ratectl.history.generations import Live
    from ratectl.kill_switch.switches import Switch
    from ratectl.policy.bundle import EncodedTree
    from ratectl.publishing.ownership import Merged
    from ratectl.publishing.provenance import Provenance
    from ratectl.publishing.source_files import Beside
    from ratectl.records import HistoryEntry
    from ratectl.signing.signatures import Signer
    from ratectl.stores.base import Store

__all__ = ["Approval", "Proposal", "check_reasons"]

_NO_REASONS: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A tree that is about to be published, and the head that it was compared with."""

    store: Store
    """An open store: ``apply`` writes to it."""
    place: Place
    """Environment and URL of the store, and how it is protected."""
    action: Literal["apply", "rollback"]
    source: str
    """Origin of the policies, such as a path, for titles."""
    base: Live
    """The head that ``apply`` replaces. If another publisher is faster, ``apply`` fails."""
    live: EncodedTree | None
    """Policies that are live; None if there are none, or none that can be read."""
    new: EncodedTree
    """Policies that would be live."""
    published: PolicyTree
    """``new`` with the places in files that are kept with it."""
    changes: Sequence[Change]
    """Differences that requests notice."""
    summary: Mapping[str, int]
    """Count of each kind of document and change, for the history."""
    provenance: Provenance
    signer: Signer | None = None
    diagnostics: Sequence[Diagnostic] = ()
    """Warnings about the policies."""
    warnings: Sequence[str] = ()
    """Problems found in the store or repository that do not prevent publishing."""
    switches: Sequence[Switch] = ()
    """Kill switches that are on: below their scopes no policy is enforced."""
    reporting: int = 0
    """Number of agents that report usage."""
    uses: Mapping[Named, Use] = field(default_factory=dict)
    """Recent use of the fullest bucket of each limit that gets smaller, where it is known."""
    refusals: Mapping[Named, Refusals] = field(default_factory=dict)
    """Estimate of recent requests that the change would have refused, where it is known."""
    objections: Sequence[Objection] = ()
    """Objections of guards, save the two that depend on the key (see ``approve``)."""
    beside: Beside | None = None
    """Source files and owners to keep beside the bundle."""
    merged: Merged | None = None
    """Merge with the live tree, if a set is published."""
    reowned: bool = False
    """True if publishing changes who owns what."""
    again: HistoryEntry | None = None
    """For a rollback: the generation whose content is published again."""

    @property
    def tree(self) -> PolicyTree:
        """Policies that would be live."""
        return self.new.tree

    @property
    def to_publish(self) -> EncodedTree:
        """Bytes of ``new``, and the places in files that are kept with them."""
        return replace(self.new, tree=self.published)

    @property
    def old(self) -> PolicyTree | None:
        """Policies that are live; None if there are none, or none that can be read."""
        return None if self.live is None else self.live.tree

    @property
    def obstacle(self) -> str | None:
        """Reason why nothing can be published while a candidate is tried; None without one."""
        return _publish.being_tried(self.base)

    @property
    def is_live(self) -> bool:
        """True if publishing would change nothing: the same bytes are live, with the same owners.

        A live generation that cannot be read, or must not be continued, is written again.
        """
        head = self.base.head
        if head is None or self.base.fresh or self.reowned or self.live is None:
            return False
        return head.bundle == self.new.address

    def is_settled(self, reasons: Mapping[str, str] = _NO_REASONS) -> bool:
        """Return True if ``apply`` has nothing to write, not even to end the signing."""
        if not self.is_live:
            return False
        signed = self.base.head is not None and self.base.head.signature is not None
        return not (signed and _reason(reasons, guards.UNSIGNED))

    def save(self) -> SavedPlan:
        """Return a plan that can be applied later, while the same generation is live."""
        return save_plan(
            self.place,
            self.store.url,
            self.base,
            self.to_publish,
            self.provenance,
            self.source,
            self.beside,
            self.merged.moved if self.merged else None,
        )

    def approve(self, reasons: Mapping[str, str] = _NO_REASONS) -> Approval:
        """Return the right to publish, if there is a reason for each guard that objects.

        ``reasons``: reason by guard, such as ``{"removals": "CHG-8841"}`` (``changes.guards``).

        :raises GuardRefused: a guard objects, and no reason is given.
        :raises UsageError: there is no guard of a name, or reason and key contradict each other.
        :raises Refused: the environment needs a signature, and there is no key.
        :raises Conflict: a rollout is under way.
        """
        check_reasons(reasons, self.signer)
        self.place.require_signer(self.signer)
        if self.action == "rollback":  # a way out of trouble is not guarded
            _publish.no_rollout(self.base)
            return Approval(self)
        objections = [*self.objections, *self._about_the_key()]
        missing = list(guards.unanswered(objections, reasons))
        if missing:
            why = "; ".join(each.message for each in missing)
            raise GuardRefused(f"a guard refuses this: {why}", [each.guard for each in missing])
        _publish.no_rollout(self.base)
        passed = {each.guard: _reason(reasons, each.guard) for each in objections}
        provenance = replace(self.provenance, passed=passed)
        return Approval(replace(self, objections=objections, provenance=provenance))

    def apply(
        self, reasons: Mapping[str, str] = _NO_REASONS, *, confirmed: str | None = None
    ) -> HistoryEntry | None:
        """Publish the tree as the next generation; None if there is nothing to write.

        See ``approve`` for ``reasons``, and ``Approval.confirmed``.

        :raises GuardRefused, Refused, UsageError: see ``approve``.
        :raises Unconfirmed: the environment needs its name as confirmation.
        :raises Conflict: somebody published since the proposal was made, or a rollout is under way.
        :raises OutcomeUnknown: the reply was lost. Applying a new proposal is safe.
        """
        check_reasons(reasons, self.signer)
        if self.is_settled(reasons):
            return None
        return replace(self.approve(reasons), confirmed=confirmed).publish()

    def _about_the_key(self) -> list[Objection]:
        """Return the objection to signing the tree, or to leaving it unsigned, if there is one."""
        if self.signer is not None:
            why = self._unverified()
            what = "the parts of other sets would be signed as well, and cannot be verified"
            hint = "look at it first: `ratectl show`"
            return [Objection(guards.UNVERIFIED, f"{what}: {why} ({hint})")] if why else []
        if self.base.head is None or self.base.head.signature is None:
            return []
        message = (
            "the live generation is signed, and agents with public keys would refuse this "
            "(--sign KEY signs it)"
        )
        return [Objection(guards.UNSIGNED, message)]

    def _unverified(self) -> str | None:
        """Return why the signer cannot vouch for what other sets own; None if it can.

        Publishing a set signs everything of other sets as well, and who owns it.
        """
        if self.merged is None or self.base.head is None:
            return None
        if self.base.fresh is not None:
            return self.base.fresh.because
        owners = read_owners(self.store, owners_blob(self.store, self.base))
        if others_untouched(self.merged, self.old or PolicyTree({}), owners):
            return None
        return "they differ between the plan and the live generation"


@dataclass(frozen=True, slots=True)
class Approval:
    """A proposal that no guard holds back. ``Proposal.approve`` makes it, and nothing else."""

    proposal: Proposal
    confirmed: str | None = None
    """Name of the environment, from whoever confirmed the change."""

    def require_confirmed(self) -> None:
        """Return if the change was confirmed, or needs no confirmation.

        :raises Unconfirmed: the environment needs its name as confirmation.
        """
        self.proposal.place.require_confirmed(self.confirmed)

    def publish(self) -> HistoryEntry | None:
        """Publish as ``Proposal.apply`` does; raises as it does."""
        self.require_confirmed()
        of = self.proposal
        if of.again is not None:
            return _publish.rollback(
                of.store,
                of.again.generation,
                of.provenance,
                base=of.base,
                summary=of.summary,
                signer=of.signer,
            )
        return _publish.publish(
            of.store,
            of.to_publish,
            of.provenance,
            base=of.base,
            summary=of.summary,
            signer=of.signer,
            beside=of.beside,
            rewrite=of.is_live,
        )


def check_reasons(reasons: Mapping[str, str], signer: Signer | None) -> None:
    """Return if the reasons are texts and name guards, and do not contradict the key.

    :raises UsageError: they do not, or do.
    """
    wrong = [name for name, reason in reasons.items() if not isinstance(reason, str)]
    if wrong:
        raise UsageError(f"the reason for {wrong[0]!r} is a text, like 'CHG-8841'")
    unknown = [name for name in reasons if name not in guards.GUARDS]
    if unknown:
        raise UsageError(f"there is no guard {unknown[0]!r}: guards are {', '.join(guards.GUARDS)}")
    if signer is not None and _reason(reasons, guards.UNSIGNED):
        raise UsageError("--sign signs, and --allow-unsigned ends that: give one of them")


def _reason(reasons: Mapping[str, str], guard: str) -> str:
    return reasons.get(guard, "").strip()
