"""A cluster in one thread: clocks, a network and a store that fail as a schedule says."""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ratectl.cluster.protocol.capacity import GRAINS, Size, size_of, window_size
from ratectl.cluster.protocol.lender import Lender
from ratectl.cluster.protocol.membership import Membership, Reaper
from ratectl.cluster.protocol.messages import OwnerId, PoolId, ToMember, ToOwner, owner_of
from ratectl.cluster.protocol.owner import Owner
from ratectl.cluster.protocol.timing import FOREVER, SECOND, Timing
from ratectl.cluster.protocol.timing import MILLISECOND as MS
from simulation.buckets import Central, CentralWindow, DictWallets, OwnBuckets
from simulation.schedule import KEYS, Schedule

if TYPE_CHECKING:
    from collections.abc import Callable

LEASE: Final = 60 * MS
ENTRY_LASTS: Final = 420 * MS
POOLS: Final = tuple(PoolId(*names) for names in KEYS)


class Violation(AssertionError):
    """More was admitted than one central bucket would admit, or could be."""

    def __init__(self, true: int, text: str) -> None:
        super().__init__(f"at {true / MS:.2f} ms: {text}")
        self.at = true / MS
        """Milliseconds."""


@dataclass
class Parts:
    """Parts that the simulation runs. Mutants replace some."""

    lender: type[Lender] = Lender
    owner: type[Owner] = Owner
    wallets: type[DictWallets] = DictWallets
    membership: type[Membership] = Membership
    reaper: type[Reaper] = Reaper
    member_timing: type[Timing] = Timing
    owner_timing: type[Timing] = Timing
    resumes_at_start: bool = False
    """A member that restarts uses its share at once."""
    donates_at_once: bool = False
    keep: dict[str, Any] = field(default_factory=dict)


@dataclass
class Clock:
    """A clock that is off, and too slow or too fast."""

    offset: int
    drift: int

    def at(self, true: int) -> int:
        return self.offset + true + true * self.drift // 1_000_000


