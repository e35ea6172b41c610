"""Whether agents run a generation: what ``apply --wait`` waits for.

Agents acknowledge by their own records, which live as long as their leases. An agent that runs a
later generation has passed this one. One that refused it keeps serving what it had, and says so.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Self

from ratectl.errors import StoreError
from ratectl.fleet.usage import read_agents

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ratectl.records import AgentRecord
    from ratectl.stores.base import Store

__all__ = ["EVERY_AGENT", "Enough", "Outcome", "Standing", "wait_for_agents", "wait_until"]

Outcome = Literal["reached", "rejected", "nobody", "timeout"]

_POLL_SECONDS: Final = 0.1


class Enough(NamedTuple):
    """How many agents are to run it: so many, or so many percent of those that are there."""

    number: int | None = None
    percent: float = 100.0

    @classmethod
    def parse(cls, text: str) -> Self:
        """``3`` or ``50%``.

        :raises ValueError: neither.
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
        raise ValueError(f"{text!r} is no number of agents, like 3, and no share of them, like 50%")

    def of(self, there: int) -> int:
        """How many of ``there`` agents."""
        if self.number is not None:
            return self.number
        return max(1, math.ceil(there * self.percent / 100))


EVERY_AGENT: Final = Enough()


def _runs(agent: AgentRecord, generation: int) -> bool:
    """Whether it runs a generation, or has passed it: who tries a candidate may come back."""
    if agent.rollout is not None:
        return agent.generation == generation
    return agent.generation >= generation


@dataclass(frozen=True, slots=True)
class Standing:
    """Agents by what they make of a generation."""

    running: Sequence[AgentRecord]
    rejected: Sequence[AgentRecord]
    behind: Sequence[AgentRecord]

    @classmethod
    def of(cls, records: Sequence[AgentRecord], generation: int) -> Self:
        running = [each for each in records if _runs(each, generation)]
        others = [each for each in records if not _runs(each, generation)]
        return cls(
            running,
            [each for each in others if each.rejected == generation],
            [each for each in others if each.rejected != generation],
        )

    @property
    def there(self) -> int:
        """How many agents there are."""
        return len(self.running) + len(self.rejected) + len(self.behind)

    def outcome(self, wanted: Enough) -> Outcome | None:
        """What there is to wait for no more; None where time may still tell."""
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
    """Wait until so many agents run a generation, one rejects it, or the time is up.

    Where no agent is there, nobody is waited for. A store that is out of reach is asked again.

    :raises StoreError: it was out of reach all the time.
    """

    def look() -> Standing:
        return Standing.of(read_agents(store), generation)

    return wait_until(look, wanted, seconds, clock=clock, sleep=sleep)


def wait_until(
    look: Callable[[], Standing],
    wanted: Enough,
    seconds: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> tuple[Outcome, Standing]:
    """The same for whatever ``look`` says of the agents.

    :raises StoreError: ``look`` raised it all the time.
    """
    ends = clock() + seconds
    standing: Standing | None = None
    while True:
        try:
            standing = look()
            outcome = standing.outcome(wanted)
        except StoreError:
            outcome = None
            if standing is None and clock() >= ends:
                raise
        if standing is not None and (outcome or clock() >= ends):
            return outcome or "timeout", standing
        sleep(_POLL_SECONDS)
