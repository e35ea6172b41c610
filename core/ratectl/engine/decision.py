"""The answer to "may this request pass?"."""

from __future__ import annotations

from typing import Final, Literal

__all__ = ["NEVER", "Decision", "Reason"]

Reason = Literal["ok", "limited", "never", "shadow", "no_policy", "error"]

NEVER: Final = -1
"""In place of a wait in nanoseconds: no wait would help."""


class Decision:
    """May this request pass, and what decided. True in a condition when allowed.

    ``reason``:

    - ``ok``: every limit admitted it;
    - ``shadow``: admitted, though a shadow limit would have refused;
    - ``limited``: refused now; it would be admitted after ``retry_after``;
    - ``never``: refused, and waiting does not help (cost above the burst, or rate zero);
    - ``no_policy``: admitted, because no policy covers the scope;
    - ``error``: the limiter could not decide, and ``on_error`` did.
    """

    __slots__ = (
        "allowed",
        "capacity",
        "generation",
        "limit",
        "reason",
        "remaining",
        "reset_after_ns",
        "retry_after_ns",
        "scope",
    )

    allowed: bool
    reason: Reason
    limit: str | None
    """Name of the limit that decided: the refusing one, or the one with the least remaining."""
    scope: str | None
    """Declared scope whose bucket that is."""
    capacity: int | None
    """Most that a full bucket of that limit admits at once: its burst, or its window's count."""
    remaining: int | None
    """Cost that would still be admitted at once, after this decision."""
    retry_after_ns: int | None
    """Nanoseconds until the same request would be admitted: 0 when allowed, None for never."""
    reset_after_ns: int | None
    """Nanoseconds until that bucket is full again, if nothing else is admitted; None for never."""
    generation: int
    """Policy generation that decided; 0 before any was loaded."""

    def __init__(
        self,
        allowed: bool,
        reason: Reason,
        generation: int,
        limit: str | None = None,
        scope: str | None = None,
        capacity: int | None = None,
        remaining: int | None = None,
        retry_after_ns: int | None = 0,
        reset_after_ns: int | None = 0,
    ) -> None:
        self.allowed = allowed
        self.reason = reason
        self.generation = generation
        self.limit = limit
        self.scope = scope
        self.capacity = capacity
        self.remaining = remaining
        self.retry_after_ns = retry_after_ns
        self.reset_after_ns = reset_after_ns

    def __bool__(self) -> bool:
        return self.allowed

    @property
    def retry_after(self) -> float | None:
        """``retry_after_ns`` in seconds."""
        return None if self.retry_after_ns is None else self.retry_after_ns / 1e9

    @property
    def reset_after(self) -> float | None:
        """``reset_after_ns`` in seconds."""
        return None if self.reset_after_ns is None else self.reset_after_ns / 1e9

    def __repr__(self) -> str:
        verdict = "allowed" if self.allowed else "refused"
        by = f" by {self.limit}@{self.scope}" if self.limit else ""
        wait = f", retry after {self.retry_after}s" if self.reason == "limited" else ""
        left = f", {self.remaining} of {self.capacity} left" if self.limit else ""
        return f"<Decision {verdict} ({self.reason}){by}{left}{wait}, generation {self.generation}>"
