"""The thread that starts and ends exceptions: its failures, and its end."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, NoReturn

import ratectl.agent.enforcement as enforcement_module
from ratectl.agent.enforcement import Enforcement
from ratectl.agent.wall_clock import WallClock
from ratectl.engine.pure import PureEngine
from ratectl.errors import BundleError
from ratectl.policy.language.model import Exemption, Policy, PolicyTree

if TYPE_CHECKING:
    import pytest

UNTIL = "2026-11-25T00:00Z"
AFTER_NS = 1_800_000_000 * 10**9
BEFORE_NS = AFTER_NS - 90 * 86_400 * 10**9


def tree() -> PolicyTree:
    policy = Policy.model_validate({"scope": "/", "limits": {"l": {"rate": "1/s"}}})
    exception = Exemption.model_validate(
        {"scope": "/", "reason": "r", "until": UNTIL, "limits": {"l": {"rate": "2/s"}}}
    )
    return PolicyTree({"/": policy}, exceptions=(exception,))


def make(now: list[int]) -> Enforcement:
    return Enforcement(PureEngine(lambda: 0), WallClock(), lambda: now[0])


class _Waits(threading.Condition):
    """A condition that records the requested waits and does not wait."""

    def __init__(self, enough: int, stop: Enforcement) -> None:
        super().__init__()
        self.asked: list[float | None] = []
        self._enough = enough
        self._of = stop

    def wait(self, timeout: float | None = None) -> bool:
        self.asked.append(timeout)
        if len(self.asked) >= self._enough:
            self._of._stopped = True
        return False


def test_failed_start_of_an_exception_is_not_retried_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [BEFORE_NS]
    enforcement = make(now)
    enforcement.enforce(tree(), 1)

    def fail(*_: Any) -> NoReturn:
        raise BundleError("no")

    monkeypatch.setattr(enforcement_module, "activated", fail)
    waits = enforcement._changed = _Waits(4, enforcement)
    now[0] = AFTER_NS
    enforcement.run()
    assert waits.asked == [0.0, 1.0, 1.0, 1.0]


def test_a_stop_between_two_waits_ends_the_thread() -> None:
    enforcement = make([BEFORE_NS])
    held = threading.Event()

    class Late(threading.Condition):
        """A lock that calls ``stop`` just before the thread gets it."""

        def __enter__(self) -> bool:
            if threading.current_thread() is thread and not held.is_set():
                held.set()
                enforcement.stop()
            return super().__enter__()

    thread = threading.Thread(target=enforcement.run, daemon=True)
    enforcement._changed = Late()
    thread.start()
    thread.join(timeout=5)
    ended = not thread.is_alive()
    enforcement.stop()
    assert ended
