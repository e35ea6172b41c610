"""Laws of the roster in every store: whatever happens, no share is lost, made, or used twice."""

from __future__ import annotations

import uuid
from contextlib import ExitStack
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from conformance.roster_rig import LASTS, OLD, TIMING, WHOLE, meddled, owned_in, shares_in
from ratectl.cluster.donation import donation
from ratectl.cluster.entries import read_roster
from ratectl.cluster.forgetting import forget
from ratectl.cluster.roster import Roster
from ratectl.errors import NotFound, OutcomeUnknown
from ratectl.stores import open_store

if TYPE_CHECKING:
    from collections.abc import Callable

    from ratectl.stores.base import Store

PICK = st.integers(0, 1 << 20)


class Process:
    """A process with a member: what it does with its share."""

    def __init__(self, store: Store, name: str) -> None:
        self.roster = Roster(store, name, LASTS, TIMING)
        self.uses = 0
        """Share that it lends or uses itself."""
        self.gift: tuple[str, int] | None = None
        """A part of the share that it does not use any more, and moves."""
        self.is_leaving = False

    @property
    def name(self) -> str:
        return self.roster.member

    def usable(self, now: int) -> int:
        membership = self.roster.membership
        return self.uses if membership is not None and now < membership.use_until else 0


class RosterMachine(RuleBasedStateMachine):
    """Processes that join, renew, read, give, leave, stop and are forgotten, one at a time."""

    make_url: Callable[[], str]

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.now = 0
        self.count = 0
        self.running: list[Process] = []
        self.busy: Process | None = None
        """The process that acts: it has one thread."""

    @initialize(count=st.integers(1, 4))
    def open(self, count: int) -> None:
        self.store = self.stack.enter_context(open_store(type(self).make_url()))
        self.meddler, self.through = meddled(self.store)
        for _ in range(count):
            self.start()

    def teardown(self) -> None:
        self.stack.close()

    def picked(self, number: int) -> Process | None:
        return self.running[number % len(self.running)] if self.running else None

    @rule()
    def start(self) -> None:
        if len(self.running) < 6:
            self.count += 1
            self.running.append(Process(self.through, f"m{self.count}"))
            self.step_of(self.running[-1], moves=False)

    @rule(number=PICK, moves=st.booleans())
    def another_is_first(self, number: int, moves: bool) -> None:
        """Let a process do its step just before the next transaction of another."""
        process = self.picked(number)
        if process is not None:
            self.meddler.before = [lambda: self.step_of(process, moves)]

    @rule(applied=st.booleans())
    def lose_the_next_reply(self, applied: bool) -> None:
        self.meddler.lose = [applied]

    @rule()
    def late_transaction_arrives(self) -> None:
        if self.meddler.late:
            self.meddler.late.pop()()

    @rule(passed=st.sampled_from([1, LASTS // 3, LASTS // 2, OLD]))
    def time_passes(self, passed: int) -> None:
        self.now += passed

    @rule(number=PICK, moves=st.booleans())
    def step(self, number: int, moves: bool) -> None:
        """A process joins, leaves, moves its gift or renews its entry: the first that is due."""
        process = self.picked(number)
        if process is not None:
            self.step_of(process, moves)

    @rule(moves=st.booleans())
    def everybody_steps(self, moves: bool) -> None:
        for process in list(self.running):
            self.step_of(process, moves)

    def step_of(self, process: Process, moves: bool) -> None:
        if process not in self.running or process is self.busy:
            return
        before, self.busy = self.busy, process
        try:
            self.do_step(process, moves)
        except OutcomeUnknown:
            pass
        except NotFound:  # the member to give to is gone, or its own entry
            process.gift = None
        finally:
            self.busy = before

    def do_step(self, process: Process, moves: bool) -> None:
        roster = process.roster
        if roster.membership is None:
            process.uses = roster.join("", self.now).share
        elif process.is_leaving:
            roster.leave(self.now)
            self.running.remove(process)
        elif process.gift is not None and moves:
            roster.give(*process.gift)
            process.gift = None
        else:
            own = roster.renew(self.now)
            if own is None:
                self.running.remove(process)
            else:
                process.uses = own.share - (process.gift[1] if process.gift else 0)

    @rule(removes=st.booleans())
    def everybody_looks(self, removes: bool) -> None:
        for process in list(self.running):
            if process.roster.membership is not None:
                self.look(process, removes)

    def look(self, process: Process, removes: bool) -> None:
        roster, self.busy = process.roster, process
        state = roster.read(self.now)
        assert state.problems == ()
        try:
            if state.unowned:
                roster.adopt()
            for overdue in state.overdue if removes else ():
                roster.remove(*overdue)
        except (OutcomeUnknown, NotFound):
            pass
        finally:
            self.busy = None

    @rule(to=PICK, half=st.booleans(), largest=st.booleans(), at_once=st.booleans())
    def shrink(self, to: int, half: bool, largest: bool, at_once: bool) -> None:
        order = sorted(self.running, key=lambda process: process.uses, reverse=largest)
        giver = next((process for process in order if process.uses > 1), None)
        others = [process for process in self.running if process is not giver]
        if giver is None or giver.gift or giver.is_leaving or not others:
            return
        taker = others[to % len(others)]
        gift = (taker.name, giver.uses // 2)
        if not half:
            found = donation(read_roster(self.store).shares(), giver.name)
            if found is None or found.part > giver.uses:
                return
            gift = (found.to, found.part)
        giver.gift = gift
        giver.uses -= gift[1]
        if at_once:
            self.step_of(giver, moves=True)
            self.step_of(taker, moves=False)

    @rule(number=PICK)
    def stop_using(self, number: int) -> None:
        process = self.picked(number)
        if len(self.running) > 2 and process is not None and process.roster.membership is not None:
            process.uses, process.is_leaving = 0, True

    @rule(number=PICK, forgotten=st.booleans())
    def crash(self, number: int, forgotten: bool) -> None:
        process = self.picked(number)
        if process is None or len(self.running) < 3:
            return
        self.running.remove(process)
        if forgotten and process.name in shares_in(self.store):
            forget(self.store, process.name)

    @invariant()
    def no_share_is_lost_or_made(self) -> None:
        if hasattr(self, "store"):
            record_exists = read_roster(self.store).record_revision > 0
            assert owned_in(self.store) == (WHOLE if record_exists else 0)

    @invariant()
    def no_share_is_used_twice(self) -> None:
        used = sum(max(0, process.usable(self.now)) for process in self.running)
        assert used <= WHOLE

    @invariant()
    def nobody_uses_more_than_its_entry_has(self) -> None:
        if hasattr(self, "store"):
            shares = shares_in(self.store)
            for process in self.running:
                if process.usable(self.now) > 0:
                    assert process.uses <= shares[process.name]


def test_no_share_is_lost_made_or_used_twice(store_url: str) -> None:
    class Machine(RosterMachine):
        @staticmethod
        def make_url() -> str:  # type: ignore[override]
            head, _, tail = store_url.rpartition("/")
            return f"{head}/{uuid.uuid4().hex[:8]}-{tail}"

    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Machine,
        settings=settings(
            max_examples=60 if store_url.startswith("memory:") else 15,
            stateful_step_count=60,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
