"""Limits across the processes that follow one store."""

from __future__ import annotations

import secrets
import threading
import time
from typing import TYPE_CHECKING, Final

from ratectl.agent.cluster_status import ClusterStatus, note_of
from ratectl.agent.log import log
from ratectl.agent.usage.pools import OwnerElsewhere
from ratectl.cluster.attempt import Attempt
from ratectl.cluster.keyed import KeyedLimit
from ratectl.cluster.node import Node
from ratectl.cluster.own_share import OwnShare
from ratectl.cluster.protocol.capacity import WHOLE
from ratectl.cluster.protocol.timing import MILLISECOND, SECOND, Timing
from ratectl.cluster.tally import Tally
from ratectl.cluster.transport.counters import Counters
from ratectl.cluster.wallets import EngineWallets
from ratectl.engine.algorithms.pooled import LONG_AGO
from ratectl.records import agent_part

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ratectl.agent.cluster_status import State
    from ratectl.agent.state import AgentState
    from ratectl.cluster.keeper import Keeper
    from ratectl.cluster.owned import OwnedLimit
    from ratectl.cluster.peers import Peers
    from ratectl.cluster.pools import PooledLimits
    from ratectl.cluster.shard import Shard
    from ratectl.cluster.transport.links import Links
    from ratectl.engine.api import Engine
    from ratectl.engine.limit_plan import GroupName
    from ratectl.stores.base import Store

__all__ = ["TIMING", "ClusterPart"]

TIMING: Final = Timing()
ENTRY_LASTS: Final = 30 * SECOND
"""A member that has not renewed its entry for so long loses its share."""

_PATIENCE: Final = 2 * SECOND
"""A process that has not joined for so long counts alone."""
_RETRY: Final = 1 * SECOND
_RETRY_SOON: Final = SECOND // 10
"""Pause between attempts until the process counts alone."""
_FILL: Final = 0.01
"""Seconds between two additions to the wallets of a process that counts alone."""
_HAND_OVER: Final = 2 * SECOND
_LEAVE: Final = 3.0


