"""Members of one machine on a clock that a test moves: real engines, keepers and nodes."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final, cast

from engine.engines import ENGINES
from ratectl.cluster.keeper import Keeper
from ratectl.cluster.node import Node
from ratectl.cluster.pools import PooledLimits, _pool_name
from ratectl.cluster.protocol.capacity import Size
from ratectl.cluster.protocol.timing import MILLISECOND as MS
from ratectl.cluster.protocol.timing import SECOND, Timing
from ratectl.cluster.roster import Roster
from ratectl.cluster.sharding import SHARD_NAMES, SHARDS, shard_of_pool
from ratectl.cluster.transport.codec import decode, encode
from ratectl.cluster.transport.links import Links, Received
from ratectl.engine.algorithms.sliding_window import SlidingWindow
from ratectl.engine.algorithms.token_bucket import TokenBucket
from ratectl.engine.api import PlanSet, ScopePlan
from ratectl.engine.limit_plan import LimitPlan
from ratectl.errors import RatectlError, StoreError
from ratectl.records import OwnerHint, owner_name
from ratectl.stores.memory import MemoryStore
from simulation.buckets import Central, CentralWindow
from support import hint_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from engine.engines import MakeEngine
    from ratectl.cluster.entries import Hint
    from ratectl.cluster.protocol.lender import Lender
    from ratectl.cluster.protocol.messages import ToMember, ToOwner
    from ratectl.cluster.protocol.owner import Owner
    from ratectl.cluster.shard import Shard
    from ratectl.cluster.transport.codec import Message
    from ratectl.engine.decision import Decision
    from ratectl.engine.limit_plan import GroupName
    from ratectl.runtime.address import Address
    from ratectl.stores.base import Store

LASTS: Final = 30 * SECOND
TIMING: Final = Timing()
_numbers = itertools.count()


def name_of(limit: str) -> GroupName:
    """Return the name of a budget's bucket."""
    return ("/", limit, True, (), (), "requests")


def name_by_tenant(limit: str) -> GroupName:
    """Return the name of the buckets of a limit that counts per tenant."""
    return ("/", limit, False, (), ("tenant",), "requests")


Limit = tuple[int, int] | SlidingWindow
"""Rate and burst, or a window."""


def bucket(rate: int, burst: int) -> TokenBucket:
    """Return a bucket of so many tokens a second."""
    return TokenBucket(rate, SECOND, burst)


def algorithm(limit: Limit) -> TokenBucket | SlidingWindow:
    """Return a bucket of so many tokens a second, or a window."""
    return limit if isinstance(limit, SlidingWindow) else bucket(*limit)


def central(limit: Limit, more: int = 0) -> Any:
    """Return what one central limiter would have, and tokens beyond the limit."""
    if isinstance(limit, SlidingWindow):
        return CentralWindow(Size(0, limit.capacity + more, limit.window_ns))
    return Central(Size(limit[0] * SECOND, limit[1] + more))


class FakeLinks:
    """Links without sockets: a message arrives with the next poll of the peer."""

    def __init__(self, machine: Machine, name: str) -> None:
        self.name = name
        self._machine = machine
        self.arrived: list[Received] = []
        self.polls = 0
        self.problems: dict[str, str] = {}
        """Why there is no connection to an address."""

    def problem(self, address: Address) -> str | None:
        return self.problems.get(str(address))

    def send(self, address: Address, message: ToOwner) -> bool:
        return self._machine.carry(self.name, address.path.removeprefix("/"), message)

    def reply(self, member: str, message: ToMember) -> bool:
        return self._machine.carry(self.name, member, message)

    def poll(self, timeout: float | None) -> list[Received]:
        self.polls += 1
        arrived, self.arrived = self.arrived, []
        return arrived

    def wake(self) -> None:
        """Nothing waits."""


