"""Invariants of a simulated cluster, checked after each event."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from ratectl.cluster.protocol.capacity import GRAINS, WHOLE, Lent, Size
from simulation.faults import FaultyCluster
from simulation.world import LEASE, POOLS, Violation

if TYPE_CHECKING:
    from ratectl.cluster.protocol.messages import PoolId
    from ratectl.cluster.protocol.owner import Owner
    from simulation.world import Member

_STEPS: Final = 3 * 257
"""Steps of windows of three lengths."""


class World(FaultyCluster):
    """A cluster that is compared with central buckets."""

    @cached_property
    def _versions(self) -> dict[Size, Size]:
        """True sizes, by those that members use."""
        return {self.sizes(version)["one"]: self._true_size(version) for version in range(6)}

    @cached_property
    def _most_members(self) -> int:
        return self.schedule.largest

    @cached_property
    def _lents(self) -> dict[tuple[tuple[Size | None, int], ...], Lent]:
        """The capacity that sessions lend together, by their sizes and shares."""
        return {}

    def _resize_central(self, true: int) -> None:
        """Let the central buckets have the largest size that anybody admits by.

        They shrink only when tokens of the larger size are spent or void everywhere.
        """
        sizes = [member.own.sizes["one"] for member in self.members]
        for owner in self.owners:
            sizes += [s.sizes["one"] for s in owner.sessions.values() if "one" in s.sizes]
        if self.schedule.window:
            true_sizes = {self._versions[size] for size in set(sizes)}
            for central in self.central.values():
                central.in_force(true_sizes, true)
            return
        largest = max(sizes)
        if largest != self._largest:
            self._largest, self._larger_until = largest, true + 4 * LEASE
        elif not self._larger_until:
            return
        ratio = 1_000_000 + self.schedule.drift
        burst = largest.burst + self.schedule.added * self._most_members
        size = Size((largest.rate + 1) * ratio // 1_000_000 + 1, burst)
        shrinks = true > self._larger_until
        for central in self.central.values():
            if size > central.size or (shrinks and size < central.size):
                central.resize(size, true)
        if shrinks:
            self._larger_until = 0

    def check(self, true: int) -> None:
        """Raise if shares or tokens are at two places, or more could be admitted than allowed."""
        if self.version:
            self._resize_central(true)
        shares = 0
        using: list[tuple[Member, int]] = []
        spending: list[Member] = []
        for member in self.members:
            now = member.clock.at(true)
            if member.lender.lent:
                if member.wallets.usable(now):
                    spending.append(member)
            elif now < member.use_until():
                using.append((member, now))
                shares += member.lender.share
        pooling: list[tuple[Owner, int, list[Any]]] = []
        for owner, node in zip(self.owners, self.owner_nodes, strict=True):
            now = node.clock.at(true)
            lending = [s for s in owner.sessions.values() if s.lending and s.lend_until > now]
            shares += sum(session.share for session in lending)
            if lending:
                pooling.append((owner, now, lending))
        if shares > WHOLE:
            raise Violation(true, f"shares are counted twice: {shares} millionths")
        if self.schedule.window:
            self._check_places(true)
        for name in POOLS:
            grains = sum([member.wallets.tokens(name) for member in spending]) * GRAINS
            grains += sum([member.own.level(name, now) for member, now in using])
            grains += sum(
                [self._pooled(owner, name, now, lending) for owner, now, lending in pooling]
            )
            central = self.central[name]
            # Clocks count whole nanoseconds: each place may be ahead by one.
            rate = 0 if self.schedule.window else central.size.rate
            slack = 4 * (len(self.members) + len(self.owners)) * rate * WHOLE
            if grains > (left := central.now(true)) + slack:
                more = (grains - left) / GRAINS
                raise Violation(true, f"{more:.3f} tokens of {name} more than one bucket has")

    def _check_places(self, true: int) -> None:
        """Raise if a place of a window is not in one state: free, held or cooling."""
        limits = [limit for owner in self.owners for limit in owner.limits.values()]
        limits += [limit for member in self.members for limit in member.own.limits.values()]
        for limit in limits:
            for pool in (limit.untouched, *limit.pools.values()) if limit.lent.window else ():
                held = pool.held * GRAINS
                places = pool.level + pool.cooling.total + held
                if places != max(held, limit.lent.capacity) or pool.level < 0:
                    raise Violation(true, f"{places} places of {limit.lent.capacity}")
                if len(pool.cooling.steps) > _STEPS:
                    raise Violation(true, f"{len(pool.cooling.steps)} steps of a window")

    def _pooled(self, owner: Owner, name: PoolId, now: int, lending: list[Any]) -> int:
        """Return the grains that an owner could grant now."""
        limit = owner.limits.get(name.limit)
        if limit is None:
            return 0
        pool = limit.pools.get(name.key, limit.untouched)
        lent = self._lent([(each.sizes.get(name.limit), each.share) for each in lending])
        level = pool.level + lent.rate * max(0, now - pool.at)
        if pool.cooling.steps:
            level += sum([step.grains for step in pool.cooling.steps if step.at <= now])
        return min(level, pool.room(lent))

    def _lent(self, parts: list[tuple[Size | None, int]]) -> Lent:
        key = tuple(parts)
        lent = self._lents.get(key)
        if lent is None:
            lent = self._lents[key] = Lent()
            for size, share in parts:
                if size is not None:
                    lent.add(size, share)
        return lent
