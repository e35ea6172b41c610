"""What an agent is to enforce, by what the store says; and putting that in force.

From a head to plans: trust, membership in a rollout, quarantine, fetching, verifying, swapping,
persisting. Whatever fails on the way rejects that generation whole; the one in force stays.
"""

from __future__ import annotations

import contextlib
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from ratectl.agent.goal import NOTHING_IN_FORCE, Goal, controlled, goals, nothing_live
from ratectl.agent.last_good import LastGood
from ratectl.agent.log import log
from ratectl.agent.quarantine import Quarantine
from ratectl.compiler.activation import verified
from ratectl.errors import BundleError, NotFound
from ratectl.history.generations import Live, read_blob, read_environment
from ratectl.records import CONTROLLER, HEAD, utc_now
from ratectl.runtime.cooperative import Pacer, cooperative, release

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from ratectl.agent.enforcement import Enforcement
    from ratectl.agent.last_good import Slot
    from ratectl.agent.shadow import Beside
    from ratectl.agent.state import AgentState
    from ratectl.errors import RatectlError
    from ratectl.kill_switch.switches import Switches
    from ratectl.policy.language.model import PolicyTree
    from ratectl.records import Candidate, Head
    from ratectl.signing.signatures import Trust
    from ratectl.stores.base import Item, Store

__all__ = ["Adoption"]


