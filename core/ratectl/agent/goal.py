"""Generations that a head wants an agent to enforce: a candidate, and the live one."""

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
    """A generation to enforce; of a rollout, where it is a candidate."""

    environment: str | None
    generation: int
    bundle: str
    rollout: str | None

    @classmethod
    def of(cls, good: LastGood) -> Self:
        """Return the goal that was reached with what is on disk."""
        return cls(good.environment, good.generation, good.bundle, good.rollout)

    @property
    def trial(self) -> Trial:
        """Its name in quarantine."""
        return Trial(self.generation, self.bundle, candidate=self.rollout is not None)

    @property
    def content(self) -> tuple[str | None, int, str]:
        """Its content, live or a candidate."""
        return self[:3]


def goals(
    head: Head,
    environment: str | None,
    agent_id: str,
    in_force: Goal | None,
    controlled_now: str | None,
) -> Iterator[Goal]:
    """Yield what a head wants of one agent, first choice first.

    ``controlled_now``: the rollout that somebody controls. An agent joins no other; one that has
    joined stays.
    """
    candidate = head.candidate
    if candidate is not None and candidate.mode == "enforce":
        rollout = candidate.rollout
        joined = in_force is not None and in_force.rollout == rollout
        if included(rollout, agent_id, candidate.percent) and (joined or controlled_now == rollout):
            yield Goal(environment, candidate.generation, candidate.bundle, rollout)
    yield Goal(environment, head.generation, head.bundle, None)


def controlled(item: Item | None) -> str | None:
    """Return the id of the rollout that is controlled now; None where none is."""
    if item is None:
        return None
    try:
        return Controller.decode(item.value).rollout
    except BundleError as error:
        log.warning("%s", error)
        return None


def nothing_live(store: Store, in_force: int) -> str:
    """Return the problem of a store that has no head; ``in_force`` is 0 where nothing is."""
    if in_force:
        return "the store has no live generation; keeping the one in force"
    return (
        f"nothing is published in {store.url} yet, so on_error answers every request: "
        "publish with `ratectl apply PATH`, or mend the URL if policies should be there"
    )
