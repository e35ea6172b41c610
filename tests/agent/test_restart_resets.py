"""Resets and counters that outlive a process: no reset is undone, and none is obeyed twice."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import pytest

from agent.reset_support import a_reset
from agent.restart_support import World
from engine.engines import ENGINES
from ratectl.resets.orders import RESETS, Resets
from ratectl.stores.base import Item

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ratectl.resets.orders import Reset

    Begin = Callable[..., World]

ACME: Final = {"tenant": "acme"}
SPIKE: Final = {"/": {"limits": {"l": {"rate": "1/min", "burst": 5, "per": "tenant"}}}}
STORE: Any = None


@pytest.fixture(params=sorted(ENGINES))
def begin(request: pytest.FixtureRequest, tmp_path: Path) -> Begin:
    return lambda: World(ENGINES[request.param], tmp_path, SPIKE)


def reset_of(sequence: int, expires_in: float) -> Reset:
    return a_reset(sequence, expires_in, scope="/", limit="l", key=ACME)


def see(world: World, *resets: Reset) -> None:
    world.process.resets.see(STORE, Item(RESETS, Resets(resets).encode(), 1))


@pytest.mark.parametrize("expires_in", [60.0, -60.0])
def test_reset_that_was_ordered_meanwhile_is_obeyed(begin: Begin, expires_in: float) -> None:
    world = begin()
    see(world)
    world.process.ask("/", ACME, 4)
    process = world.restart()
    see(world, reset_of(5, expires_in))
    assert process.left(ACME) == 5


def test_reset_that_was_obeyed_before_is_not_obeyed_again(begin: Begin) -> None:
    world = begin()
    see(world)
    see(world, reset_of(5, 60))
    world.process.ask("/", ACME, 4)
    process = world.restart()
    see(world, reset_of(5, 60))
    assert process.left(ACME) == 1
    assert process.state.now.reset_sequence == 5


def test_reset_after_the_last_save_is_obeyed_again(begin: Begin) -> None:
    world = begin()
    see(world)
    world.process.ask("/", ACME, 4)
    world.process.kept.save()
    see(world, reset_of(5, 60))
    assert world.process.left(ACME) == 5
    world.process = world.begin()
    assert world.process.left(ACME) == 1
    see(world, reset_of(5, 60))
    assert world.process.left(ACME) == 5


def test_reset_that_expires_before_it_is_read_is_not_obeyed(begin: Begin) -> None:
    world = begin()
    see(world)
    world.process.ask("/", ACME, 4)
    process = world.restart()
    assert process.resets._resumed is not None
    process.resets._resumed -= timedelta(minutes=5)
    see(world, reset_of(5, -60))
    assert process.left(ACME) == 1


def test_resets_of_before_the_counting_are_not_obeyed(begin: Begin) -> None:
    """The process before never read the store."""
    world = begin()
    world.process.ask("/", ACME, 4)
    process = world.restart()
    see(world, reset_of(5, -60))  # ordered three minutes ago
    assert process.left(ACME) == 1