class Adoption:
    """Keeps an engine on what the head wants of this agent. Used by one thread at a time or two."""

    def __init__(
        self,
        enforcement: Enforcement,
        state: AgentState,
        slot: Slot,
        trust: Trust | None,
        rest: Callable[[float], object],
        beside: Beside,
        before: Adoption | None = None,
    ) -> None:
        """``before``: of the process that forked this one, with what its engine enforces."""
        self._enforcement = enforcement
        self._beside = beside
        self._state = state
        self._slot = slot
        self._trust = trust
        self._rest = rest
        self._applying = threading.Lock()
        self._quarantine = Quarantine(slot.folder)
        self._in_force: Goal | None = None
        self._refused: tuple[Goal, str] | None = None
        """What cannot be read, however often it is looked at, and why."""
        self._left_alone: str | None = None
        """Why a generation on disk was not tried; None once the store has been heard."""
        self._environment: str | None = None
        self._controlled: str | None = None
        """The rollout that somebody controls now."""
        self._head: Item | None = None
        """As it was last seen."""
        self._newest: dict[str, int] = {}
        """The revision of each key as it was last seen."""
        self._accepted: tuple[str, Head] | None = None
        """The newest head that was obeyed, and its environment."""
        if before is not None:
            # What the parent enforces is no news here: it is not fetched and applied again.
            self._in_force, self._accepted = before._in_force, before._accepted  # noqa: SLF001
            before._quarantine.leave_to_parent()  # noqa: SLF001
        if trust is not None:
            self._remember(trust)

    def _remember(self, trust: Trust) -> None:
        """Recall what was accepted on this machine before, as far as it is proved."""
        for environment, head in self._slot.accepted():
            known, newest = self._accepted or (None, None)
            with contextlib.suppress(BundleError):
                trust.verify(head, environment, known, newest)
                self._accepted = environment, head

    # From disk ----------------------------------------------------------------------------------

    def start(self) -> None:
        """Enforce last-good, if there is one; or, in a forked child, go on with the parent's.

        The state tells of what cannot be used.
        """
        inherited = self._in_force
        if inherited is None:
            self._start_from_disk()
        elif inherited.rollout is None:
            self._go_on_in_child(inherited)
        self._say_quarantine()

    def _go_on_in_child(self, goal: Goal) -> None:
        """Put what the parent enforces on probation here too, unless workers have died of it.

        A candidate is on trial in the parent alone: that a worker ends soon says nothing of it.
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
                self._enforcement.enforce(verified(good.data, good.bundle), good.generation)
        except BundleError as error:
            self._state.problem("disk", str(error))
            return
        self._in_force = goal
        if self._left_alone is not None:  # a neighbour may replace it, and the next may be bad too
            self._persisting(good.generation, partial(self._save, good))
        if self._slot.trouble is not None:
            going_on = f"going on with generation {good.generation}"
            self._state.problem("disk", f"{self._slot.trouble}; {going_on}")
        self._state.update(
            generation=good.generation,
            sequence=self._newest_sequence(good),
            rollout=good.rollout,
            source="last-good",
            applied=utc_now(),
        )

    def _newest_sequence(self, good: LastGood) -> int:
        """Return the sequence of the newest head that was accepted, as far as the disk tells."""
        if self._trust is None or good.environment is None:
            return good.head.sequence
        if self._accepted is None or self._accepted[1].sequence < good.head.sequence:
            self._accepted = good.environment, good.head
        return self._accepted[1].sequence

    def _usable(self, good: LastGood) -> bool:
        suspicion = self._quarantine.refusal(Goal.of(good).trial)
        self._left_alone = self._left_alone or suspicion
        return suspicion is None and self._trusted(good)

    def _usable_as_last_resort(self, good: LastGood) -> bool:
        return self._quarantine.has_served(good.bundle) and self._trusted(good)

    def _trusted(self, good: LastGood) -> bool:
        """:raises BundleError: it is not."""
        if self._trust is not None:
            known = self._accepted[0] if self._accepted else good.environment
            try:
                # It was the newest once: what has come since may have been refused.
                self._trust.verify(good.head, good.environment, known, None)
            except BundleError as error:
                raise BundleError(f"last-good generation {good.generation}: {error}") from None
        return True

    # From the store -----------------------------------------------------------------------------

    def anew(self) -> None:
        """Read the store's identity again, and go by its revisions: it may be another one now."""
        self._environment = None
        self._newest.clear()

    def see(self, store: Store, items: Mapping[str, Item | None]) -> None:
        """React to the head and the controller as they are in the store; None where one is gone.

        What is not among ``items`` is as it was.

        :raises StoreError: what the head names could not be fetched.
        """
        with self._applying:
            before = self._controlled
            if CONTROLLER in items and self._is_news(items[CONTROLLER]):
                self._controlled = controlled(items[CONTROLLER])
            if HEAD in items and self._is_news(items[HEAD]):
                self._head = items[HEAD]
            elif self._head is None or self._controlled == before:
                return
            # Whoever waited for somebody in control waits no more. The head is not read for that:
            # every agent would, at the same moment.
            self._see(store, self._head)

    def _is_news(self, item: Item | None) -> bool:
        """Whoever looked before something changed may come with it afterwards."""
        if item is None:
            return True
        if item.mod_revision < self._newest.get(item.key, 0):
            return False
        self._newest[item.key] = item.mod_revision
        return True

    def _see(self, store: Store, item: Item | None) -> None:
        if item is None:
            # Absence is not an instruction: policies end by publishing others.
            self._state.problem("generation", nothing_live(store, self._state.now.generation))
            return
        seen = time.monotonic()
        head: Head | None = None
        try:
            head = Live.of(item).head
            assert head is not None
            environment = self._environment_of(store)
            if self._trust is not None:
                self._obey(self._trust, head, environment)
        except BundleError as error:
            self._reject(head.generation if head else 0, error)
            return
        self._pursue(store, head, environment, seen)

    def _obey(self, trust: Trust, head: Head, environment: str | None) -> None:
        known, accepted = self._accepted or (None, None)
        trust.verify(head, environment, known, accepted)
        assert environment is not None
        if accepted is None or head.sequence > accepted.sequence:
            self._accepted = environment, head
            try:
                self._slot.accept(environment, head)
            except OSError as error:
                self._state.problem("disk", f"cannot note what was accepted: {error}")

    def prove(self, store: Store | None, switches: Switches) -> None:
        """Return if switches of the store, or (None) from disk, may be obeyed.

        :raises Untrusted: this agent holds keys, and none of them has signed the switches.
        """
        if self._trust is not None:
            known = self._accepted[0] if self._accepted else None
            here = known or self._trust.environment
            environment = here if store is None else self._environment_of(store)
            self._trust.prove(
                switches.KIND, switches.signed_part(), switches.signature, environment, known
            )

    def _pursue(self, store: Store, head: Head, environment: str | None, seen: float) -> None:
        """Enforce the first that can be of what the head wants."""
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
        self._left_alone = None
        self._say_quarantine()
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
        if wanted is None or self._beside.rollout != wanted.rollout:
            self._beside.end()
            self._quarantine.end(shadow=True)
        if wanted is None or self._beside.rollout is not None:
            return
        goal = Goal(self._environment, wanted.generation, wanted.bundle, wanted.rollout)
        self._check(goal)
        if self._beside.failed is not None and self._beside.failed[0] == wanted.rollout:
            raise BundleError(self._beside.failed[1])
        data = read_blob(store, wanted.bundle)
        with self._quarantine.trying(goal.trial, shadow=True), self._cooperative():
            self._beside.begin(wanted, self._verified(goal, data))

    def _enforce(self, goal: Goal, data: bytes) -> list[list[Any]]:
        """Returns what is not needed any more."""
        with self._cooperative():
            tree = self._verified(goal, data)
            spent: list[list[Any]] = self._enforcement.enforce(tree, goal.generation)
            spent.append(list(tree.policies.values()))
            del tree
        return spent

    def _check(self, goal: Goal) -> None:
        """:raises BundleError: it is known that it must not be tried."""
        if self._refused is not None and goal == self._refused[0]:
            raise BundleError(self._refused[1])
        suspicion = self._quarantine.refusal(goal.trial)
        if suspicion is not None and not self._is_last_resort(goal):
            raise BundleError(suspicion)

    def _is_last_resort(self, goal: Goal) -> bool:
        """Return True for what has served before, as live, while nothing is in force."""
        served = goal.rollout is None and self._quarantine.has_served(goal.bundle)
        return served and self._in_force is None

    def _say_quarantine(self) -> None:
        """Say in the status what is left alone, or is enforced for want of another."""
        text, goal = self._left_alone, self._in_force
        suspicion = None if goal is None else self._quarantine.refusal(goal.trial)
        if goal is not None and suspicion is not None:
            text = f"generation {goal.generation} is enforced for want of another: {suspicion}"
        self._state.problem("quarantine", text)

    def _verified(self, goal: Goal, data: bytes) -> PolicyTree:
        try:
            return verified(data, goal.bundle)
        except BundleError as error:
            self._refused = goal, str(error)
            raise

    def _cooperative(self) -> AbstractContextManager[None]:
        """Requests are decided meanwhile; who is to end need not rest."""
        return cooperative(Pacer(sleep=self._rest))

    def _environment_of(self, store: Store) -> str | None:
        # Where nobody is trusted who only writes: whoever changes the head can change that as well.
        if self._environment is None or self._trust is not None:
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

    def tend(self) -> None:
        """Note now and then that the process lives on."""
        if self._quarantine.tend():
            self._say_quarantine()

    def close(self) -> None:
        """End in good order."""
        self._beside.end()
        self._quarantine.close()

    def _reject(self, generation: int, error: RatectlError, **changes: Any) -> None:
        nothing = "" if self._state.now.generation else f"; {NOTHING_IN_FORCE}"
        text = f"generation {generation or '?'} rejected: {error}{nothing}"
        self._state.problem("generation", text, rejected=generation, **changes)
