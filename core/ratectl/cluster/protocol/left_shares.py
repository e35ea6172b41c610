"""Shares that an owner does not count any more, with what was left of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ratectl.cluster.protocol.cooling import Step, fitting

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratectl.cluster.protocol.messages import Lending

__all__ = ["Left", "LeftShares"]


class Left(NamedTuple):
    """Rest of a share, from the time when the owner ceased to count it."""

    session: int
    at: int
    lending: Mapping[str, Lending]

    def now(self, now: int) -> Mapping[str, Lending]:
        """Return it as it is now: spent tokens have cooled since."""
        aged = self.at - now
        return {
            name: lent._replace(
                cooling={
                    key: tuple([Step(max(0, after + aged), grains) for after, grains in steps])
                    for key, steps in lent.cooling.items()
                }
            )
            for name, lent in self.lending.items()
        }


class LeftShares:
    """Rests of shares, by member, until the members lend them again."""

    def __init__(self) -> None:
        self._left: dict[str, Left] = {}

    def add(self, member: str, session: int, lending: Mapping[str, Lending], now: int) -> None:
        """Keep what was left of a share."""
        self._left[member] = Left(session, now, fitting(lending))

    def pop(self, member: str, now: int) -> Mapping[str, Lending]:
        """Return what was left of a share, and forget it: it is lent again."""
        left = self._left.pop(member, None)
        return {} if left is None else left.now(now)

    def of(self, member: str, session: int, now: int) -> Mapping[str, Lending]:
        """Return what was left of a share that was lent in a session."""
        left = self._left.get(member)
        if left is None or left.session != session:
            return {}
        return left.now(now)

    def forget(self, before: int) -> None:
        """Forget what was left before an instant."""
        self._left = {member: left for member, left in self._left.items() if left.at >= before}
