"""Ask every environment for its state, all at the same time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ratectl.environments.protection import name_problem, stored
from ratectl.environments.target import UNPROTECTED, Protection
from ratectl.errors import RatectlError
from ratectl.records import HEAD, Head
from ratectl.signing.continuation import read_environment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratectl.environments.target import Target

__all__ = ["Surveyed", "survey"]

_AT_ONCE: Final = 8


@dataclass(frozen=True, slots=True)
class Surveyed:
    """State of one environment."""

    target: Target
    problem: str | None = None
    """Why the store cannot be used; None if it can."""
    generation: int | None = None
    """The live generation; None if nothing is published."""
    stored: Protection = UNPROTECTED
    """Protection that the store itself has."""
    answers: bool = True
    """True if the store answers; it may still have another name."""

    @property
    def protection(self) -> Protection:
        """Protection by the store and by the file."""
        return self.stored | self.target.protection


def survey(targets: Sequence[Target], seconds: float) -> list[Surveyed]:
    """Return the state of each target, in order. ``seconds``: longest wait for one call."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(lambda target: _surveyed(target, seconds), targets))


def _surveyed(target: Target, seconds: float) -> Surveyed:
    try:
        with target.open(seconds) as store:
            record, head = read_environment(store), store.get(HEAD)
            problem = name_problem(record, target) if record is not None else None
            generation = Head.decode(head.value).generation if head else None
            return Surveyed(target, problem, generation, stored(record))
    except RatectlError as error:
        return Surveyed(target, str(error), answers=False)
