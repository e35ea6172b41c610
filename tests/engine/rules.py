"""The oracle's rules of limits: by definition, in exact numbers.

Nothing here is shared with an engine. A rule is the parameters of a limit; its buckets are values
that are replaced, never changed (a slot alone can be over for every bucket that counts it).
"""

from __future__ import annotations

from dataclasses import replace

from engine.rule_quota import Quota, Used, Wall
from engine.rule_slots import UNKNOWN, Held, Slot, Slots
from engine.rule_tokens import Level, Tokens
from engine.rule_window import Counts, Window

__all__ = [
    "SECOND", "UNKNOWN", "Bucket", "Quota", "Rule", "Slot", "Slots", "Tokens", "Wait", "Wall",
    "Window", "gravity", "migrate", "scaled",
]  # fmt: skip

SECOND = 10**9

Rule = Tokens | Window | Quota | Slots
Bucket = Level | Counts | Used | Held
Wait = int | None
"""Nanoseconds until a cost is admitted, UNKNOWN, or None for never."""


def migrate(old: Rule, new: Rule, bucket: Bucket, now: int, *, in_use: bool = False) -> Bucket:
    """The written rules for a change of parameters.

    ``in_use``: it is what a request carries over to a bucket that others may have used.

    Within one algorithm each has its own; from one to another, what is missing from a full bucket
    is missing from the new one, as if admitted now.
    """
    if type(old) is type(new):
        return new.carried(old, bucket, now) if in_use else new.moved(old, bucket, now)
    return new.spent(old.missing(bucket, now), old.own_time(bucket, now))


def scaled(rule: Rule, by: int) -> Rule:
    """Return the rule for requests that are ``by`` times as large."""
    if isinstance(rule, Tokens):
        return replace(rule, count=rule.count * by, burst=rule.burst * by)
    return replace(rule, most=rule.most * by)


def gravity(wait: Wait) -> tuple[int, int]:
    """Return a sort key: never is worse than unknown, unknown is worse than every known wait."""
    if wait is None:
        return (2, 0)
    return (1, 0) if wait == UNKNOWN else (0, wait)
