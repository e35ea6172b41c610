"""Answers for decisions that the limiter cannot make: ``on_error``, counted and logged."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Final

from ratectl.agent.log import log
from ratectl.engine.decision import Decision
from ratectl.engine.scopes import exact_scope

if TYPE_CHECKING:
    from ratectl.engine.api import Engine

__all__ = ["Failures"]

_LOG_EVERY: Final = 60.0


class Failures:
    """Failed decisions of one agent."""

    def __init__(self, engine: Engine, *, allow: bool) -> None:
        """``allow``: the answer where no policy says it."""
        self.allowed = 0
        self.refused = 0
        self._engine = engine
        self._allow = allow
        self._logged = -math.inf
        self._last: tuple[float, str] | None = None
        """Time of the last failed decision (monotonic seconds), and its error."""

    @property
    def count(self) -> int:
        """Failed decisions."""
        return self.allowed + self.refused

    def _count(self, allowed: bool) -> None:
        if allowed:
            self.allowed += 1
        else:
            self.refused += 1

    def unready(self) -> Decision:
        """Answer while no policies are in force."""
        self._count(self._allow)
        return self.answer_unready(None)

    def failed(self, scope: str, error: Exception) -> Decision:
        """Answer a request whose decision raised an error."""
        self._last = time.monotonic(), _text_of(error)
        self._note("a decision for %r failed, on_error answers", scope, error)
        decision = self.answer(scope, error)
        self._count(decision.allowed)
        return decision

    def answer_unready(self, scope: object) -> Decision:
        """Return the answer while no policies are in force, and count nothing."""
        return self._answered(self._allow, 0, scope, None)

    def answer(self, scope: str, error: Exception) -> Decision:
        """Return the answer of ``on_error``, and count nothing."""
        allowed = self._allow
        try:
            plan = self._engine.plan(scope)
            if plan is not None:
                allowed = plan.allow_on_error
        except Exception:  # noqa: BLE001  a scope that is not even a string
            log.debug("no plan for %r", scope)
        allowed = allowed or self._engine.waived(scope) is not None
        note = f"the limiter failed, and on_error answered: {_text_of(error)}"
        return self._answered(allowed, self._engine.generation, scope, note)

    def _answered(
        self, allowed: bool, generation: int, scope: object, note: str | None
    ) -> Decision:
        decision = Decision(allowed, "error", generation, retry_after_ns=None)
        known = exact_scope(scope) if issubclass(type(scope), str) else None
        decision._asked = (self._engine, known, None, 1, (), note)  # noqa: SLF001
        return decision

    def unsettled(self, scope: str, error: Exception) -> None:
        """Log that a reservation could not be settled, or its slots not be released."""
        self._note("a reservation for %r could not be settled", scope, error)

    def _note(self, message: str, scope: str, error: Exception) -> None:
        """Log a failure, unless another one was logged within the last minute."""
        if time.monotonic() - self._logged > _LOG_EVERY:
            self._logged = time.monotonic()
            shown = exact_scope(scope) if isinstance(scope, str) else f"a {type(scope).__name__}"
            log.error(message, shown, exc_info=error)

    def problem(self) -> str | None:
        """Return the problem of failing decisions; None if none failed within the last minute."""
        if self._last is None or time.monotonic() - self._last[0] > _LOG_EVERY:
            return None
        return f"decisions fail, and on_error answers them: {self._last[1]}"


def _text_of(error: Exception) -> str:
    """Return an error as valid Unicode text, even if its ``__str__`` fails."""
    name = type(error).__name__
    try:
        return f"{name}: {error}".encode("utf-8", "backslashreplace").decode()
    except Exception:  # noqa: BLE001  its __str__ is foreign code
        return f"a {name} that cannot be shown"
