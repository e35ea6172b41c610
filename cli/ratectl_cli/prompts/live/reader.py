"""Reads the usage again and again, in a thread of its own: keys never wait for the store."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from ratectl.errors import RatectlError
from ratectl.health.usage_report import read_usage_report
from ratectl_cli.errors import explain_error
from ratectl_cli.framework import clock

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from ratectl.health.usage_report import UsageReport
    from ratectl.stores.base import Store

__all__ = ["Reader", "Reading", "read"]

_PAUSE: Final = 2.0
"""Seconds between two reads."""

_END_SECONDS: Final = 1.0
"""Seconds to wait for a read that is under way at the end."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The newest usage that could be read."""

    report: UsageReport
    scope: str | None
    """The scope that was asked for."""
    warnings: tuple[str, ...] = ()
    problem: str | None = None
    """Why the last read failed; None if it did not."""


def read(store: Store, scope: str | None, minutes: int) -> Reading:
    """Read the usage."""
    warnings: list[str] = []
    report = read_usage_report(store, scope, warnings.append, clock.now_ns(), minutes)
    return Reading(report, scope, tuple(warnings))


class Reader:
    """A thread that reads the usage every two seconds, also after errors.

    It keeps the store open, which connects again by itself: to open a missing file would make an
    empty one.
    """

    def __init__(self, store: Store, first: Reading) -> None:
        self._store = store
        self._reading = first
        self._scope = first.scope
        self._bug: BaseException | None = None
        self._ending = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ratectl-usage", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ending = True
        self._wake.set()
        self._thread.join(_END_SECONDS)

    @property
    def reading(self) -> Reading:
        """The newest reading. Raises what stopped the thread, if anything did."""
        if self._bug is not None:
            raise self._bug
        return self._reading

    def want(self, scope: str | None) -> None:
        """Read another scope from now on."""
        if scope != self._scope:
            self._scope = scope
            self._wake.set()

    def _run(self) -> None:
        try:
            while self._pause():
                self._attempt()
        except BaseException as error:  # noqa: BLE001  the main thread raises it
            self._bug = error

    def _attempt(self) -> None:
        try:
            self._reading = read(self._store, self._scope, self._reading.report.minutes)
        except RatectlError as error:
            problem = explain_error(error, ()).message
            self._reading = replace(self._reading, problem=problem)

    def _pause(self) -> bool:
        """Wait for the next read; return False at the end."""
        if self._wake.wait(_PAUSE):
            self._wake.clear()
        return not self._ending
