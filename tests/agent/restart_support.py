"""Processes of one agent, one after the other, in a time that the test moves."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from ratectl.agent.enforcement import Enforcement
from ratectl.agent.goal import Goal
from ratectl.agent.kept_counters import KeptCounters
from ratectl.agent.last_good import LastGood
from ratectl.agent.resets import StoreResets
from ratectl.agent.state import AgentState
from ratectl.agent.wall_clock import WallClock
from ratectl.engine.stable_keys import StableKeys
from ratectl.errors import BundleError
from ratectl.policy.language.model import Exemption
from ratectl.records import Head
from support import policies

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from engine.engines import MakeEngine
    from ratectl.policy.language.model import PolicyTree

SECOND: Final = 10**9
SECRET: Final = bytes(range(32))
START: Final = 1_893_456_000 * SECOND
"""First of January 2030."""

Documents = dict[str, dict[str, Any]]


class Time:
    """Time of the world, and the clocks of one process: the monotonic one began at its boot."""

    def __init__(self, world: list[int], booted: int) -> None:
        self._world = world
        self._booted = booted
        self.set_by = 0
        """Nanoseconds by which somebody has set the wall clock forward."""

    def monotonic_ns(self) -> int:
        return self._world[0] - self._booted

    def time_ns(self) -> int:
        return self._world[0] + self.set_by


class Published:
    """Generations of one environment."""

    def __init__(self) -> None:
        self.all: list[tuple[LastGood, PolicyTree]] = []

    def add(self, documents: Documents, exceptions: Sequence[dict[str, Any]] = ()) -> None:
        number = len(self.all) + 1
        bundle = f"{number:064x}"
        head = Head(sequence=number, generation=number, bundle=bundle)
        good = LastGood(number, "prod", bundle, head, b"")
        tree = policies(**documents)
        of_time = tuple([Exemption.model_validate(each) for each in exceptions])
        self.all.append((good, replace(tree, exceptions=of_time)))

    def find(self, bundle: str) -> tuple[LastGood, PolicyTree]:
        for good, tree in self.all:
            if good.bundle == bundle:
                return good, tree
        raise BundleError("not on disk")


class Process:
    """One process of an agent, which follows the newest generation."""

    def __init__(
        self,
        make: MakeEngine,
        world: list[int],
        published: Published,
        folder: Path,
        *,
        booted: int = START,
        set_by: int = 0,
        secret: bytes = SECRET,
        **options: Any,
    ) -> None:
        self.time = Time(world, booted)
        self.time.set_by = set_by
        self.wall = WallClock(self.time)  # type: ignore[arg-type]  # it has both clocks
        self.engine = make(self.time.monotonic_ns, stable_keys=StableKeys(secret), **options)
        self.state = AgentState()
        self.enforcement = Enforcement(self.engine, self.wall)
        self.kept = KeptCounters(
            self.engine, self.enforcement, self.state, self.wall, folder, secret
        )
        self.published = published
        self.good, tree = published.all[-1]
        self.resets = StoreResets(self.engine, self.state, lambda *_: None)
        self.kept.follow(lambda: Goal.of(self.good), self.resets)
        self.kept.enforce(self.good, tree, published.find)

    def adopt(self) -> None:
        self.enforcement.catch_up()
        self.good, tree = self.published.all[-1]
        self.enforcement.enforce(tree, self.good.generation, self.good.environment)

    def ask(self, scope: str, attributes: Mapping[str, str], cost: Any = 1) -> Any:
        self.enforcement.catch_up()
        return self.engine.check(scope, attributes, cost)

    def left(self, attributes: Mapping[str, str], scope: str = "/") -> int:
        left = self.ask(scope, attributes, 0).remaining
        assert left is not None
        return int(left)

    @property
    def problem(self) -> str | None:
        return self.state.now.problems.get("counters")


class World:
    """An agent that is restarted."""

    def __init__(
        self,
        make: MakeEngine,
        folder: Path,
        documents: Documents,
        exceptions: Sequence[dict[str, Any]] = (),
    ) -> None:
        self.make, self.folder = make, folder
        self.now = [START]
        self.published = Published()
        self.published.add(documents, exceptions)
        self._boots = count(1)
        self.process = self.begin(booted=START - 10**12)

    def begin(self, **options: Any) -> Process:
        return Process(self.make, self.now, self.published, self.folder, **options)

    def wait(self, seconds: float) -> None:
        self.now[0] += round(seconds * SECOND)

    def restart(self, down: float = 0.0, **options: Any) -> Process:
        """End the process; begin another one ``down`` seconds later, on a machine that booted."""
        self.process.kept.save()
        self.wait(down)
        options.setdefault("booted", self.now[0] - next(self._boots) * SECOND)
        self.process = self.begin(**options)
        return self.process
