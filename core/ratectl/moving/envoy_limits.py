"""Limits of envoyproxy/ratelimit and quotas of ratectl: fixed windows of the clock in UTC."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from ratectl.moving.envoy_files import finding, is_wildcard
from ratectl.policy.language.field_types import MAX_BURST
from ratectl.runtime.wording import joined

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratectl.diagnostics import Diagnostic
    from ratectl.moving.envoy_files import RateLimitModel, Rule

__all__ = ["UNITS", "WEEK", "QuotaMode", "problems_of", "rate_of"]

UNITS: Final = {
    "second": "s",
    "minute": "min",
    "hour": "h",
    "day": "day",
    "week": "week",
    "month": "month",
}
"""Units of rates by those of envoyproxy/ratelimit."""

WEEK: Final = "Thu 00:00 UTC"
"""Begin of their weeks: 1970 began on a Thursday."""

QuotaMode = Literal["shadow", "enforce"]

_DECIDE: Final = "say what it means: --quota-mode shadow or --quota-mode enforce"


def rate_of(limit: RateLimitModel) -> str:
    """Return the rate of a limit without problems."""
    if limit.unlimited:
        return "unlimited"
    return f"{limit.requests_per_unit}/{UNITS[(limit.unit or '').lower()]}"


def problems_of(rule: Rule, quota_mode: QuotaMode | None) -> Iterator[Diagnostic]:
    """Yield what is wrong with a descriptor, or cannot be said, without those below it."""
    model = rule.model
    if model.key.endswith("*") and not model.value:
        message = f"the key {model.key} is the beginning of keys, and a mapping names whole keys"
        yield finding(rule.span(), message, "list the keys one by one")
    if model.share_threshold and not is_wildcard(model.key, model.value):
        message = "share_threshold is for values with * at their end"
        yield finding(rule.span("share_threshold"), message, "delete it, as one value is counted")
    if model.rate_limit is not None:
        if model.quota_mode and quota_mode is None and not model.rate_limit.unlimited:
            message = "quota_mode never refuses in some versions, and refuses in later ones"
            yield finding(rule.span("quota_mode"), message, _DECIDE)
        yield from _limit_problems(rule, model.rate_limit)


def _limit_problems(rule: Rule, limit: RateLimitModel) -> Iterator[Diagnostic]:
    unit, most = (limit.unit or "").lower(), limit.requests_per_unit
    if limit.name and any(each.name == limit.name for each in limit.replaces):
        yield finding(rule.span("replaces"), "the limit replaces itself", "name other limits")
    if limit.unlimited:
        if unit:
            yield finding(rule.span("unit"), "an unlimited limit has no unit", "delete unit")
        return
    if not unit:
        yield finding(
            rule.span("rate_limit"), "the limit has no unit", "add one, like unit: minute"
        )
    elif unit == "year":
        message = "a year is 365 days since 1970, which no calendar of ratectl knows"
        yield finding(rule.span("unit"), message, "write month, week or day")
    elif unit not in UNITS:
        hint = f"write {joined(list(UNITS), 'or')}"
        yield finding(rule.span("unit"), f"there is no unit {limit.unit!r}", hint)
    if most is None:
        message = "the limit has no requests_per_unit, which envoyproxy/ratelimit reads as 0"
        yield finding(rule.span("rate_limit"), message, "add requests_per_unit")
    elif most > MAX_BURST:
        message = f"requests_per_unit is more than {MAX_BURST:,}"
        yield finding(
            rule.span("requests_per_unit"), message, "write less, or unlimited: true without a unit"
        )