class Member:
    """One process: its engine, and what it does in the cluster."""

    def __init__(self, machine: Machine, name: str) -> None:
        self.machine = machine
        self.engine = machine.make_engine(lambda: machine.now, max_buckets=10_000)
        self.limits = PooledLimits(self.engine, machine.timing)
        self.links = FakeLinks(machine, name)
        self.generation = 0
        self.sizes: Mapping[str, Limit] = {}
        self.unsettled: list[tuple[Decision, int, int]] = []
        """With the cost, and the time of the charge."""
        self.frozen = False
        self.store_is_down = False
        self.down_since: int | None = None
        self.goes_on = False
        """True: it goes on when its entry is too old, as agents do. All members together may then
        admit more, by the shares of those whose entries others have removed."""
        store = cast("Store", machine.store_of(self))
        roster = Roster(store, name, machine.lasts, machine.timing)
        self.keeper = Keeper(roster, f"unix:/{name}", machine.lasts, lambda: machine.now)
        self.publish(machine.sizes)
        self.keeper.step(machine.now)
        self.node = Node(
            self.engine, self.limits, self.keeper, cast("Links", self.links), machine.timing,
            lambda: machine.now, full=self.keeper.starts_full, secret=b"sixteen bytes in all",
        )  # fmt: skip

    @property
    def shard(self) -> Shard:
        """The shard that the machine's first limit is in, if that is a small one."""
        return self.node.shards[self.machine.shard]

    @property
    def lender(self) -> Lender:
        """The lender of this member in that shard."""
        return self.shard.lender

    def publish(self, sizes: Mapping[str, Limit]) -> None:
        """Put limits in force, by name."""
        self.generation += 1
        self.sizes = sizes
        with self.limits.collected() as pools:
            plans = tuple(
                LimitPlan(
                    scope="/", name=name, per=(),
                    algorithm=pools.bucket(
                        name_of(name), algorithm(size), optimistic=self.machine.optimistic
                    ),
                    shadow=False, budget=True,
                )
                for name, size in sizes.items()
            )  # fmt: skip
            by_tenant = tuple(
                LimitPlan(
                    scope="/", name=name, per=("tenant",), shadow=False,
                    algorithm=pools.bucket(
                        name_by_tenant(name), algorithm(size), optimistic=self.machine.optimistic
                    ),
                )
                for name, size in self.machine.by_tenant.items()
            )  # fmt: skip
            plans = (*plans, *by_tenant)
            self.engine.swap(PlanSet(self.generation, {"/": ScopePlan("/", plans, True)}))

    def ask_for(self, tenant: str, cost: int = 1) -> bool:
        """Send a request of a tenant; fail if one central bucket would not have admitted it."""
        decision = self.engine.check("/", {"tenant": tenant}, cost)
        if decision.allowed:
            for name, limit in self.machine.by_tenant.items():
                known = self.machine.tenants.get((name, tenant))
                if known is None:
                    known = self.machine.tenants[name, tenant] = central(limit, self.machine.moved)
                assert known.admit(cost, self.machine.now) >= 0
        return decision.allowed

    def ask(self, cost: int = 1) -> bool:
        """Send a request; fail if one central bucket would not have admitted it."""
        decision = self.engine.check("/", {}, cost)
        if decision.allowed:
            self.unsettled.append((decision, cost, self.machine.now))
            for name in self.sizes.keys() & self.machine.central.keys():
                assert self.machine.central[name].admit(cost, self.machine.now) >= 0
        return decision.allowed

    def refund(self) -> None:
        """Settle the newest request: it has cost nothing."""
        if self.unsettled:
            decision, cost, charged_at = self.unsettled.pop()
            decision.settle(0)
            for name in self.sizes.keys() & self.machine.central.keys():
                self.machine.central[name].refund(cost, charged_at, self.machine.now)

    def step(self) -> None:
        """Do what both threads do in a millisecond. Without an entry, the member ends."""
        now = self.machine.now
        assert self.keeper.standing is not None
        over = now >= self.keeper.standing.use_until and not self.goes_on
        if self.keeper.lost or over:
            self.node.end(waits=False)
            self.machine.members.pop(self.links.name)
            return
        if now // MS % 50 == 0 and not self.keeper.lost:
            try:
                self.keeper.step(now)
                self.keeper.problem = self.down_since = None
            except RatectlError:
                assert self.store_is_down
                if self.down_since is None:
                    self.down_since = now
                if self.goes_on and now - self.down_since >= 2 * SECOND:
                    self.keeper.problem = "the store does not answer"
        if self.limits.is_share_due:
            self.publish(self.sizes)
        self.node.round(0)


