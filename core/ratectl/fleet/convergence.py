"""Convergence: wait until agents run a generation, or obey a kill switch or a reset.

Agents acknowledge a generation in their own records, which exist as long as their leases. An agent
that runs a later generation counts as well. An agent that rejects the generation keeps its old one
and reports the rejection.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Protocol, Self

from ratectl.errors import StoreError
from ratectl.fleet.usage import read_agents

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ratectl.records import AgentRecord
    from ratectl.stores.base import Store

__all__ = [
    "EVERY_AGENT",
    "Enough",
    "Obeyed",
    "Outcome",
    "Standing",
    "wait_for_agents",
    "wait_until_obeyed",
]

Outcome = Literal["reached", "rejected", "nobody", "timeout"]

_POLL_SECONDS: Final = 0.1
_FIRST_REPORT: Final = 2.0
"""Seconds until an agent that has just started has reported, at most."""


class Enough(NamedTuple):
    """Required agents: a number, or a percentage of the agents that report."""

    number: int | None = None
    percent: float = 100.0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse ``3`` or ``50%``.

        :raises ValueError: the text has another form, or is out of range.
        """
        number = text.removesuffix("%")
        try:
            if number != text:
                percent = float(number)
                if 0 < percent <= 100:
                    return cls(percent=percent)
            elif int(number) > 0:
                return cls(number=int(number))
        except ValueError:
            pass
        raise ValueError(f"{text!r} is neither a number of agents, like 3, nor a share, like 50%")

    def of(self, present: int) -> int:
        """Return the required number out of ``present`` agents."""
        if self.number is not None:
            return self.number
        return max(1, math.ceil(present * self.percent / 100))


EVERY_AGENT: Final = Enough()


def _runs(agent: AgentRecord, generation: int) -> bool:
    """Return True if an agent runs the generation or a later live one."""
    if agent.rollout is not None:  # after an abort, the agent would return to an earlier one
        return agent.generation == generation
    return agent.generation >= generation


class Obeyed(Protocol):
    """A record that agents obey, and whose number they then report."""

    def obeyed_by(self, agent: AgentRecord) -> bool:
        """Return True if an agent has obeyed it, or a newer one."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Agents grouped by their state for one generation, or for one record that they obey."""

    running: Sequence[AgentRecord]
    rejected: Sequence[AgentRecord]
    behind: Sequence[AgentRecord]

    @classmethod
    def of(cls, records: Sequence[AgentRecord], generation: int) -> Self:
        running = [agent for agent in records if _runs(agent, generation)]
        others = [agent for agent in records if not _runs(agent, generation)]
        return cls(
            running,
            [agent for agent in others if agent.rejected == generation],
            [agent for agent in others if agent.rejected != generation],
        )

    @property
    def there(self) -> int:
        """Number of agents that report."""
        return len(self.running) + len(self.rejected) + len(self.behind)

    def outcome(self, wanted: Enough) -> Outcome | None:
        """Return the outcome that ends the wait; None while it has to go on."""
        if self.rejected:
            return "rejected"
        if not self.there:
            return "nobody"
        return "reached" if len(self.running) >= wanted.of(self.there) else None


def wait_for_agents(
    store: Store,
    generation: int,
    wanted: Enough = EVERY_AGENT,
    *,
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> tuple[Outcome, Standing]:
    """Wait until enough agents run a generation, one rejects it, or ``seconds`` have passed.

    Without any agent the wait ends soon: one that has just started reports within two seconds. A
    store that does not answer is asked again.

    :raises StoreError: it never answered.
    """

    def look() -> Standing:
        return Standing.of(read_agents(store), generation)

    return _wait_until(look, wanted, seconds, clock=clock, sleep=sleep)


def wait_until_obeyed(store: Store, record: Obeyed, seconds: float) -> tuple[Outcome, Standing]:
    """Wait at most ``seconds`` until every agent obeys a record: a kill switch, or a reset.

    :raises StoreError: the store never answered.
    """

    def look() -> Standing:
        agents = read_agents(store)
        return Standing(
            [agent for agent in agents if record.obeyed_by(agent)],
            [],
            [agent for agent in agents if not record.obeyed_by(agent)],
        )

    return _wait_until(look, EVERY_AGENT, seconds)


def _wait_until(
    look: Callable[[], Standing],
    wanted: Enough,
    seconds: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> tuple[Outcome, Standing]:
    """Wait as ``wait_for_agents`` does, but get the agents' state from ``look``.

    :raises StoreError: every call of ``look`` raised it.
    """
    began = clock()
    ends = began + seconds
    standing: Standing | None = None
    while True:
        try:
            standing = look()
            outcome = standing.outcome(wanted)
        except StoreError:
            outcome = None
            if standing is None and clock() >= ends:
                raise
        until = min(ends, began + _FIRST_REPORT) if outcome == "nobody" else ends
        is_over = outcome not in (None, "nobody") or clock() >= until
        if standing is not None and is_over:
            return outcome or "timeout", standing
        sleep(_POLL_SECONDS)
