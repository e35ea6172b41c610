"""How much of recent traffic a change would have refused, in words and as data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ratectl_cli.framework.text import plural

if TYPE_CHECKING:
    from ratectl.changes.refusal_estimate import Refusals

__all__ = ["percent", "refusals_data", "refusals_text", "share_text"]


def percent(count: int, total: int) -> str:
    """``4.2%``; 0% and 100% are said only of none and all."""
    if count in (0, total):
        return "100%" if count else "0%"
    share = 100 * count / total
    if share < 0.1:
        return "<0.1%"
    return f"{share:.1f}%" if share < 99.95 else ">99.9%"


def refusals_text(found: Refusals) -> str:
    """``0% → at most 20.0% of 960 requests (estimate)``."""
    estimated = found.least != found.most and not _open(found)
    requests = plural(found.requests, "request")
    return f"{share_text(found)} of {requests}{' (estimate)' if estimated else ''}"


def share_text(found: Refusals) -> str:
    """``0% → 4.2%``; ``?`` for what does not follow."""
    return f"{percent(found.refused, found.requests)} → {_foretold(found)}"


def refusals_data(found: Refusals | None) -> dict[str, Any] | None:
    """Shares, 0 to 1; null where no agent reports the limit. ``least`` 0 and ``most`` 1: unknown,
    equal: known."""
    if found is None:
        return None
    names = ("refused", "least", "most")
    shares = {name: round(getattr(found, name) / found.requests, 6) for name in names}
    return {"requests": found.requests, **shares}


def _foretold(found: Refusals) -> str:
    least, most = (percent(count, found.requests) for count in (found.least, found.most))
    if _open(found):
        return "?"
    if found.least == found.most or least == most:
        return least
    if found.most == found.requests:
        return f"at least {least}"
    return f"{least} to {most}" if found.least else f"at most {most}"


def _open(found: Refusals) -> bool:
    return not found.least and found.most == found.requests
