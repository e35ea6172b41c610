"""An engine that lives through publications: documents, a clock, and requests by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from policy.conditions import ns
from policy.trees import tree
from ratectl.compiler.plans import compile_tree
from ratectl.engine.algorithms.quota import WallOffset
from ratectl.policy.language.model import Exemption, with_exceptions

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from engine.engines import MakeEngine
    from ratectl.engine.decision import Decision

NS: Final = 10**9
START: Final = ns("2026-11-27T00:00Z")
"""A Friday, so that calendar windows of every unit but the week begin together with it."""

Documents = dict[str, dict[str, Any]]
"""Fields of each policy, by scope."""

EVER: Final = 10_000
"""Requests after which a test gives up to exhaust a limit."""


class World:
    """One engine and the documents last published; ``now`` and ``offset`` are its two clocks."""

    def __init__(
        self, make: MakeEngine, documents: Documents, *, max_buckets: int | None = None
    ) -> None:
        bound = {} if max_buckets is None else {"max_buckets": max_buckets}
        self.now = START
        self.offset = WallOffset()
        self.engine = make(lambda: self.now, **bound)
        self.generation = 0
        self._until: int | None = None
        self.publish(documents)

    # Time

    def wait(self, seconds: float) -> None:
        """Let time pass, back as well; exceptions start and end meanwhile, as agents do it."""
        self.pass_ns(round(seconds * NS))

    def pass_ns(self, duration: int) -> None:
        target = self.now + duration
        while self._until is not None and self._until - self.offset.ns <= target:
            self.now = max(self.now, self._until - self.offset.ns)
            self._swap()
        self.now = target

    # Publications

    def publish(self, documents: Documents, exceptions: Iterable[Mapping[str, Any]] = ()) -> None:
        """Put documents, and ``exceptions`` beside them, in force now."""
        made = [(Exemption.model_validate(each), None) for each in exceptions]
        self._tree = with_exceptions(tree(documents), made)
        self.generation += 1
        self._swap()

    def _swap(self) -> None:
        wall = self.now + self.offset.ns
        plans = compile_tree(self._tree, self.generation, self.offset, wall)
        self.engine.swap(plans, self.now)
        self._until = plans.until_ns

    # Requests

    def ask(self, scope: str = "/", cost: int = 1, **attributes: str) -> Decision:
        return self.engine.check(scope, attributes, cost, self.now)

    def take(self, scope: str = "/", **attributes: str) -> int:
        """Ask for one after another until a refusal; return how many were admitted."""
        for count in range(EVER):
            if not self.ask(scope, **attributes):
                return count
        raise AssertionError(f"{EVER} admitted at once")

    def strangers(self, count: int, scope: str = "/", cost: int = 1, **attributes: str) -> None:
        """Ask once for each of ``count`` tenants never seen: engines evict meanwhile."""
        for number in range(count):
            tenant = f"stranger-{self.now}-{number}"
            self.engine.check(scope, {**attributes, "tenant": tenant}, cost, self.now)
