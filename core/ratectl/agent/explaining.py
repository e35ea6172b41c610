"""Explaining of requests by an agent: also when the limiter fails, and before any policy."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ratectl.agent.in_force import LimitInForce, limits_in_force
from ratectl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratectl.agent.failures import Failures
    from ratectl.central.limits import CentralLimits
    from ratectl.engine.api import Engine
    from ratectl.engine.cost import Cost
    from ratectl.engine.explanation import Explanation

__all__ = ["Explaining"]

_ON_SERVER: Final = "limits across: redis are not shown: a server counts them"

_NOTHING: Final[Mapping[str, str]] = {}


class Explaining:
    """Agent's questions about limits; they charge and count nothing."""

    _central: CentralLimits
    _engine: Engine
    _failures: Failures

    def explain(
        self, scope: str, attributes: Mapping[str, str] = _NOTHING, cost: Cost = 1
    ) -> Explanation:
        """Say what ``check`` would answer now, and why: what each limit has left, and where its
        value is set.

        Nothing is charged or counted. Never blocks, and never raises for a failure of the limiter:
        the explanation then says that ``on_error`` would answer.

        >>> print(agent.explain("/payments/checkout", {"tenant": "acme"}))  # doctest: +SKIP

        :raises UsageError: ``check`` does not take ``cost``.
        """
        try:
            explanation = self._engine.explain(scope, attributes, cost)
        except UsageError:
            raise
        except Exception as error:  # noqa: BLE001  attributes may raise anything
            return self._failures.answer(scope, error).explain()
        explanation = explanation or self._failures.answer_unready(scope).explain()
        if self._central.any and self._central.plan(scope) is not None:
            return replace(explanation, notes=(*explanation.notes, _ON_SERVER))
        return explanation

    def limits(
        self, scope: str, attributes: Mapping[str, str] = _NOTHING
    ) -> list[LimitInForce] | None:
        """Return the limits that decide such a request; None if no policy covers the scope."""
        return limits_in_force(self._engine, self._central, scope, attributes)
