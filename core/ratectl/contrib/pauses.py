"""Pauses that another server asks for: ``Retry-After``, and ``RateLimit`` with nothing left."""

from __future__ import annotations

import re
import threading
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Pauses", "pause_of"]

_QUOTED: Final = re.compile(r'"(?:[^"\\]|\\.?)*+"?', re.DOTALL)
"""A quoted text; the rest of the header, if it does not end. So no character is read twice."""

_NUMBER: Final = re.compile(r"[0-9]{1,15}")
_MOST_KEPT: Final = 1_024
_LONGEST_HEADER: Final = 8_192


class Pauses:
    """Times until which requests of scopes wait. Thread-safe."""

    def __init__(self, longest: float) -> None:
        """``longest``: no pause is longer (seconds)."""
        self._longest = longest
        self._ends: dict[str, float] = {}
        self._lock = threading.Lock()

    def obey(self, scope: str, status: int, headers: Mapping[str, str]) -> None:
        """Keep the pause that a response asks for, unless there is a longer one."""
        pause = min(self._longest, pause_of(status, headers))
        if pause <= 0:
            return
        now = time.monotonic()
        with self._lock:
            if len(self._ends) >= _MOST_KEPT:
                self._ends = {each: end for each, end in self._ends.items() if end > now}
            self._ends[scope] = max(now + pause, self._ends.get(scope, 0))

    def left(self, scope: str) -> float:
        """Return the rest of a scope's pause in seconds; 0 if there is none."""
        end = self._ends.get(scope)
        return 0 if end is None else max(0, end - time.monotonic())


def pause_of(status: int, headers: Mapping[str, str]) -> float:
    """Return how long the sender of a response wants no more requests, in seconds.

    ``headers``: a mapping that ignores case. ``Retry-After`` counts in errors only: in a
    redirection it is about that one request.
    """
    after = _retry_after(headers) if status >= 400 else 0
    return max(after, _without_quota(headers.get("RateLimit", "")))


def _retry_after(headers: Mapping[str, str]) -> float:
    value = headers.get("Retry-After", "").strip()
    if _NUMBER.fullmatch(value):
        return int(value)
    until = _date(value)
    if until is None:
        return 0
    # By the clock that the date is of, if that is known.
    return (until - (_date(headers.get("Date", "")) or datetime.now(UTC))).total_seconds()


def _date(value: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(value[:64])
    except (ValueError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def _without_quota(header: str) -> float:
    """Return the longest ``t`` of the items with ``r=0``: ``"spike";r=0;t=5``."""
    longest = 0
    for item in _QUOTED.sub("", header[:_LONGEST_HEADER]).split(","):
        pairs = (parameter.partition("=") for parameter in item.split(";"))
        parameters = {name.strip(): value.strip() for name, _, value in pairs}
        span = parameters.get("t", "")
        if parameters.get("r") == "0" and _NUMBER.fullmatch(span):
            longest = max(longest, int(span))
    return longest
