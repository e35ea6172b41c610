"""An engine with one exhaustible limit, and checks to run after the requests of any caller."""

from __future__ import annotations

import gc
import os
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from engine.engines import ENGINES
from policy.trees import tree
from ratectl.compiler.plans import compile_tree
from ratectl.engine.decision import Decision
from soak import scaled

if TYPE_CHECKING:
    from ratectl.engine.api import Engine

__all__ = ["BURST", "KINDS", "ROUNDS", "SANITIZED", "House", "guarded"]

SANITIZED: Final = os.environ.get("RATECTL_SANITIZED") == "1"

ROUNDS: Final = scaled(45, 600)
"""Number of repetitions of a caller's action: more than BURST."""

BURST: Final = 40
"""Capacity of the limit; it does not refill during a test."""

KINDS: Final[dict[str, dict[str, Any]]] = {
    "tokens": {"rate": "1/week", "burst": BURST},
    "window": {"algorithm": "sliding-window", "rate": f"{BURST}/week"},
    "quota": {"algorithm": "quota", "rate": f"{BURST}/month"},
    "slots": {"algorithm": "concurrency", "max": BURST, "hold": "7day"},
    "several": {},
}


def guarded(engine: Engine, *, allow: bool = True) -> list[Exception]:
    """Make an engine answer failures by ``on_error``, as agents do; return the list of failures."""
    failures: list[Exception] = []

    def failed(scope: str, error: Exception) -> Decision:
        failures.append(error)
        return Decision(allow, "error", engine.generation, retry_after_ns=None)

    engine.guard(failed, lambda: Decision(allow, "error", 0, retry_after_ns=None))
    return failures


class House:
    """One engine, with one kind of limit at ``/a``, counted per tenant."""

    def __init__(self, name: str, kind: str, *, max_buckets: int = 100_000) -> None:
        self.kind = kind
        self.engine = ENGINES[name](time.monotonic_ns, max_buckets=max_buckets)
        self.when_full = "limited" if max_buckets < 100 else "ok"
        """Answer for a new tenant while the table is full: keys without a bucket share one."""
        self.failures = guarded(self.engine)
        self.generation = 0
        self.reload()
        self.admitted: list[Decision] = []
        """Admitted decisions that are not released."""

    def limits(self) -> dict[str, Any]:
        """Return the limits in force: one algorithm, or one limit of each."""
        kinds = {self.kind: KINDS[self.kind]} if KINDS[self.kind] else {**KINDS}
        return {name: {**said, "per": "tenant"} for name, said in kinds.items() if said}

    def reload(self, **more: dict[str, Any]) -> None:
        """Publish the same limits again, and ``more``."""
        said = {"/a": {"limits": {**self.limits(), **more}}, "/other": {"limits": {}}}
        while True:
            self.generation = number = self.generation + 1
            self.engine.swap(compile_tree(tree(said), number))
            if number == self.generation:  # else there was a reload in the middle of this one
                return

    def ask(self, attributes: Any = None, cost: Any = 1, scope: Any = "/a") -> Decision:
        """Decide a request, and remember it if tenant ``t``'s limit admitted it."""
        decision = self.engine.check(scope, _T if attributes is None else attributes, cost)
        if decision.allowed and decision.limit is not None and cost:
            self.admitted.append(decision)
        return decision

    def left(self, tenant: str = "t") -> int | None:
        """Return what remains for a tenant."""
        return self.engine.check("/a", {"tenant": tenant}, 0).remaining

    @property
    def holds(self) -> bool:
        return self.kind == "slots"

    def check_all_is_well(self, *, failures: int | None = 0) -> None:
        """Assert that nothing hangs or leaks, and that no more than the capacity was admitted."""
        assert _is_collecting(), "the collector is off"
        if failures is not None:
            assert len(self.failures) == failures, self.failures[:3]
        assert len(self.admitted) <= BURST
        done: list[Decision] = []
        other = threading.Thread(target=lambda: done.append(self.ask({"tenant": "new"})))
        other.start()
        other.join(20)
        assert done, "another thread cannot decide"
        assert done[0].reason in ("ok", self.when_full)
        done[0].release()
        for decision in self.admitted:
            decision.release()
        if self.holds and self.when_full == "ok":
            self.reload()  # without another limit, which may have the smaller share left
            assert self.left() == BURST, "a slot leaked"
        usage = self.engine.usage()
        assert usage.generation == self.generation


_T: Final = {"tenant": "t"}


def each_house() -> list[tuple[str, str]]:
    """Each engine with each kind of limit."""
    return [(name, kind) for name in ENGINES for kind in KINDS]


def _is_collecting() -> bool:
    """Return True if the collector is on, or soon: a thread of another test may have paused it."""
    until = time.monotonic() + 5
    while not gc.isenabled() and time.monotonic() < until:
        time.sleep(0.001)
    return gc.isenabled()
