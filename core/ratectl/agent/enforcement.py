"""Enforcement of a policy tree: keeps its plans in an engine, exceptions by the wall clock."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from typing import TYPE_CHECKING, Final, Protocol

from ratectl.agent.client_address import proxies_by_scope
from ratectl.agent.log import log
from ratectl.agent.origins import Origins
from ratectl.cluster.pools import PooledLimits
from ratectl.compiler.activation import activated
from ratectl.compiler.plans import Compiled
from ratectl.engine.api import PlanSet
from ratectl.policy.resolution.algorithms.registry import has_central
from ratectl.runtime.cooperative import cooperative, release

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from ratectl.agent.client_address import TrustedProxies
    from ratectl.agent.state import AgentState
    from ratectl.agent.wall_clock import WallClock
    from ratectl.cluster.pools import UnsharedLimits
    from ratectl.compiler.surroundings import Part, Pools
    from ratectl.engine.api import Engine, ScopePlan
    from ratectl.policy.language.model import PolicyTree

__all__ = ["Central", "Enforcement"]


class Central(Protocol):
    """Limits that a server counts."""

    def belong_to(self, environment: str | None) -> None:
        """Count the limits of this environment."""

    def follow(self, plans: PlanSet | None) -> None:
        """Use these limits from the next decision of their generation on; None: there are none."""

    def followed(self) -> None:
        """Note that the engine has that generation."""


_LOOK_SECONDS: Final = 1.0
"""Longest delay until a step of the wall clock is noticed, if the tree has exceptions."""


class Enforcement:
    """Swaps plans into an engine, and again whenever an exception starts or ends."""

    def __init__(
        self,
        engine: Engine,
        wall: WallClock,
        now_ns: Callable[[], int] | None = None,
        state: AgentState | None = None,
        pools: PooledLimits | UnsharedLimits | None = None,
        central: Central | None = None,
    ) -> None:
        """``now_ns``: time for exceptions, in nanoseconds since 1970; by default that of ``wall``.

        ``state``: takes the problem of exceptions that cannot start or end. ``pools``: takes the
        limits across the cluster; without it, they count in this process. ``central``: takes those
        that a server counts; without it, the engine counts them.
        """
        self._central = central
        self.pools = pools
        self._engine = engine
        self._state = state
        self._wall = wall
        self._now_ns = now_ns or wall.time_ns
        self._swapping = threading.Lock()
        """Held for a whole reload; ``_changed`` guards the other fields."""
        self._changed = threading.Condition()
        self._stopped = False
        self._share_changed = False
        self._compiled = Compiled(PlanSet(0))
        self.proxies: Mapping[str, TrustedProxies] = {}
        """Trusted proxies in force, by the scope that declares them."""
        self.swaps = 0
        """Number of swaps: what was computed from the plans is old once it has grown."""
        self.origins = Origins()
        engine.locate_by(self.origins.place)
        self._tree: PolicyTree | None = None
        self._generation = 0
        self._since = 0
        self._until: int | None = None
        self._listen()

    def _listen(self) -> None:
        """Have the limits across the cluster say when this process's part of them changes."""
        if isinstance(self.pools, PooledLimits):
            self.pools.on_share = self._on_share

    def _on_share(self) -> None:
        with self._changed:
            self._share_changed = True
            self._changed.notify_all()

    def enforce(
        self,
        tree: PolicyTree,
        generation: int,
        environment: str | None = None,
        as_of: int | None = None,
    ) -> list[list[object]]:
        """Put a tree in force. Returns the parts of the old plans (see ``cooperative.release``).

        ``environment``: identity of the environment that published it. ``as_of``: a past time, in
        nanoseconds since 1970; no request has been decided since. ``catch_up`` comes next.

        :raises BundleError: it must not be enforced; the tree in force stays.
        """
        with self._swapping:
            if self._central is not None:
                self._central.belong_to(environment)
            return self._swap(tree, generation, as_of)

    def catch_up(self) -> None:
        """Let exceptions start and end, in their order, that did since the tree is in force."""
        with self._swapping:
            while self._until is not None and self._until <= self._now_ns():
                assert self._tree is not None
                self._swap(self._tree, self._generation, self._until)

    def _swap(
        self, tree: PolicyTree, generation: int, as_of: int | None = None
    ) -> list[list[object]]:  # fmt: skip
        now = self._now_ns() if as_of is None else as_of
        collected: AbstractContextManager[Pools | None] = (
            nullcontext() if self.pools is None else self.pools.collected()
        )
        with collected as pools:
            central = self._central
            part: Part = "all" if central is None else "local"
            compiled = activated(tree, generation, self._wall, now, pools, part)
            proxies = proxies_by_scope(tree)
            if central is not None:
                plans = None
                if has_central(tree):
                    plans = activated(tree, generation, self._wall, now, part="central").plans
                central.follow(plans)
            self._engine.swap(compiled.plans, None if as_of is None else as_of - self._wall.ns)
            if central is not None:
                central.followed()
        self.swaps += 1
        self.proxies = proxies
        spent, self._compiled = self._compiled.parts(), compiled
        spent.append(list(self.origins.begin(tree, generation).values()))
        with self._changed:
            # Otherwise the plans never change, and the tree is not needed.
            self._tree = tree if tree.exceptions or self._has_parts(tree) else None
            self._generation = generation
            self._since, self._until = now, compiled.plans.until_ns
            self._changed.notify_all()
        return spent

    @property
    def scopes(self) -> Mapping[str, ScopePlan]:
        """Plans in force, by the declared scope."""
        return self._compiled.plans.scopes

    def keep_time(self) -> int:
        """Swap the plans if an exception started or ended, or if the clock was set back.

        Also if this process's part of limits across the cluster has changed. Return the time of
        which the plans are, in nanoseconds since 1970.

        :raises BundleError: it must not be enforced.
        """
        with self._swapping:
            self._share_changed = False
            now = self._now_ns()
            over = self._until is not None and now >= self._until
            is_timed = over or now < self._since
            if self._tree is None or not (is_timed or self._is_share_due):
                return now
            with cooperative():
                spent = self._swap(self._tree, self._generation)
            if is_timed:
                log.info("generation %d: exceptions as of now", self._generation)
            now = self._since
        with cooperative():
            release(*spent)
        return now

    def _has_parts(self, tree: PolicyTree) -> bool:
        """Return True if this process may have a part of a limit, by its share."""
        return isinstance(self.pools, PooledLimits) and tree.is_shared()

    @property
    def _is_share_due(self) -> bool:
        return isinstance(self.pools, PooledLimits) and self.pools.is_share_due

    def run(self) -> None:
        """Keep time until ``stop``. Never raises."""
        failed = False
        while self._wait(failed):
            try:
                self.keep_time()
                failed = self._note(None)
            except Exception as error:  # noqa: BLE001  the thread must survive any error
                failed = self._note(error)

    def _note(self, error: Exception | None) -> bool:
        """Set or end (None) the problem of exceptions; return True if there is one."""
        if error is not None:
            log.debug("keeping time", exc_info=error)
        if self._state is not None:
            text = f"exceptions cannot start or end; keeping the limits in force: {error}"
            self._state.problem("exceptions", None if error is None else text)
        return error is not None

    def _wait(self, failed: bool) -> bool:
        """Sleep until there may be work; return False after ``stop``."""
        with self._changed:
            if self._stopped:
                return False
            wait = None
            if self._tree is not None:
                wait = _LOOK_SECONDS
                # After a failure, waiting for ``_until`` would not wait at all: it has passed.
                if self._until is not None and not failed:
                    wait = max(0.0, min(wait, (self._until - self._now_ns()) / 1e9))
            if not self._share_changed or failed:
                self._changed.wait(wait)
            return not self._stopped

    def after_fork_in_child(self, state: AgentState) -> None:
        """Replace the locks: a thread of the parent, missing here, may have held them."""
        self._state = state
        self._swapping = threading.Lock()
        self._changed = threading.Condition()
        if self.pools is not None:
            self.pools.after_fork_in_child()
            self._listen()

    def stop(self) -> None:
        """Ask the thread to end."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
