"""Pauses of the cycle collector, and what becomes of the objects made in one."""

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
    """Something that the collector follows."""

    def __init__(self) -> None:
        self.other: object = None


def is_in(generation: int, wanted: object) -> bool:
    return any(each is wanted for each in gc.get_objects(generation))


@pytest.fixture
def unfrozen(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a process that freezes nothing, whatever others did in this one."""
    gc.unfreeze()
    monkeypatch.setattr(gc_pause, "_host_freezes", False)
    yield
    gc.unfreeze()


@pytest.mark.skipif(not gc_pause._CAN_SET_ASIDE, reason="this collector walks what is frozen")
@pytest.mark.usefixtures("unfrozen")
def test_what_is_made_in_a_pause_is_old_at_once() -> None:
    with paused_collector():
        made = [Made() for _ in range(3_000)]
    assert is_in(2, made[0])
    assert not is_in(0, made[-1])
    assert gc.get_freeze_count() == 0


@pytest.mark.usefixtures("unfrozen")
def test_garbage_made_in_a_pause_is_collected_all_the_same() -> None:
    gc.collect()
    with paused_collector():
        made = Made()
        made.other = made
        del made
    assert any(isinstance(each, Made) for each in gc.get_objects())
    gc.collect()
    assert not any(isinstance(each, Made) for each in gc.get_objects())


@pytest.mark.usefixtures("unfrozen")
def test_what_the_process_has_frozen_stays_frozen() -> None:
    gc.freeze()
    frozen = gc.get_freeze_count()
    assert frozen
    with paused_collector():
        pass
    assert gc.get_freeze_count() == frozen
    assert gc.isenabled()


def test_a_pause_in_a_pause_is_none() -> None:
    with paused_collector():
        assert pause() is None
        resume(None)
        with paused_collector():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_child_does_not_inherit_a_pause() -> None:
    """The thread that would end it is not there."""
    with paused_collector():
        child = os.fork()
        if not child:
            os._exit(gc.isenabled())
        _, status = os.waitpid(child, 0)
        assert not gc.isenabled()
    assert os.waitstatus_to_exitcode(status) == 1


def test_a_child_leaves_a_collector_that_did_not_run_alone() -> None:
    gc.disable()
    try:
        gc_pause._after_fork_in_child()
        assert not gc.isenabled()
    finally:
        gc.enable()


GOLD = [{"name": "gold", "match": {"tier": "gold"}, "limits": {"x": {"rate": "9/s"}}}]
SAID: dict[str, dict[str, Any]] = {
    "/": {"limits": {"x": {"rate": "1/s"}}, "budgets": {"all": {"rate": "9/s"}}},
    "/a": {"overrides": GOLD, "limits": {"y": {"rate": "1/s"}}},
    "/a/b": {"limits": {"y": {"rate": "2/s"}}},
}
FOR_NOW = {"scope": "/", "reason": "r", "until": "2030-01-01T00:00Z", "match": {"tier": "gold"}}


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
def test_what_a_reload_makes_has_no_cycles(exceptions: int) -> None:
    """Else the plans of old generations would be freed by the collector, in one go, at any time.

    In a process of its own: here, what earlier tests left behind becomes garbage at any time.
    """
    exemption = Exemption.model_validate({**FOR_NOW, "limits": {"x": {"rate": "2/s"}}})
    data = encode_policies(PolicyTree(tree(SAID).policies, exceptions=(exemption,) * exceptions))
    command = [sys.executable, "-c", RELOADED]
    assert subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True).stdout == b"\n"
