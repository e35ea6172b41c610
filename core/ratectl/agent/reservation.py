"""Reservation: a request whose cost becomes known while it runs, like the tokens of a stream.

Nothing here waits for a lock, so that signal handlers and finalizers may report and end it as well.
A method that changes the cost that is due first writes that down (in ``_used``, ``_ended`` or
``_expired``). It then settles the decision, and repeats that if the cost has changed meanwhile. So
the last settlement is always of the latest cost, in whatever order threads come.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, Self

from ratectl.agent.line import FOREVER
from ratectl.engine.cost import REQUESTS, checked_estimate, checked_totals
from ratectl.errors import UsageError
from ratectl.runtime.closing import Closing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from ratectl.agent.agent import Agent
    from ratectl.agent.expiries import Expiries
    from ratectl.agent.failures import Failures
    from ratectl.agent.terms import Terms
    from ratectl.engine.cost import Cost
    from ratectl.engine.decision import Decision

__all__ = ["Reservation"]

_NOTHING: Final[Mapping[str, int]] = {}


class Reservation(Closing):
    """Request that is charged an estimate when it begins, and what it used when it ends.

    ``Agent.reserve`` makes it. It begins with the block (``with``, ``async with``) or ``open``, and
    ends with the block or ``close``. True in a condition if the request is allowed. Thread-safe.
    """

    __slots__ = (
        "_agent", "_attributes", "_corrected", "_cost", "_deadline", "_ended", "_estimate",
        "_expired", "_expiries", "_failures", "_got", "_named", "_scope", "_terms", "_used",
    )  # fmt: skip

    def __init__(
        self,
        agent: Agent,
        expiries: Expiries,
        failures: Failures,
        terms: Terms,
        scope: str,
        attributes: Mapping[str, str],
        cost: Cost,
    ) -> None:
        """:raises UsageError: ``cost`` is not a cost."""
        self._agent = agent
        self._expiries = expiries
        self._failures = failures
        self._terms = terms
        self._scope = scope
        # The caller may go on to use its dictionary for another request.
        self._attributes = attributes.copy() if type(attributes) is dict else attributes
        self._cost = checked_estimate(cost)
        # Units that the cost names: an expiry does not give back the request that it implies.
        self._named = {REQUESTS: self._cost} if isinstance(self._cost, int) else self._cost
        self._estimate = {REQUESTS: 1, **self._named}
        self._got: list[Decision] = []
        self._used: dict[str, int] = {}
        """Totals reported so far, by unit."""
        self._corrected = False
        """True once the decision may have been settled."""
        self._ended = False
        self._expired = False
        self._deadline = FOREVER
        """Instant of the expiry (nanoseconds of the agent's clock)."""

    # Reading ------------------------------------------------------------------------------------

    @property
    def decision(self) -> Decision:
        """Decision about the request.

        :raises UsageError: the reservation was not opened.
        """
        if not self._got:
            raise UsageError(
                "this reservation is not open: write `with agent.reserve(…) as reservation:`, "
                "or call open()"
            )
        return self._got[0]

    @property
    def expired(self) -> bool:
        """True if it expired before it ended. It stays so, whatever is reported afterwards."""
        if not self._ended and self._expiries.clock() >= self._deadline:
            self._expired = True
        return self._expired

    def __bool__(self) -> bool:
        return self.decision.allowed

    def __repr__(self) -> str:
        if not self._got:
            state = "not open"
        elif not self._got[0].allowed:
            state = "refused"
        else:
            state = "ended" if self._ended else "expired" if self.expired else "open"
        return f"<Reservation of {self._cost}, {state}>"

    # The beginning ------------------------------------------------------------------------------

    def open(self) -> Self:
        """Decide the request and charge the estimate, unless that was done. It may wait here.

        :raises UsageError: the reservation has ended.
        """
        if not self._begins():
            return self
        agent, wait = self._agent, self._terms.wait
        check = agent.check_blocking if agent.asks_server else agent.check
        ask = check if wait == 0 else partial(agent.acquire_sync, wait=wait)
        try:
            # In one step for signal handlers: a decision that was made is in `_got`.
            self._got[:] = map(ask, (self._scope,), (self._attributes,), (self._cost,))
            return self._begun()
        except BaseException:
            self._give_back()
            raise

    def __enter__(self) -> Self:
        return self.open()

    async def __aenter__(self) -> Self:
        agent, wait = self._agent, self._terms.wait
        if (wait == 0 and not agent.asks_server) or not self._begins():
            return self.open()
        question = self._scope, self._attributes, self._cost
        asking = agent.acheck(*question) if wait == 0 else agent.acquire(*question, wait=wait)
        try:
            self._got[:] = [await asking]
            return self._begun()
        except BaseException:
            self._give_back()
            raise

    def _begins(self) -> bool:
        if self._ended:
            raise UsageError("this reservation has ended: make one for each request")
        return not self._got

    def _begun(self) -> Self:
        """Begin the time until the expiry."""
        if self._got[0].allowed:
            self._deadline = min(FOREVER, self._expiries.clock() + self._terms.span)
            if self._terms.refunds and self._deadline < FOREVER:
                self._expiries.add(self._look, self._deadline)
        return self

    def _give_back(self) -> None:
        """Give back the slots and tokens of a decision that the caller never gets."""
        self._expiries.remove(self._look)
        for decision in self._got:
            self._safely(decision.release)
            self._safely(partial(decision.settle, dict.fromkeys(self._estimate, 0)))
        self._got.clear()

    # Meanwhile ----------------------------------------------------------------------------------

    def used(self, totals: Mapping[str, int] = _NOTHING, /, **units: int) -> None:
        """Report the TOTAL used so far in each unit, not what came since the last report.

        ``used(tokens=1500)``, or a mapping: ``used({"gpu-seconds": 3})``. It begins the time until
        the expiry again, also without totals. A total above the estimate is charged at once, and
        one below it when the reservation ends. The last report counts; one that comes after the
        end or the expiry corrects the charge. It never raises for a failure of the limiter.

        :raises UsageError: a total is not a whole number, 0 or more, or the reservation was not
            opened.
        """
        new = checked_totals(totals)
        twice = new.keys() & units.keys()
        if twice:
            raise UsageError(f"the total names the unit {min(twice)!r} twice")
        new |= checked_totals(units)
        if not self.decision.allowed:
            return
        self._used.update(new)
        if not self._ended and not self.expired:
            self._deadline = min(FOREVER, self._expiries.clock() + self._terms.span)
        above = any(total > self._estimate.get(unit, 0) for unit, total in new.items())
        if above or self._corrected or self._ended or self._gives_back:
            self._correct()

    @property
    def _gives_back(self) -> bool:
        return self._expired and self._terms.refunds

    def _look(self, now: int) -> int | None:
        """Expire if the deadline has passed; otherwise return it (see ``expiries.Look``)."""
        if now < self._deadline:
            return self._deadline
        if not self._ended:
            self._expired = True
        self._correct()
        return None

    # The end ------------------------------------------------------------------------------------

    def close(self) -> None:
        """End the request: charge what was reported, and release its slots. Safe to repeat.

        A unit that was never reported stays at its estimate. It never raises for a failure of the
        limiter.
        """
        if not self._got or not self._got[0].allowed:
            return
        try:
            gives_back = self.expired and self._terms.refunds
            self._ended = True
            if self._used or gives_back:
                self._correct()
        finally:
            self._safely(self._got[0].release)
        self._expiries.remove(self._look)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    # Charging -----------------------------------------------------------------------------------

    def _costs(self) -> dict[str, int]:
        """Return what the request should be charged with now, in the units to be corrected."""
        used = self._used.copy()
        if self._gives_back:
            return {**dict.fromkeys(self._named, 0), **used}
        if self._ended:
            return used
        return {unit: max(total, self._estimate.get(unit, 0)) for unit, total in used.items()}

    def _correct(self) -> None:
        """Settle the decision to what is due, and to what becomes due meanwhile."""
        self._corrected = True
        self._safely(self._settle)

    def _settle(self) -> None:
        while True:
            costs = self._costs()
            self._got[0].settle(costs)
            if costs == self._costs():
                return

    def _safely(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001  a failure of the limiter must not end a stream
            self._failures.unsettled(self._scope, error)
