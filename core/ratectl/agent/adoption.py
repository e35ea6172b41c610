"""Adoption of generations: decide what a head asks of this agent, and put it in force.

The steps from a head to plans: check trust, membership in a rollout and quarantine; fetch, verify,
swap, persist. A failure at any step rejects the whole generation; the one in force stays.
"""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from ratectl.agent.acceptance import Acceptance
from ratectl.agent.goal import NOTHING_IN_FORCE, Goal, controlled, goals, nothing_live
from ratectl.agent.last_good import LastGood
from ratectl.agent.log import log
from ratectl.agent.quarantine import Quarantine
from ratectl.compiler.activation import verified
from ratectl.errors import BundleError, NotFound
from ratectl.history.generations import Live, read_blob
from ratectl.records import CONTROLLER, HEAD, utc_now
from ratectl.runtime.cooperative import Pacer, cooperative, release
from ratectl.signing.continuation import read_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from ratectl.agent.enforcement import Enforcement
    from ratectl.agent.kept_counters import KeptCounters
    from ratectl.agent.last_good import Slot
    from ratectl.agent.shadow import ShadowEvaluator
    from ratectl.agent.state import AgentState
    from ratectl.errors import RatectlError
    from ratectl.policy.language.model import PolicyTree
    from ratectl.records import Candidate, Head
    from ratectl.signing.continuation import Signable
    from ratectl.signing.signatures import Trust
    from ratectl.stores.base import Item, Store

__all__ = ["Adoption"]


