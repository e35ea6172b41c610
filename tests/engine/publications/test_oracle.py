"""The oracle is judged as well: it accepts ideal buckets, and finds those that forget."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from engine.publications.drawing import KINDS
from engine.publications.ideal import Ideal
from engine.publications.playing import Failure, Looser, Player
from engine.publications.promise import Ledger, Time
from engine.publications.seeds import drawn
from ratectl.engine.decision import Decision
from ratectl.engine.pure import PureEngine

if TYPE_CHECKING:
    from engine.publications.playing import Seen, Story
    from engine.publications.rules import Rule

SEEDS = range(8)


class Apart(Ledger):
    """A ledger of a bucket that several requests share: here they do not."""

    def admit(self, at: Time, cost: int) -> Any:
        return super().admit(at, cost)[0], None


class IdealPlayer(Player):
    """Requests are decided by their ideal buckets, not by an engine."""

    ideal: type[Ideal] = Ideal

    def _follow(self, seen: Seen, rulings: Any, at: Time) -> None:
        for name in rulings:
            seen.ideals.setdefault(name, self.ideal())
        super()._follow(seen, rulings, at)

    def _share(self, at: Time) -> None:
        super()._share(at)
        self.shared = {identity: Apart() for identity in self.shared}
        for ledger in self.shared.values():
            ledger.rule(None, at)

    def _decide(self, seen: Seen, cost: int, at: Time) -> Decision:
        admitted = all(seen.ideals[name].admits(cost, at) for name in seen.rulings)
        return Decision(admitted, "ok" if admitted else "limited", self.generation)

    def do_named(self, number: int, cost: int) -> None:
        self.do_ask(number, cost)

    def _compare(self, seen: Seen, decision: Decision, cost: int) -> None:
        return None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", SEEDS)
def test_ideal_buckets_keep_the_promise(kind: str, seed: int) -> None:
    IdealPlayer(PureEngine, drawn(seed, kind, False, 30)).play()


class Forgetful(Ideal):
    """Begins full after every change."""

    def rule(self, rule: Rule | None, at: Time) -> None:
        super().rule(None, at)
        super().rule(rule, at)


class Generous(Ideal):
    """Charges one less than it should, when it can."""

    def charge(self, charge: Any, cost: int, at: Time) -> None:
        super().charge(charge, max(1, cost - 1), at)


@pytest.mark.parametrize("wrong", [Forgetful, Generous])
@pytest.mark.parametrize("kind", KINDS)
def test_buckets_that_forget_are_found(kind: str, wrong: type[Ideal]) -> None:
    class WrongPlayer(IdealPlayer):
        ideal = wrong

    assert any(_looser(WrongPlayer, drawn(seed, kind, False, 30)) for seed in SEEDS)


def _looser(player: type[Player], story: Story) -> bool:
    try:
        player(PureEngine, story).play()
    except Failure as found:
        return isinstance(found, Looser)
    return False