class ClusterPart:
    """The thread that takes part in the cluster, once there is a limit across it.

    It never waits for the store: the thread of an ``Attempt`` does.
    """

    def __init__(
        self,
        open_store: Callable[[], Store],
        peers: Peers,
        engine: Engine,
        limits: PooledLimits,
        state: AgentState,
        agent_id: str,
        clock: Callable[[], int],
    ) -> None:
        self._open_store = open_store
        self._peers = peers
        self._engine = engine
        self._limits = limits
        self._state = state
        self._agent_id = agent_id
        self._clock = clock
        self._stopped = threading.Event()
        self._woken = threading.Event()
        self.node: Node | None = None
        self._attempt: Attempt | None = None
        self._alone: tuple[EngineWallets, OwnShare] | None = None
        self._has_counted = False
        """This process has spent tokens of the limits, so their buckets are not full."""
        self._impatient_at: int | None = None
        """When it counts alone, if it has not joined by then."""
        self._tally = Tally()
        """Counts of members that this process was before."""
        self._transport = Counters()
        self._counting = threading.Lock()
        limits.on_change = self._wake

    def run(self) -> None:
        """Work until ``stop``. Never raises."""
        while self._has_limits():
            attempt = self._attempt = self._new_attempt()
            try:
                attempt.start()
                self._try(attempt)
            except Exception as error:  # noqa: BLE001  the thread must survive any error
                log.debug("limits across the cluster", exc_info=error)
                self._problem(f"{type(error).__name__}: {error}")
                self._stopped.wait(_FILL)
        if self._attempt is not None:
            self._attempt.is_over(_LEAVE)
        self._limits.end()

    def _try(self, attempt: Attempt) -> None:
        """Be a member for as long as that is possible, and then wait until the thread has ended."""
        problem = None
        try:
            self._await(attempt.decided.is_set)
            if attempt.keeper is not None:
                self._take_part(attempt)
            elif attempt.decided.is_set():
                problem = attempt.problem
        except Exception as error:  # noqa: BLE001  it counts alone
            log.debug("limits across the cluster", exc_info=error)
            problem = f"{type(error).__name__}: {error}"
        attempt.end()
        if problem is not None:
            if attempt.keeper is not None or self._alone is not None or not self._is_patient():
                self._begin_alone(problem)
            self._until(lambda: False, self._clock() + (_RETRY if self._alone else _RETRY_SOON))
        self._await(attempt.is_over)  # threads that wait for a store must not pile up

    def _new_attempt(self) -> Attempt:
        return Attempt(
            self._open_store, self._peers, self._agent_id, ENTRY_LASTS, TIMING, self._clock
        )

    def _has_limits(self) -> bool:
        """Wait for a limit across the cluster; return False after ``stop``."""
        while not self._stopped.is_set():
            self._woken.clear()
            if self._limits.in_force():
                return True
            self._problem(None)
            self._end_alone()
            self._impatient_at = None
            self._woken.wait()
        return False

    def _problem(self, text: str | None) -> None:
        if text is not None:
            text = f"limits across the cluster count in this process alone: {text}"
        self._state.problem("cluster", text)

    def _note(self, text: str | None) -> None:
        """Set or end (None) a problem that does no harm yet."""
        if text is not None:
            text = f"limits across the cluster use what this process knows of its share: {text}"
        self._state.problem("cluster", text)

    # Alone --------------------------------------------------------------------------------------

    def _await(self, is_done: Callable[[], bool]) -> None:
        """Wait for the thread that speaks with the store. Count alone if that takes too long."""
        if self._alone is None:
            if self._impatient_at is None:
                self._impatient_at = self._clock() + _PATIENCE
            if not self._until(is_done, self._impatient_at):
                self._begin_alone("the store has not answered yet")
        self._until(is_done, None)

    def _is_patient(self) -> bool:
        return self._impatient_at is not None and self._clock() < self._impatient_at

    def _begin_alone(self, problem: str) -> None:
        if self._goes_on():
            self._count_alone()
            self._problem(problem)

    def _goes_on(self) -> bool:
        return not self._stopped.is_set() and bool(self._limits.in_force())

    def _until(self, is_done: Callable[[], bool], end: int | None) -> bool:
        """Wait until something is done, or an instant; count alone meanwhile if that has begun."""
        while self._goes_on():
            if is_done():
                return True
            if end is not None and self._clock() >= end:
                return False
            if self._alone is not None:
                self._count_alone()
            self._stopped.wait(_FILL)
        return is_done()

    def _count_alone(self) -> None:
        """Use the whole of the limits: a limiter that fails allows requests."""
        if self._alone is None:
            wallets = EngineWallets(self._engine, shards=1)
            (whole,) = wallets.shards
            self._alone = wallets, OwnShare(whole, self._clock, full=True)
            self._limits.begin_share(WHOLE, secrets.token_bytes(16))
        wallets, own = self._alone
        limits, now = self._limits.in_force(), self._clock()
        wallets.follow(limits)
        sizes = {pool: limit.size for pool, limit in limits.items()}
        self._limits.lend_whole(wallets.keyed)  # nobody else has a part for large requests
        own.change(WHOLE, sizes, now, wallets.keyed)
        own.tick(now, now + SECOND)
        wallets.use_own_part_until(now + SECOND)
        self._has_counted = True

    def _end_alone(self) -> None:
        if self._alone is not None:
            wallets, own = self._alone
            own.lend(self._clock())
            wallets.use_own_part_until(LONG_AGO)
            self._alone = None

    # In the cluster -----------------------------------------------------------------------------

    def _take_part(self, attempt: Attempt) -> None:
        """Be a member until ``stop``, or until the entry is lost or no limit is in force."""
        keeper, links = attempt.keeper, attempt.links
        assert keeper is not None
        assert links is not None
        self._end_alone()
        self._impatient_at = None
        node = self.node = self._new_node(keeper, links, attempt.secret)
        self._has_counted = True
        self._problem(None)
        waits = False
        try:
            if not self._stopped.is_set():
                node.run(self._note, self._peers)
            self._hand_over(node, attempt)
            waits = True
        finally:
            self._left(keeper, links)
            try:
                node.end(waits=waits)
            finally:
                attempt.end(leaves=not node.is_lent)

    def _left(self, keeper: Keeper, links: Links) -> None:
        with self._counting:
            node, self.node = self.node, None
            if node is not None:
                self._tally.add(node.tally)
            self._tally.add(keeper.tally)
            self._transport.add(links.counters)

    def _new_node(self, keeper: Keeper, links: Links, secret: bytes) -> Node:
        full = keeper.starts_full and not self._has_counted
        return Node(
            self._engine, self._limits, keeper, links, TIMING, self._clock,
            full=full, secret=secret,
        )  # fmt: skip

    def _hand_over(self, node: Node, attempt: Attempt) -> None:
        """Serve members until the store names another owner."""
        attempt.stop()
        until = self._clock() + _HAND_OVER
        while not attempt.handed_over.is_set() and self._clock() < until:
            node.round(4 * MILLISECOND)

    # Calls of other threads ---------------------------------------------------------------------

    def _wake(self) -> None:
        self._woken.set()
        node = self.node
        if node is not None:
            node.wake()

    def owners(self) -> list[OwnerElsewhere]:
        """Return the owners in other processes."""
        node = self.node
        if node is None:
            return []
        members = node.members
        return [OwnerElsewhere(agent_part(owner), members) for owner in node.owners_elsewhere]

    def status(self) -> ClusterStatus | None:
        """Return the state of this process; None without a limit across the cluster in force."""
        if not self._limits.names():
            return None
        tally, transport = Tally(), Counters()
        with self._counting:
            node, attempt = self.node, self._attempt
            tally.add(self._tally)
            transport.add(self._transport)
            if node is not None:
                tally.add(node.tally)
                if attempt is not None and attempt.keeper is not None:
                    tally.add(attempt.keeper.tally)
                if attempt is not None and attempt.links is not None:
                    transport.add(attempt.links.counters)
        if node is None:
            state: State = "joining" if self._alone is None else "alone"
            return ClusterStatus(
                state=state, wallets=self._in_wallets(), tally=tally, transport=transport
            )
        return ClusterStatus(
            state=_state_of(node),
            members=node.members,
            share=node.share / WHOLE,
            sessions=node.sessions,
            answered=self._wall_time(node.answered_at),
            wallets=self._in_wallets(),
            tally=tally,
            transport=transport,
        )

    def note_of(self, name: GroupName) -> str | None:
        """Return a sentence about a limit across the cluster; None for other limits."""
        limits = {limit.name: limit for limit in self._limits.in_force().values()}
        limit, status = limits.get(name), self.status()
        if limit is None or status is None:
            return None
        return note_of(limit, TIMING.drift, status)

    def _wall_time(self, instant: int | None) -> float | None:
        return None if instant is None else time.time() - (self._clock() - instant) / SECOND

    def _in_wallets(self) -> Mapping[GroupName, int]:
        """Return the tokens that this process may spend now, by limit."""
        now, found = self._clock(), {}
        for limit in self._limits.in_force().values():
            if isinstance(limit, KeyedLimit):
                wallets = limit.wallets
                held = self._engine.with_wallets(wallets.total)
                found[limit.name] = held if now < wallets.deadline else 0
                continue
            spent = self._engine.spent(limit.name)
            usable = spent is not None and now < limit.wallet.deadline
            found[limit.name] = max(0, limit.wallet.granted - (spent or 0)) if usable else 0
        return found

    def names(self) -> Mapping[GroupName, str]:
        """Return the names of the pools of the limits in force."""
        return self._limits.names()

    def owned(self) -> Sequence[OwnedLimit]:
        """Return what this process pools as an owner, since the last call; else nothing."""
        node = self.node
        return () if node is None else node.owned(self._clock())

    def after_fork_in_child(self) -> None:
        """Close the parent's sockets in a forked child, without speaking on them."""
        links = None if self._attempt is None else self._attempt.links
        if links is not None:
            links.after_fork()

    def stop(self) -> None:
        """Ask the thread to end."""
        self._stopped.set()
        self._woken.set()
        node = self.node
        if node is not None:
            node.stop()


def _state_of(node: Node) -> State:
    states = {_state_in(shard) for shard in node.shards}
    return next(state for state in ("waiting", "own_share", "lent") if state in states)


def _state_in(shard: Shard) -> State:
    if shard.lender.session is not None:
        return "lent"
    return "waiting" if shard.lender.lent else "own_share"