class _MembersStore:
    """The store as one member sees it."""

    def __init__(self, store: Store, member: Member) -> None:
        self._store = store
        self._member = member

    def __getattr__(self, name: str) -> Any:
        if self._member.store_is_down:
            raise StoreError("the store does not answer")
        return getattr(self._store, name)


class Machine:
    """Members, their store, and the one bucket of each limit that rules them all."""

    def __init__(self, lasts: int = LASTS, *, more: int = 0, **sizes: Limit) -> None:
        """``more``: tokens that processes add to the limits that do not count per tenant."""
        self.now = 0
        self.lasts = lasts
        self.timing = TIMING
        self.sizes = sizes
        self.by_tenant: dict[str, Limit] = {}
        """Limits that count per tenant."""
        self.optimistic = False
        self.moved = 0
        """Tokens that a tenant may have beyond its limit: shares move, or processes add some."""
        self.tenants: dict[tuple[str, str], Central] = {}
        self.make_engine: MakeEngine = list(ENGINES.values())[-1]
        self.store: Store = MemoryStore(f"memory://machine-{next(_numbers)}")
        self.members: dict[str, Member] = {}
        self._names = itertools.count()
        self.cut: set[str] = set()
        """Members that no message reaches or leaves."""
        self.central = {name: central(limit, more) for name, limit in sizes.items()}

    def store_of(self, member: Member) -> _MembersStore:
        return _MembersStore(self.store, member)

    def start(self, count: int = 1) -> list[Member]:
        new = [Member(self, f"m{next(self._names)}") for _ in range(count)]
        self.members.update((member.links.name, member) for member in new)
        return new

    def carry(self, sender: str, to: str, message: Message) -> bool:
        message = decode(encode(message))  # what peers would refuse fails here
        if to not in self.members or {sender, to} & self.cut:
            return False
        self.members[to].links.arrived.append(Received(sender, cast("ToMember", message)))
        return True

    def run(self, duration: int, each: Callable[[int], None] = lambda step: None) -> None:
        """Let time pass. Every millisecond the members do what is due."""
        for step in range(duration // MS):
            self.now += MS
            for member in list(self.members.values()):
                if not member.frozen:
                    member.step()
            each(step)

    @property
    def shard(self) -> int:
        """Number of the shard that the first limit is in, if that is a small one."""
        name = next(iter(self.sizes), "")
        return shard_of_pool(_pool_name(name_of(name)), SHARDS)

    @property
    def hint(self) -> Hint:
        """The hint in the store that names the owner of that shard."""
        return hint_of(self.store, SHARD_NAMES[self.shard])

    def name_owner(self, roster: Roster, member: str, *, of_other: bool = False) -> bool:
        """Write who owns that shard, or the other one."""
        shard = (self.shard + of_other) % SHARDS
        hint = hint_of(self.store, SHARD_NAMES[shard])
        owner = owner_name(hint.shard, member)
        record = OwnerHint(member=member, owner=owner, address=f"unix:/{member}")
        return roster.name_owner(hint.shard, record, hint.revision)

    @property
    def owners(self) -> list[Owner]:
        """The owners of all shards."""
        shards = [shard for member in self.members.values() for shard in member.node.shards]
        return [shard.owner for shard in shards if shard.owner and shard.owner.sessions]

    @property
    def owner(self) -> Member:
        """The owner of the shard that the first limit is in."""
        (owner,) = [m for m in self.members.values() if m.shard.owner and m.shard.owner.sessions]
        return owner
