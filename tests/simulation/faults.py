"""Faults of a simulated cluster, and what members are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratectl.cluster.protocol.timing import MILLISECOND as MS
from simulation.world import POOLS, Cluster

if TYPE_CHECKING:
    from collections.abc import Callable

    from simulation.world import Member, Node


class FaultyCluster(Cluster):
    """A cluster with one method for each kind of step in a schedule."""

    def _nodes(self) -> list[Node]:
        return [*self.members, *self.owner_nodes]

    def _do_ask(self, true: int, who: int, key: int, cost: int, count: int) -> None:
        member = self.members[who % len(self.members)]
        if not self._when_awake(member, lambda t: self._do_ask(t, who, key, cost, count), true):
            return
        self._obey_entry(member)
        for _ in range(count):
            if not self.ask(member, POOLS[key], cost, true):
                break
        self._look(member, true)

    def _do_calm(self, true: int, *_: int) -> None:
        pass

    def _do_pause(self, true: int, a: int, b: int, lasts: int, ways: int) -> None:
        nodes = self._nodes()
        nodes[a % len(nodes)].paused_until = true + lasts

    def _do_cut(self, true: int, a: int, b: int, lasts: int, ways: int) -> None:
        member, owner = f"m{a % len(self.members)}", f"o{b % len(self.owners)}"
        if ways != 1:
            self._cuts[member, owner] = true + lasts
        if ways != 2:
            self._cuts[owner, member] = true + lasts

    def _do_crash(self, true: int, a: int, *_: int) -> None:
        member = self.members[a % len(self.members)]
        now = member.clock.at(true)
        last = member.lender._last_session + 1_000
        resume_at = None if self.parts.resumes_at_start else now + self._member_timing.resume_after
        share = member.lender.share
        if member.membership is not None:
            # The new process does not know how long its entry lasts: it has a name of its own.
            member.is_member = False
            member.membership.use_until = now
            share = 0
        self._start(
            member,
            now,
            share,
            full=self.parts.resumes_at_start,
            resume_at=resume_at,
            last_session=last,
        )

    def _do_crash_owner(self, true: int, a: int, *_: int) -> None:
        number = a % len(self.owners)
        incarnation = self.owners[number].id.incarnation + 1
        self.owners[number] = self._new_owner(number, incarnation, self.owner_nodes[number], true)

    def _do_hint(self, true: int, a: int, b: int, *_: int) -> None:
        self.members[a % len(self.members)].hint = b % len(self.owners)

    def _do_hint_all(self, true: int, a: int, *_: int) -> None:
        for member in self.members:
            member.hint = a % len(self.owners)

    def _do_store(self, true: int, a: int, b: int, lasts: int, ways: int) -> None:
        if ways == 0:
            for node in self._nodes():
                node.no_store_until = true + lasts
        else:
            self.members[a % len(self.members)].no_store_until = true + 3 * lasts

    def _do_close(self, true: int, a: int, *_: int) -> None:
        member = self.members[a % len(self.members)]
        if self._when_awake(member, lambda t: self._do_close(t, a), true):
            self._to_owner(member, member.lender.close(member.clock.at(true)), true)

    def _do_join(self, true: int, *_: int) -> None:
        if len(self.members) < self.schedule.members + 4:
            self._add_member(true, 0, full=False)

    def _do_donate(self, true: int, a: int, b: int, *_: int) -> None:
        """A member gives half of its share to another: it shrinks first."""
        donor, other = self.members[a % len(self.members)], self.members[b % len(self.members)]
        if (
            donor is other
            or donor.name not in self.roster
            or not donor.is_member
            or not other.is_member
        ):
            return
        if not self._when_awake(donor, lambda t: self._do_donate(t, a, b), true):
            return
        now = donor.clock.at(true)
        part = donor.lender.share // 2
        donor.lender.set_share(donor.lender.share - part)
        donor.own.change(now, donor.lender.share, donor.own.sizes)
        lender = donor.lender
        ready = now if self.parts.donates_at_once else now + self._member_timing.resume_after

        def give(t: int) -> None:
            if donor.lender is not lender:
                return  # a process that crashed gives nothing away
            if donor.clock.at(t) < ready and lender.counted > lender.share:
                self.at(t + MS, give)
            elif donor.name in self.roster and other.name in self.roster and donor.is_member:
                self.roster[donor.name][1] -= part
                self.roster[other.name][1] += part
                self.at(t + 2 * MS, lambda u: self._take_share(other, part, u))

        give(true)

    def _take_share(self, member: Member, part: int, true: int) -> None:
        if not self._when_awake(member, lambda t: self._take_share(member, part, t), true):
            return
        if member.is_member:
            member.lender.set_share(member.lender.share + part)
            member.own.change(member.clock.at(true), member.lender.share, member.own.sizes)

    def _do_resize(self, true: int, a: int, *_: int) -> None:
        """A generation with other sizes: each member learns of it at another time."""
        self.version += 1
        version = self.version
        for member in self.members:
            self.at(true + self._rnd.randrange(100 * MS), self._resizer(member, version))

    def _resizer(self, member: Member, version: int) -> Callable[[int], None]:
        def resize(true: int) -> None:
            if not self._when_awake(member, resize, true):
                return
            sizes = self.sizes(version)
            member.own.change(member.clock.at(true), member.lender.share, sizes)
            member.lender.set_sizes(sizes, (POOLS[0],))

        return resize
