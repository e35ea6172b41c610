"""Faulty sliding windows, each wrong in one place. The simulation must find every one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from ratectl.cluster.protocol import cooling
from ratectl.cluster.protocol.capacity import GRAINS, Lent
from ratectl.cluster.protocol.cooling import Cooling, Step
from ratectl.cluster.protocol.left_shares import Left
from ratectl.cluster.protocol.messages import Lending
from ratectl.cluster.protocol.owner import Owner
from ratectl.cluster.protocol.pool import Account, LentLimit, Pool
from ratectl.cluster.protocol.session import Session
from simulation.mutants import void_tokens_are_free

if TYPE_CHECKING:
    import pytest

    from ratectl.cluster.protocol.capacity import Size
    from ratectl.cluster.protocol.messages import Drawn, Poll


def cools_from_the_grant(patch: pytest.MonkeyPatch) -> None:
    granted: dict[int, int] = {}
    early = [0]
    grant, report, add = Pool.grant, Pool.report, Cooling.add

    def remember(self: Pool, account: Account, tokens: int) -> int:
        granted[id(account)] = self.at
        return grant(self, account, tokens)

    def from_grant(self: Pool, account: Account, drawn: Drawn, lent: Lent) -> None:
        early[0] = self.at - granted.get(id(account), self.at)
        report(self, account, drawn, lent)
        early[0] = 0

    patch.setattr(Pool, "grant", remember)
    patch.setattr(Pool, "report", from_grant)
    patch.setattr(
        Cooling, "add", lambda self, grains, at, window: add(self, grains, at - early[0], window)
    )


def forgets_what_cools_when_a_share_lapses(patch: pytest.MonkeyPatch) -> None:
    unlend = Owner._unlend

    def forget(self: Owner, session: Any, now: int) -> None:
        unlend(self, session, now)
        for limit in self.limits.values():
            for pool in limit.pools.values() if limit.lent.window else ():
                pool.cooling = Cooling()
                pool.level = pool.room(limit.lent)

    patch.setattr(Owner, "_unlend", forget)


def rounds_down(patch: pytest.MonkeyPatch) -> None:
    bits = cooling._STEP_BITS
    patch.setattr(
        cooling,
        "_rounded",
        lambda at, window: at >> window.bit_length() - bits << window.bit_length() - bits,
    )


def unknown_places_are_free(patch: pytest.MonkeyPatch) -> None:
    """Uses a share at once whose past nobody knows."""
    lend = LentLimit.lend

    def lend_all(self: LentLimit, size: Size, share: int, brought: Any, now: int) -> None:
        lend(self, size, share, brought or Lending(size.burst * GRAINS, {}), now)

    patch.setattr(LentLimit, "lend", lend_all)


def void_tokens_do_not_cool(patch: pytest.MonkeyPatch) -> None:
    void_tokens_are_free(patch)


def growth_is_free(patch: pytest.MonkeyPatch) -> None:
    change = LentLimit.change

    def grow(self: LentLimit, size: Size, share: int, now: int, unused: int = 0) -> Lending:
        before = self.lent.capacity
        lending = change(self, size, share, now, unused)
        for pool in self._all() if share > 0 else ():
            grown = min(self.lent.capacity - before, pool.cooling.total)
            pool.cooling.drop(grown)
            pool.level += grown
        return lending

    patch.setattr(LentLimit, "change", grow)


def growth_is_free_after_a_pause(patch: pytest.MonkeyPatch) -> None:
    """Forgets that the limit was as large before."""
    resize = Session.resize

    def forgetful(self: Session, share: int, sizes: Any, now: int) -> Any:
        since = self.steady_since
        unused = resize(self, share, sizes, now)
        self.steady_since = since
        return unused

    patch.setattr(Session, "resize", forgetful)


def finds_a_share_as_it_left_it(patch: pytest.MonkeyPatch) -> None:
    """Does not ask where the share was since."""
    lend = Owner._lend

    def stale(self: Owner, session: Any, poll: Poll, now: int) -> None:
        lend(self, session, replace(poll, lending=None), now)

    patch.setattr(Owner, "_lend", stale)


def gives_back_all_as_free(patch: pytest.MonkeyPatch) -> None:
    now_ = Left.now

    def free(self: Left, now: int) -> Any:
        return {
            name: lent._replace(
                touched={
                    key: level + sum(step.grains for step in lent.cooling.get(key, ()))
                    for key, level in lent.touched.items()
                }
            )
            for name, lent in now_(self, now).items()
        }

    patch.setattr(Left, "now", free)


def counts_time_twice(patch: pytest.MonkeyPatch) -> None:
    """Spent tokens of a share that left cool twice as fast."""
    now_ = Left.now
    patch.setattr(Left, "now", lambda self, now: now_(self, 2 * now - self.at))


def brings_a_part_of_the_time(patch: pytest.MonkeyPatch) -> None:
    bring = Pool.bring

    def sooner(self: Pool, level: int, steps: Any, own: Lent, lent: Lent) -> None:
        bring(self, level, tuple(Step(at * 3 // 4, grains) for at, grains in steps), own, lent)

    patch.setattr(Pool, "bring", sooner)


WINDOWS: Final = {
    function.__name__.replace("_", " "): function
    for function in (
        cools_from_the_grant, forgets_what_cools_when_a_share_lapses, rounds_down,
        unknown_places_are_free, void_tokens_do_not_cool,
        growth_is_free, growth_is_free_after_a_pause, finds_a_share_as_it_left_it,
        gives_back_all_as_free, counts_time_twice, brings_a_part_of_the_time,
    )
}  # fmt: skip
