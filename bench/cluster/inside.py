"""Many members in one process: real engines and state machines, a simulated clock and network."""

from __future__ import annotations

import heapq
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from bench.cluster.processes import Answer
from bench.cluster.requests import SECOND, Requests
from cluster.machine import Machine, Member
from ratectl.engine.native.engine import FastEngine

if TYPE_CHECKING:
    from collections.abc import Callable

    from ratectl.cluster.transport.codec import Message

__all__ = ["answers_inside"]

_START: Final = 2 * SECOND


class _Members(Machine):
    """Members that run at the pace of real ones. Messages take half of a round trip."""

    def __init__(self, requests: Requests, round_trip: int) -> None:
        super().__init__(fleet=(requests.rate, requests.rate))
        self.make_engine = FastEngine
        self._delay = round_trip // 2
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0
        self._next_round: dict[str, int] = {}
        for member in self.start(requests.processes):
            self._keep(member)
            self._round(member)

    def at(self, when: int, act: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (when, self._count, act))

    def go_to(self, end: int) -> None:
        """Do what is due until an instant."""
        while self._events and self._events[0][0] <= end:
            self.now, _, act = heapq.heappop(self._events)
            act()
        self.now = end

    def carry(self, sender: str, to: str, message: Message) -> bool:
        self.at(self.now + self._delay, lambda: self._deliver(sender, to, message))
        return to in self.members

    def _deliver(self, sender: str, to: str, message: Message) -> None:
        super().carry(sender, to, message)
        self._round(self.members[to])

    def _round(self, member: Member) -> None:
        """Do what a member's thread does when a message has come or its pause is over."""
        if member.limits.is_share_due:
            member.publish(member.sizes)
        member.node.round(0)
        until = self._next_round[member.links.name] = self.now + member.node._pause()
        self.at(until, lambda: self._round_if_due(member))

    def _round_if_due(self, member: Member) -> None:
        if self._next_round[member.links.name] == self.now:
            self._round(member)

    def _keep(self, member: Member) -> None:
        member.keeper.step(self.now)
        pause = int(member.keeper._pause() * SECOND)
        self.at(self.now + pause, lambda: self._keep(member))


def answers_inside(requests: Requests, round_trip: int) -> list[Answer]:
    """Let members in this process decide; fail if any decision was one too many.

    :param round_trip: nanoseconds.
    """
    cluster = _Members(requests, round_trip)
    members = list(cluster.members.values())
    instants = heapq.merge(
        *(
            [(_START + at, process) for at in requests.instants(process)]
            for process in range(len(members))
        )
    )
    answers = []
    for at, process in instants:
        cluster.go_to(at)
        allowed = members[process].ask()
        members[process].unsettled.clear()
        answers.append(Answer(at, process, int(allowed)))
    return answers
