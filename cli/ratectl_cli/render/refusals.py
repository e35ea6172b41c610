"""Share of recent requests that a change would have refused, as text and as data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ratectl_cli.framework.text import plural

if TYPE_CHECKING:
    from ratectl.changes.refusal_estimate import Refusals

__all__ = ["percent", "refusals_data", "refusals_text", "share_text"]


def percent(count: int, total: int) -> str:
    """Return ``4.2%``. Only none is 0%, and only all is 100%."""
    if count in (0, total):
        return "100%" if count else "0%"
    share = 100 * count / total
    if share < 0.1:
        return "<0.1%"
    return f"{share:.1f}%" if share < 99.95 else ">99.9%"


def refusals_text(refusals: Refusals) -> str:
    """Return ``0% → at most 20.0% of 960 requests (estimate)``."""
    estimated = refusals.least != refusals.most and not _is_unknown(refusals)
    requests = plural(refusals.requests, "request")
    return f"{share_text(refusals)} of {requests}{' (estimate)' if estimated else ''}"


def share_text(refusals: Refusals) -> str:
    """Return ``0% → 4.2%``; ``?`` if the share after the change cannot be estimated."""
    return f"{percent(refusals.refused, refusals.requests)} → {_estimate(refusals)}"


def refusals_data(refusals: Refusals | None) -> dict[str, Any] | None:
    """Return shares from 0 to 1; None if no agent reports the limit.

    ``least`` 0 and ``most`` 1 mean unknown; equal values mean exact.
    """
    if refusals is None:
        return None
    names = ("refused", "least", "most")
    shares = {name: round(getattr(refusals, name) / refusals.requests, 6) for name in names}
    return {"requests": refusals.requests, **shares}


def _estimate(refusals: Refusals) -> str:
    least, most = (percent(count, refusals.requests) for count in (refusals.least, refusals.most))
    if _is_unknown(refusals):
        return "?"
    if refusals.least == refusals.most or least == most:
        return least
    if refusals.most == refusals.requests:
        return f"at least {least}"
    return f"{least} to {most}" if refusals.least else f"at most {most}"


def _is_unknown(refusals: Refusals) -> bool:
    return not refusals.least and refusals.most == refusals.requests
