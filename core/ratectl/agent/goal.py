"""Goals of an agent: the generations that a head asks it to enforce (candidate and live)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Self

from ratectl.agent.log import log
from ratectl.agent.trial_note import Trial
from ratectl.errors import BundleError
from ratectl.fleet.membership import included
from ratectl.records import Controller

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratectl.agent.last_good import LastGood
    from ratectl.records import Head
    from ratectl.stores.base import Item, Store

__all__ = ["NOTHING_IN_FORCE", "Goal", "controlled", "goals", "nothing_live"]

NOTHING_IN_FORCE: Final = "nothing is in force: on_error answers every request"


class Goal(NamedTuple):
    """A generation to enforce."""

    environment: str | None
    generation: int
    bundle: str
    rollout: str | None
    """The rollout whose candidate it is; None for the live generation."""

    @classmethod
    def of(cls, good: LastGood) -> Self:
        """Return the goal that last-good was persisted for."""
        return cls(good.environment, good.generation, good.bundle, good.rollout)

    @property
    def trial(self) -> Trial:
        """The goal as quarantine remembers it."""
        return Trial(self.generation, self.bundle, candidate=self.rollout is not None)

    @property
    def content(self) -> tuple[str | None, int, str]:
        """Environment, generation and bundle: equal for a candidate and after its promotion."""
        return self.environment, self.generation, self.bundle


def goals(
    head: Head,
    environment: str | None,
    agent_id: str,
    in_force: Goal | None,
    controlled_now: str | None,
) -> Iterator[Goal]:
    """Yield the goals of one agent under a head, best first.

    ``controlled_now``: the rollout that has a controller. An agent joins only that one; an agent
    that has joined a rollout stays in it.
    """
    candidate = head.candidate
    if candidate is not None and candidate.mode == "enforce":
        rollout = candidate.rollout
        joined = in_force is not None and in_force.rollout == rollout
        if included(rollout, agent_id, candidate.percent) and (joined or controlled_now == rollout):
            yield Goal(environment, candidate.generation, candidate.bundle, rollout)
    yield Goal(environment, head.generation, head.bundle, None)


def controlled(item: Item | None) -> str | None:
    """Return the id of the rollout that has a controller now; None if none has."""
    if item is None:
        return None
    try:
        return Controller.decode(item.value).rollout
    except BundleError as error:
        log.warning("%s", error)
        return None


def nothing_live(store: Store, in_force: int) -> str:
    """Return the problem of a store that has no head. ``in_force``: 0 if nothing is in force."""
    if in_force:
        return "the store has no live generation; keeping the one in force"
    return (
        f"nothing is published in {store.url} yet, so on_error answers every request: "
        "publish with `ratectl apply PATH` (with --xds, Envoy Gateway does), or correct the URL if "
        "policies should be there"
    )