class Node:
    """A process: it can be paused, and cut off from the store."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.paused_until = 0
        self.no_store_until = 0


class Member(Node):
    """A process with a lender."""

    def __init__(self, name: str, number: int, clock: Clock) -> None:
        super().__init__(clock)
        self.name = name
        self.number = number
        self.hint = 0
        self.lender: Lender
        self.wallets: DictWallets
        self.own: OwnBuckets
        self.membership: Membership | None = None
        self.is_member = True
        """False: a restarted process does not renew its old entry."""

    def use_until(self) -> int:
        return FOREVER if self.membership is None else self.membership.use_until


class Cluster:
    """Processes, a network and a store. Everything depends on the schedule alone."""

    def __init__(self, schedule: Schedule, parts: Parts | None = None, check: bool = True) -> None:
        self.schedule = schedule
        self.parts = parts or Parts()
        self._check = check
        self._changed = True
        """The event that happens now may have changed more than the time."""
        self._rnd = random.Random(schedule.seed)
        self._settling = random.Random(f"settling {schedule.seed}")
        self.timing = Timing(LEASE, schedule.drift, schedule.gap, 300 * MS)
        args = (LEASE, schedule.drift, schedule.gap, 300 * MS)
        self._member_timing = self.parts.member_timing(*args)
        self._owner_timing = self.parts.owner_timing(*args)
        self.version = 0
        self._largest: Size | None = None
        self._larger_until = 0
        self._events: list[tuple[int, int, Callable[[int], None]]] = []
        self._count = 0
        self._sent: dict[tuple[str, str], int] = {}
        self._cuts: dict[tuple[str, str], int] = {}
        self.roster: dict[str, list[int]] = {}
        """Revision and share of each entry."""
        self._reapers: list[Reaper] = []
        self.admitted = 0
        self.events = 0
        self.central: dict[PoolId, Any] = {pool: self._central() for pool in POOLS}
        self.members: list[Member] = []
        for _ in range(schedule.members):
            self._add_member(0, schedule.whole // schedule.members, full=True)
        self.owner_nodes: list[Node] = []
        self.owners: list[Owner] = []
        for number in range(schedule.owners):
            self._add_owner(number)

    # Set-up -------------------------------------------------------------------------------------

    def _sizes(self, version: int, drift: int) -> dict[str, Size]:
        scale = (1, 2, 3)[version % 3]
        burst = max(1, self.schedule.burst * scale // 2)
        window = self.schedule.window * (1, 2, 1)[version % 3]
        if window and not (self.schedule.algorithms and version % 2):
            size = window_size(burst, window, drift) if drift else Size(0, burst, window)
        else:
            size = size_of(self.schedule.rate * scale, 2 * SECOND, burst, drift)
        size = size._replace(added=self.schedule.added, kept=self.schedule.kept)
        return {"one": size, "keyed": size}

    def _central(self) -> Central | CentralWindow:
        size = self._true_size(0)
        return CentralWindow(size, 4 * LEASE) if size.window else Central(size)

    def sizes(self, version: int) -> dict[str, Size]:
        return self._sizes(version, self.schedule.drift)

    def _true_size(self, version: int) -> Size:
        size = self._sizes(version, 0)["one"]
        added = self.schedule.added * self.schedule.largest
        return Size(size.rate, size.burst + added, size.window)

    def _clock(self) -> Clock:
        bound = self.schedule.drift
        return Clock(
            self._rnd.randrange(10**12),
            self._rnd.choice([-bound, bound, self._rnd.randint(-bound, bound)]),
        )

    def check(self, true: int) -> None:
        """Raise a violation if an invariant does not hold."""

    def _add_member(self, true: int, share: int, *, full: bool) -> Member:
        number = len(self.members)
        member = Member(f"m{number}", number, self._clock())
        self.members.append(member)
        self.roster[member.name] = [1, share]
        now = member.clock.at(true)
        if self.schedule.roster:
            member.membership = self.parts.membership(ENTRY_LASTS, self._member_timing, now)
            self.at(true + self._rnd.randrange(50 * MS), lambda t: self._renew(member, t))
        self._start(member, now, share, full=full, resume_at=None, last_session=0)
        self.at(true + self._rnd.randrange(5 * MS), lambda t: self._timer(member, t))
        return member

    def _start(
        self,
        member: Member,
        now: int,
        share: int,
        *,
        full: bool,
        resume_at: int | None,
        last_session: int,
    ) -> None:
        sizes = self.sizes(self.version)
        member.own = OwnBuckets(sizes, share, now, full)
        member.wallets = self.parts.wallets()
        member.lender = self.parts.lender(
            member.name, self._member_timing, member.wallets, member.own,
            last_session=last_session, resume_at=resume_at,
        )  # fmt: skip
        member.lender.set_share(share)
        member.lender.set_sizes(sizes, (POOLS[0],))

    def _add_owner(self, number: int, true: int = 0) -> None:
        node = Node(self._clock())
        self.owner_nodes.append(node)
        self.owners.append(self._new_owner(number, 1, node, true))
        self._reapers.append(self.parts.reaper(ENTRY_LASTS, self.timing))
        self.at(true + self._rnd.randrange(2 * MS), lambda t: self._owner_timer(number, t))
        if self.schedule.roster:
            self.at(true + self._rnd.randrange(50 * MS), lambda t: self._reap(number, t))

    def _new_owner(self, number: int, incarnation: int, node: Node, true: int) -> Owner:
        def share_of(member: str) -> int:
            return self.roster.get(member, (0, 0))[1]

        owner = self.parts.owner(
            OwnerId(f"o{number}", incarnation), self._owner_timing, node.clock.at(true), share_of
        )
        if (stock := self.schedule.stock) is not None:
            owner._stock = lambda name, account: stock  # type: ignore[method-assign]
        return owner

    # Events -------------------------------------------------------------------------------------

    def at(self, true: int, act: Callable[[int], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (true, self._count, act))

    def run(self, until: int) -> None:
        for step in self.schedule.steps:
            self.at(step.at, self._stepper(step))
        while self._events and self._events[0][0] <= until:
            true, _, act = heapq.heappop(self._events)
            self.events += 1
            self._changed = True
            act(true)
            if self._check and self._changed:
                self.check(true)

    def _stepper(self, step: Any) -> Callable[[int], None]:
        return lambda true: getattr(self, f"_do_{step.what}")(true, *step.args)

    def _when_awake(self, node: Node, act: Callable[[int], None], true: int) -> bool:
        """Return True if a node runs; otherwise do the act when it runs again."""
        if node.paused_until <= true:
            return True
        self.at(node.paused_until + self._rnd.randrange(MS // 2), act)
        return False

    def send(self, true: int, source: str, target: str, act: Callable[[int], None]) -> None:
        """Deliver a message, perhaps: loss, repetition and delay depend on its number alone."""
        link = (source, target)
        number = self._sent[link] = self._sent.get(link, 0) + 1
        rnd = random.Random(
            hash((self.schedule.seed, source[0] == "m", int(source[1:]), int(target[1:]), number))
        )
        if self._cuts.get(link, 0) > true or rnd.random() < self.schedule.loss:
            return
        for _ in range(2 if rnd.random() < self.schedule.repeat else 1):
            delay = rnd.randint(200_000, 2_500_000)
            if rnd.random() < self.schedule.slow:
                delay = rnd.choice(self.schedule.slow_by) * MS
            self.at(true + delay, act)

    # Members ------------------------------------------------------------------------------------

    def _obey_entry(self, member: Member) -> None:
        if member.membership is not None:
            member.lender.lend_until = member.membership.lend_until

    def _timer(self, member: Member, true: int) -> None:
        if not self._when_awake(member, lambda t: self._timer(member, t), true):
            return
        lent = member.lender.lent
        self._changed = self._look(member, true) or lent != member.lender.lent
        self.at(true + self._rnd.randint(MS, 5 * MS), lambda t: self._timer(member, t))

    def _look(self, member: Member, true: int) -> bool:
        """Let a member do what is due; return True if it sends something."""
        now = member.clock.at(true)
        self._obey_entry(member)
        messages = member.lender.tick(now, f"o{member.hint}")
        self._to_owner(member, messages, true)
        return bool(messages)

    def _to_owner(self, member: Member, messages: list[ToOwner], true: int) -> None:
        for message in messages:
            number = int(owner_of(message)[1:])

            def arrive(t: int, message: ToOwner = message, number: int = number) -> None:
                node = self.owner_nodes[number]
                if self._when_awake(node, lambda u: arrive(u, message, number), t):
                    answers = self.owners[number].receive(message, node.clock.at(t))
                    self._to_members(number, answers, t)

            self.send(true, member.name, f"o{number}", arrive)

    def ask(self, member: Member, pool: PoolId, cost: int, true: int) -> bool:
        now = member.clock.at(true)
        if member.lender.lent:
            allowed = member.wallets.spend(pool, cost, now)
        else:
            allowed = now < member.use_until() and member.own.spend(pool, cost, now)
        if allowed:
            self.admitted += cost
            left = self.central[pool].admit(cost, true)
            if left < 0:
                raise Violation(true, f"{-left / GRAINS:.3f} tokens too many of {pool}")
            if self._settling.random() < self.schedule.refunds:
                unused = self._settling.randint(1, cost)
                settle = self._settler(member, pool, unused, (true, now))
                self.at(true + int(10 ** self._settling.uniform(-1, 2.7) * MS), settle)
        return allowed

    def _settler(
        self, member: Member, pool: PoolId, unused: int, charged_at: tuple[int, int]
    ) -> Callable[[int], None]:
        """Return what tells a member that a request has cost less.

        :param charged_at: true time, and time of the member's clock.
        """
        lender = member.lender

        def settle(true: int) -> None:
            if not self._when_awake(member, settle, true) or member.lender is not lender:
                return
            self.central[pool].refund(unused, charged_at[0], true)
            if lender.lent:
                member.wallets.refund(pool, unused, charged_at[1])
            else:
                member.own.refund(pool, unused, charged_at[1], member.clock.at(true))

        return settle

    # Owners -------------------------------------------------------------------------------------

    def _owner_timer(self, number: int, true: int) -> None:
        node = self.owner_nodes[number]
        if not self._when_awake(node, lambda t: self._owner_timer(number, t), true):
            return
        messages = self.owners[number].tick(node.clock.at(true))
        self._changed = bool(messages)
        self._to_members(number, messages, true)
        self.at(true + 1_500_000, lambda t: self._owner_timer(number, t))

    def _to_members(self, number: int, messages: list[ToMember], true: int) -> None:
        for message in messages:
            member = self.members[int(message.member[1:])]

            def arrive(t: int, message: ToMember = message, member: Member = member) -> None:
                if self._when_awake(member, lambda u: arrive(u, message, member), t):
                    now = member.clock.at(t)
                    self._obey_entry(member)
                    self._to_owner(member, member.lender.receive(message, now), t)

            self.send(true, f"o{number}", member.name, arrive)

    # Roster -------------------------------------------------------------------------------------

    def _renew(self, member: Member, true: int) -> None:
        if not self._when_awake(member, lambda t: self._renew(member, t), true):
            return
        if member.no_store_until <= true and self._rnd.random() >= self.schedule.loss:
            sent = member.clock.at(true)
            self.at(true + self._store_delay(), lambda t: self._stored(member, sent, t))
        self.at(true + 100 * MS, lambda t: self._renew(member, t))

    def _store_delay(self) -> int:
        if self._rnd.random() < self.schedule.slow:
            return self._rnd.choice(self.schedule.slow_by) * MS
        return self._rnd.randint(MS // 2, 4 * MS)

    def _stored(self, member: Member, sent: int, true: int) -> None:
        entry = self.roster.get(member.name)
        if entry is None or not member.is_member:
            return
        entry[0] += 1
        if member.no_store_until <= true and self._rnd.random() >= self.schedule.loss:
            self.at(
                true + self._rnd.randint(MS // 2, 4 * MS),
                lambda t: self._confirmed(member, sent, t),
            )

    def _confirmed(self, member: Member, sent: int, true: int) -> None:
        if not self._when_awake(member, lambda t: self._confirmed(member, sent, t), true):
            return
        if member.membership is not None:
            member.membership.clock = lambda: member.clock.at(true)  # type: ignore[attr-defined]
            member.membership.renewed(sent)

    def _reap(self, number: int, true: int) -> None:
        node = self.owner_nodes[number]
        if not self._when_awake(node, lambda t: self._reap(number, t), true):
            return
        if node.no_store_until <= true:
            entries = {name: entry[0] for name, entry in self.roster.items()}
            for name in self._reapers[number].overdue(entries, node.clock.at(true)):
                self.at(
                    true + self._rnd.randint(MS // 2, 30 * MS),
                    lambda t, name=name: self._remove(name, entries[name], t),  # type: ignore[misc]
                )
        self.at(true + 20 * MS, lambda t: self._reap(number, t))

    def _remove(self, name: str, revision: int, true: int) -> None:
        entry = self.roster.get(name)
        if entry is None or entry[0] != revision or len(self.members) > self.schedule.members + 8:
            return
        del self.roster[name]
        self._add_member(true, entry[1], full=False)
