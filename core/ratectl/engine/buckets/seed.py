"""Seeds: buckets from which those of another group start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ratectl.engine.limit_plan import Identity

__all__ = ["Seed", "lend"]


class Seed(Protocol):
    """Buckets from which those of another group start: a group, or a family of groups."""

    seed: Seed | None
    """The seed's own seed."""
    lent_until: int | None
    """Instant until which other groups may start from these buckets; None is for ever."""

    @property
    def identity(self) -> Identity:
        """Identity of these buckets."""

    @property
    def max_debt(self) -> int:
        """Largest debt (cost below empty) of any bucket here, or of one that it began as."""

    @property
    def names(self) -> Iterable[str]:
        """Attributes that select a request's bucket."""

    def sources(
        self, attributes: Mapping[str, str], heir: Any, now: int, stood: Any, *, alike: bool
    ) -> tuple[Any, ...]:
        """Return the groups from whose buckets an heir's bucket for a request starts."""

    def lent(self, now: int) -> bool:
        """Return True if another group may still start from these buckets."""

    def end_line(self) -> None:
        """Forget the seed, even if it still holds charges."""


def lend(seed: Seed | None, until: int | None) -> None:
    """Mark a seed and its own seeds as lent until then; None is for ever."""
    while seed is not None:
        if until is None or seed.lent_until is None:
            seed.lent_until = None
        else:
            seed.lent_until = max(seed.lent_until, until)
        seed = seed.seed
