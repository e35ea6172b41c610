"""Pauses of the cycle collector, and objects created during a pause."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from policy.trees import tree
from ratectl.policy.bundle import encode_policies
from ratectl.policy.language.model import Exemption, PolicyTree
from ratectl.runtime import gc_pause
from ratectl.runtime.gc_pause import pause, paused_collector, resume

if TYPE_CHECKING:
    from collections.abc import Iterator


class Made:
    """Object that the collector tracks."""

    def __init__(self) -> None:
        self.other: object = None


def is_in(generation: int, wanted: object) -> bool:
    return any(item is wanted for item in gc.get_objects(generation))


@pytest.fixture
def unfrozen(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make this process look like one that has frozen no objects."""
    gc.unfreeze()
    monkeypatch.setattr(gc_pause, "_host_freezes", False)
    yield
    gc.unfreeze()


@pytest.mark.skipif(not gc_pause._CAN_SET_ASIDE, reason="this collector traverses frozen objects")
@pytest.mark.usefixtures("unfrozen")
def test_objects_created_in_a_pause_are_in_the_oldest_generation() -> None:
    with paused_collector():
        made = [Made() for _ in range(3_000)]
    assert is_in(2, made[0])
    assert not is_in(0, made[-1])
    assert gc.get_freeze_count() == 0


@pytest.mark.usefixtures("unfrozen")
def test_garbage_created_in_a_pause_is_collected() -> None:
    gc.collect()
    with paused_collector():
        made = Made()
        made.other = made
        del made
    assert any(type(each) is Made for each in gc.get_objects())
    gc.collect()
    assert not any(type(each) is Made for each in gc.get_objects())


@pytest.mark.usefixtures("unfrozen")
def test_frozen_objects_stay_frozen() -> None:
    gc.freeze()
    frozen = gc.get_freeze_count()
    assert frozen
    with paused_collector():
        pass
    # Some of them may have been freed meanwhile, as nothing refers to them any more.
    assert gc.get_freeze_count() > frozen / 2
    assert gc.isenabled()


def test_nested_pause_has_no_effect() -> None:
    with paused_collector():
        assert pause() is None
        resume(None)
        with paused_collector():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_forked_child_does_not_inherit_a_pause() -> None:
    """The child lacks the thread that would end the pause."""
    with paused_collector():
        child = os.fork()
        if not child:
            os._exit(gc.isenabled())
        _, status = os.waitpid(child, 0)
        assert not gc.isenabled()
    assert os.waitstatus_to_exitcode(status) == 1


def test_disabled_collector_stays_disabled_in_a_forked_child() -> None:
    gc.disable()
    try:
        gc_pause._after_fork_in_child()
        assert not gc.isenabled()
    finally:
        gc.enable()


GOLD = [{"name": "gold", "match": {"tier": "gold"}, "limits": {"x": {"rate": "9/s"}}}]
DECLARED: dict[str, dict[str, Any]] = {
    "/": {"limits": {"x": {"rate": "1/s"}}, "budgets": {"all": {"rate": "9/s"}}},
    "/a": {"overrides": GOLD, "limits": {"y": {"rate": "1/s"}}},
    "/a/b": {"limits": {"y": {"rate": "2/s"}}},
}
EXCEPTION = {"scope": "/", "reason": "r", "until": "2030-01-01T00:00Z", "match": {"tier": "gold"}}


RELOADED = """
import gc, sys
from ratectl.compiler.activation import activated, verified
from ratectl.policy.bundle import digest

data = sys.stdin.buffer.read()
activated(verified(data, digest(data)), 1, now_ns=1)  # fills caches
gc.collect()
gc.disable()
activated(verified(data, digest(data)), 1, now_ns=1)
gc.set_debug(gc.DEBUG_SAVEALL)
gc.collect()
print(*sorted({type(each).__name__ for each in gc.garbage}))
"""


@pytest.mark.parametrize("exceptions", [0, 1])
def test_reload_creates_no_reference_cycles(exceptions: int) -> None:
    """Otherwise the collector would free the plans of old generations all at once, at any time.

    A separate process is used, since objects of earlier tests become garbage here at any time.
    """
    exemption = Exemption.model_validate({**EXCEPTION, "limits": {"x": {"rate": "2/s"}}})
    data = encode_policies(
        PolicyTree(tree(DECLARED).policies, exceptions=(exemption,) * exceptions)
    )
    command = [sys.executable, "-c", RELOADED]
    assert subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True).stdout == b"\n"
