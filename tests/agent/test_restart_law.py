"""Law of restarts: an agent that is restarted decides as one that has been running all the time.

Two agents get the same requests. One of them is restarted now and then, on a machine whose clock
has started again.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.restart_support import World
from engine.engines import each_engine
from engine.plans import verdict

if TYPE_CHECKING:
    from agent.restart_support import Documents
    from engine.engines import MakeEngine

LIMITS: Final[list[dict[str, Any]]] = [
    {"algorithm": "token-bucket", "rate": "1/s", "burst": 4},
    {"algorithm": "token-bucket", "rate": "3/11s", "burst": 9},
    {"algorithm": "token-bucket", "rate": "1/h", "burst": 30},
    {"algorithm": "sliding-window", "rate": "5/min"},
    {"algorithm": "sliding-window", "rate": "16/2s"},
    {"algorithm": "sliding-window", "rate": "3/h", "precision": 128},
    {"algorithm": "quota", "rate": "7/h"},
    {"algorithm": "quota", "rate": "4/min"},
    {"algorithm": "quota", "rate": "9/day"},
]
EXCEPTIONS: Final = (None, "2030-01-01T00:00:30Z", "2030-01-01T01:00:00Z")
"""Ends of an exception."""


class Policies(NamedTuple):
    """Numbers of the limits of one generation. Those of one shape have the same buckets."""

    limit: int
    gold: int
    below: int
    budget: int
    shadow: int
    ends: str | None
    shape: int = 0

    def documents(self) -> Documents:
        per = {"per": ["tenant", "route"] if self.shape & 1 else "tenant"}
        gold = {"name": "g", "match": {"tier": "gold"}, "limits": {"l": LIMITS[self.gold]}}
        written: Documents = {
            "/": {
                "limits": {
                    "l": {**LIMITS[self.limit], **per},
                    "s": {**LIMITS[self.shadow], "per": ["tenant", "route"], "mode": "shadow"},
                    "t": {**LIMITS[self.budget], **per, "unit": "tokens"},
                },
                "budgets": {
                    "b": LIMITS[self.budget],
                    "z": {"algorithm": "quota", "rate": "40/day", "resets": "06:00 Europe/Berlin"},
                },
                "overrides": [] if self.shape & 2 else [gold],
            }
        }
        if not self.shape & 4:
            written["/a"] = {"limits": {"l": {**LIMITS[self.below], **per}}}
        return written

    def exceptions(self) -> list[dict[str, Any]]:
        if self.ends is None:
            return []
        limits = {"l": {"rate": "2/s", "burst": 5, "algorithm": "token-bucket"}}
        return [{"scope": "/", "reason": "r", "until": self.ends, "limits": limits}]


class Ask(NamedTuple):
    scope: str
    tenant: str | None
    gold: bool
    route: str | None
    cost: Any
    settled: int | None

    @property
    def attributes(self) -> dict[str, str]:
        given = {"tenant": self.tenant, "tier": "gold" if self.gold else None, "route": self.route}
        return {name: value for name, value in given.items() if value is not None}


class Restart(NamedTuple):
    down: float
    policies: Policies | None
    """Generation that is published meanwhile."""


numbers = st.integers(0, len(LIMITS) - 1)
policies = st.builds(
    Policies, numbers, numbers, numbers, numbers, numbers, st.sampled_from(EXCEPTIONS), st.just(0)
)
costs = st.integers(0, 6) | st.fixed_dictionaries({"tokens": st.integers(0, 9)})
asks = st.builds(
    Ask,
    st.sampled_from(["/", "/a", "/b"]),
    st.sampled_from(["x", "y", "z" * 300, None]),
    st.booleans(),
    st.sampled_from([None, "/v1"]),
    costs,
    st.none() | st.integers(0, 20),
)
waits = st.sampled_from([1e-9, 0.4, 3, 61.5, 1_700, 40_000])
restarts = st.builds(Restart, waits | st.just(0.0), st.none() | policies)
steps = st.lists(asks | waits | policies | restarts, max_size=40)
shapes = st.integers(0, 7)


@each_engine
@settings(deadline=None)
@given(policies, steps, restarts, shapes, st.lists(asks | waits, max_size=15))
def test_restarted_agent_decides_like_one_that_has_been_running(
    make: MakeEngine,
    first: Policies,
    steps: list[Any],
    restart: Restart,
    shape: int,
    afterwards: list[Any],
) -> None:
    """The last restart comes with a generation in which requests may have other buckets."""
    other = (restart.policies or first)._replace(shape=shape)
    steps = [*steps, restart._replace(policies=other), *afterwards]
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        worlds = [
            World(make, Path(folder), first.documents(), exceptions=first.exceptions())
            for folder in (one, two)
        ]
        for step in steps:
            seen = [_play(world, step, restarts=world is worlds[0]) for world in worlds]
            assert seen[0] == seen[1], step
        assert worlds[0].process.problem is None


def _play(world: World, step: Any, *, restarts: bool) -> object:
    process = world.process
    if isinstance(step, float | int):
        world.wait(step)
    elif isinstance(step, Policies):
        world.published.add(step.documents(), exceptions=step.exceptions())
        process.adopt()
    elif isinstance(step, Restart):
        _restart(world, step, restarts=restarts)
    else:
        decision = process.ask(step.scope, step.attributes, step.cost)
        seen = verdict(decision)
        if step.settled is not None and isinstance(step.cost, int):
            decision.settle(step.settled)
        return seen
    return None


def _restart(world: World, step: Restart, *, restarts: bool) -> None:
    for scope in ("/", "/a"):  # buckets of limits that were never asked for start full
        for tier in ("gold", "other"):
            world.process.ask(scope, {"tier": tier}, {"requests": 0, "tokens": 0})
    if restarts:
        world.process.kept.save()
    world.wait(step.down)
    if step.policies is not None:
        world.published.add(step.policies.documents(), exceptions=step.policies.exceptions())
    if restarts:
        world.process = world.begin(booted=world.now[0] - 10**9)
    elif step.policies is not None:
        world.process.adopt()