class Adoption:
    """Keeps an engine on the generation that the head asks for. Two threads may call ``see``."""

    def __init__(
        self,
        enforcement: Enforcement,
        state: AgentState,
        slot: Slot,
        trust: Trust | None,
        sleep: Callable[[float], object],
        shadow: ShadowEvaluator,
        kept: KeptCounters | None = None,
        parent: Adoption | None = None,
    ) -> None:
        """``parent``: adoption of the process that forked this one, whose engine goes on here.

        ``kept``: buckets of the process before; None if they are not kept.

        ``sleep`` pauses long work (seconds) so that other threads run; it may end early.
        """
        self._enforcement = enforcement
        self._shadow = shadow
        self._state = state
        self._slot = slot
        self._kept = kept
        accepted = parent._acceptance.newest if parent else None  # noqa: SLF001
        self._acceptance: Acceptance = Acceptance(trust, slot, state, accepted)
        self._sleep = sleep
        self._applying = threading.Lock()
        self._quarantine = Quarantine(slot.folder)
        self._in_force: Goal | None = None
        self._refused: tuple[Goal, str] | None = None
        """A generation whose bytes cannot be read at any attempt, and why."""
        self._skipped: str | None = None
        """Why a generation on disk was not tried; None after a head of the store was handled."""
        self._environment: str | None = None
        self._controlled: str | None = None
        """The rollout that has a controller now."""
        self._head: Item | None = None
        """The head's item, as last read."""
        self._newest: dict[str, int] = {}
        """The newest revision read of each key."""
        if parent is not None:
            # The engine enforces the parent's generation already: do not fetch and apply it again.
            self._in_force = parent._in_force  # noqa: SLF001
            parent._quarantine.leave_to_parent()  # noqa: SLF001

    # From disk ----------------------------------------------------------------------------------

    def start(self) -> None:
        """Enforce last-good, if there is one; or, in a forked child, go on with the parent's."""
        inherited = self._in_force
        if inherited is None:
            self._start_from_disk()
        elif inherited.rollout is None:
            self._go_on_in_child(inherited)
        self._report_quarantine()

    def _go_on_in_child(self, goal: Goal) -> None:
        """Put the parent's generation on probation here too, unless workers have died of it.

        A candidate is on trial in the parent only: workers may end early for other reasons.
        """
        if self._quarantine.refusal(goal.trial) is not None:
            self._start_from_disk()
        if self._in_force is goal:
            with self._quarantine.trying(goal.trial):
                pass  # the engine enforces it already

    def _start_from_disk(self) -> None:
        try:
            good = self._slot.load(self._usable)
            if good is None and self._in_force is None:
                good = self._slot.load(self._usable_as_last_resort)
            if good is None:
                return
            goal = Goal.of(good)
            with self._quarantine.trying(goal.trial):
                tree = verified(good.data, good.bundle)
                if self._kept is None:
                    self._enforcement.enforce(tree, good.generation, good.environment)
                else:
                    self._kept.enforce(good, tree, self._counted)
        except BundleError as error:
            self._state.problem("disk", str(error))
            return
        self._in_force = goal
        if self._skipped is not None:  # a neighbour may replace it, and the next may be bad too
            self._persisting(good.generation, partial(self._save, good))
        if self._slot.trouble is not None:
            going_on = f"going on with generation {good.generation}"
            self._state.problem("disk", f"{self._slot.trouble}; {going_on}")
        self._state.update(
            generation=good.generation,
            sequence=self._acceptance.newest_sequence(good),
            rollout=good.rollout,
            source="last-good",
            applied=utc_now(),
        )

    def _counted(self, bundle: str) -> tuple[LastGood, PolicyTree]:
        """Return the generation on disk that buckets were counted for.

        :raises BundleError: it is not there, or must not be enforced.
        """
        good = self._slot.load(lambda good: good.bundle == bundle and self._usable(good))
        if good is None:
            raise BundleError("the generation that it counted for is no longer on disk")
        return good, verified(good.data, good.bundle)

    @property
    def in_force(self) -> Goal | None:
        """The generation in force; None before any."""
        return self._in_force

    def _usable(self, good: LastGood) -> bool:
        suspicion = self._quarantine.refusal(Goal.of(good).trial)
        self._skipped = self._skipped or suspicion
        if suspicion is None:
            self._acceptance.check_last_good(good)
        return suspicion is None

    def _usable_as_last_resort(self, good: LastGood) -> bool:
        served = self._quarantine.has_served(good.bundle)
        if served:
            self._acceptance.check_last_good(good)
        return served

    # From the store -----------------------------------------------------------------------------

    def forget_store(self) -> None:
        """Forget the store's identity and revisions: after a reconnect it may be another store."""
        self._environment = None
        self._newest.clear()

    def see(self, store: Store, items: Mapping[str, Item | None]) -> None:
        """React to the head and the controller key as read from the store; None for a deleted key.

        A key that is not in ``items`` is unchanged.

        :raises StoreError: the bundle that the head names could not be fetched.
        """
        with self._applying:
            before = self._controlled
            if CONTROLLER in items and self._is_current(items[CONTROLLER]):
                self._controlled = controlled(items[CONTROLLER])
            if HEAD in items and self._is_current(items[HEAD]):
                self._head = items[HEAD]
            elif self._head is None or self._controlled == before:
                return
            # A new controller may let this agent join. The remembered head is used, since all
            # agents would read the store at the same moment.
            self._see(store, self._head)

    def _is_current(self, item: Item | None) -> bool:
        """Return False for a stale read (its revision is older than one already seen)."""
        if item is None:
            return True
        if item.mod_revision < self._newest.get(item.key, 0):
            return False
        self._newest[item.key] = item.mod_revision
        return True

    def _see(self, store: Store, item: Item | None) -> None:
        if item is None:
            # A missing head changes nothing: only a published generation replaces another.
            self._state.problem("generation", nothing_live(store, self._state.now.generation))
            return
        seen = time.monotonic()
        head: Head | None = None
        try:
            head = Live.of(item).head
            assert head is not None
            environment = self._environment_of(store)
            self._acceptance.accept(head, environment)
        except BundleError as error:
            self._reject(head.generation if head else 0, error)
            return
        self._pursue(store, head, environment, seen)

    def verify(self, store: Store | None, record: Signable) -> None:
        """Return if kill switches or a reset may be obeyed. ``store``: origin; None for the disk.

        :raises Untrusted: this agent has public keys, and none of them signed the record.
        """
        if self._acceptance.signed:
            origin = None if store is None else self._environment_of(store)
            self._acceptance.verify(record, origin, from_disk=store is None)

    def _pursue(self, store: Store, head: Head, environment: str | None, seen: float) -> None:
        """Enforce the first usable generation of those that the head asks for."""
        refusal: tuple[int, RatectlError] | None = None
        controlled_now = self._controlled
        for goal in goals(head, environment, self._slot.id, self._in_force, controlled_now):
            try:
                self._adopt(store, head, goal, seen)
                break
            except (BundleError, NotFound) as error:
                refusal = refusal or (goal.generation, error)
        try:
            self._evaluate(store, head.candidate)
        except (BundleError, NotFound) as error:
            assert head.candidate is not None
            refusal = refusal or (head.candidate.generation, error)
        self._skipped = None
        self._report_quarantine()
        if refusal is None:
            self._state.problem("generation", None, sequence=head.sequence, rejected=None)
        else:
            self._reject(*refusal, sequence=head.sequence)

    def _adopt(self, store: Store, head: Head, goal: Goal, seen: float) -> None:
        if self._in_force is not None and goal.content == self._in_force.content:
            promoted = self._in_force.rollout is not None and goal.rollout is None
            self._in_force = goal
            self._state.update(rollout=goal.rollout, source="store")
            if promoted:
                self._quarantine.promoted()
                self._persisting(goal.generation, partial(self._promoted, store, goal, head))
            return
        self._check(goal)
        data = read_blob(store, goal.bundle)
        with self._quarantine.trying(goal.trial):
            spent = self._enforce(goal, data)
        self._in_force = goal
        self._state.problem(
            "generation",
            None,
            generation=goal.generation,
            sequence=head.sequence,
            rollout=goal.rollout,
            source="store",
            rejected=None,
            applied=utc_now(),
            swap_ms=round((time.monotonic() - seen) * 1e3, 3),
        )
        log.info("generation %d is in force", goal.generation)
        good = LastGood(goal.generation, goal.environment, goal.bundle, head, data)
        self._persisting(goal.generation, partial(self._save, good))
        with self._cooperative():
            release(*spent)

    def _evaluate(self, store: Store, candidate: Candidate | None) -> None:
        """Evaluate a candidate in shadow, if there is one."""
        wanted = candidate if candidate is not None and candidate.mode == "shadow" else None
        if wanted is None or self._shadow.rollout != wanted.rollout:
            self._shadow.end()
            self._quarantine.end(shadow=True)
        if wanted is None or self._shadow.rollout is not None:
            return
        goal = Goal(self._environment, wanted.generation, wanted.bundle, wanted.rollout)
        self._check(goal)
        if self._shadow.failed is not None and self._shadow.failed[0] == wanted.rollout:
            raise BundleError(self._shadow.failed[1])
        data = read_blob(store, wanted.bundle)
        with self._quarantine.trying(goal.trial, shadow=True), self._cooperative():
            self._shadow.begin(wanted, self._verified(goal, data))

    def _enforce(self, goal: Goal, data: bytes) -> list[list[Any]]:
        """Put a goal's policies in force; return the objects to release (see ``cooperative``)."""
        with self._cooperative():
            tree = self._verified(goal, data)
            spent: list[list[Any]] = self._enforcement.enforce(
                tree, goal.generation, goal.environment
            )
            spent.append(list(tree.policies.values()))
            del tree
        return spent

    def _check(self, goal: Goal) -> None:
        """:raises BundleError: it must not be tried: it failed before, or is in quarantine."""
        if self._refused is not None and goal == self._refused[0]:
            raise BundleError(self._refused[1])
        suspicion = self._quarantine.refusal(goal.trial)
        if suspicion is not None and not self._is_last_resort(goal):
            raise BundleError(suspicion)

    def _is_last_resort(self, goal: Goal) -> bool:
        """Return True for a live generation that has served before, while nothing is in force."""
        served = goal.rollout is None and self._quarantine.has_served(goal.bundle)
        return served and self._in_force is None

    def _report_quarantine(self) -> None:
        """Report in the status a generation that is skipped, or enforced in spite of quarantine."""
        text, goal = self._skipped, self._in_force
        suspicion = None if goal is None else self._quarantine.refusal(goal.trial)
        if goal is not None and suspicion is not None:
            text = (
                f"generation {goal.generation} is enforced because no other is usable: {suspicion}"
            )
        self._state.problem("quarantine", text)

    def _verified(self, goal: Goal, data: bytes) -> PolicyTree:
        try:
            return verified(data, goal.bundle)
        except BundleError as error:
            self._refused = goal, str(error)
            raise

    def _cooperative(self) -> AbstractContextManager[None]:
        """Return a context in which long work pauses for requests, except while closing."""
        return cooperative(Pacer(sleep=self._sleep))

    def _environment_of(self, store: Store) -> str | None:
        # With keys it is read each time: a writer that changes the head can change it as well.
        if self._environment is None or self._acceptance.signed:
            environment = read_environment(store)
            self._environment = environment.id if environment else None
        return self._environment

    def _promoted(self, store: Store, goal: Goal, head: Head) -> None:
        if not self._slot.promoted(head):
            data = read_blob(store, goal.bundle)
            self._save(LastGood(goal.generation, goal.environment, goal.bundle, head, data))

    def _save(self, good: LastGood) -> None:
        self._slot.save(good, self._quarantine.has_served)

    def _persisting(self, generation: int, persist: Callable[[], None]) -> None:
        try:
            persist()
        except OSError as error:
            self._state.problem("disk", f"cannot persist generation {generation}: {error}")
        else:
            self._state.problem("disk", self._slot.problem)

    # Life ---------------------------------------------------------------------------------------

    def end_probation_if_due(self) -> None:
        """End the probation of the generation in force if the process has lived long enough."""
        if self._quarantine.end_probation_if_due():
            self._report_quarantine()

    def close(self) -> None:
        """Stop evaluating, and note that the process ended normally."""
        self._shadow.end()
        self._quarantine.close()

    def _reject(self, generation: int, error: RatectlError, **changes: Any) -> None:
        consequence = "" if self._state.now.generation else f"; {NOTHING_IN_FORCE}"
        text = f"generation {generation or '?'} rejected: {error}{consequence}"
        self._state.problem("generation", text, rejected=generation, **changes)
