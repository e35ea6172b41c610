"""What a change of parameters does to a bucket. Pure; one rule for each kind of change.

In every rule the bucket first accrues at its old parameters up to the instant of the change.

==================================  ============================================================
change                              what happens
==================================  ============================================================
token-bucket: rate or burst         tokens = min(tokens, new burst): growth adds capacity, not
                                    tokens; a level between two ticks is rounded down
sliding-window: count               what was counted stays counted
sliding-window: length              each sub-window's count moves to the latest instant at which it
                                    may have been admitted; what a new window has not seen is gone
quota: count                        what was counted stays counted, until the window ends
quota: unit, zone or time           what was counted counts in the new window, as if admitted now
concurrency: max                    what is held stays held
concurrency: hold                   a slot is freed when its old time is up or, if that is sooner,
                                    the new one, counted from the change
one algorithm to another            what is missing from a full bucket (tokens, or what is counted)
                                    is missing from the new one, as if admitted now
==================================  ============================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ratectl.engine.algorithms.concurrency import Concurrency
from ratectl.engine.algorithms.quota import Quota
from ratectl.engine.algorithms.sliding_window import SLOTS, SlidingWindow
from ratectl.engine.algorithms.token_bucket import TokenBucket

if TYPE_CHECKING:
    from ratectl.engine.algorithms.sliding_window import WindowState
    from ratectl.engine.algorithms.token_bucket import TokenState
    from ratectl.engine.api import Algorithm, State

__all__ = ["migrate"]


def migrate(old: Algorithm, new: Algorithm, state: Any, now: int) -> State:
    """The state under ``new`` of a bucket that was ``state`` under ``old`` until ``now``.

    Never more than the old state would admit at ``now``, save by what the table above says.
    """
    if isinstance(old, TokenBucket) and isinstance(new, TokenBucket):
        return _refilled(old, new, state, now)
    if isinstance(old, SlidingWindow) and isinstance(new, SlidingWindow):
        return _rewindow(old, new, state, now)
    if isinstance(old, Quota) and old.same_window(new):
        return old.advance(state, now)
    if isinstance(old, Concurrency) and isinstance(new, Concurrency):
        return new.resumed(state, now)
    return new.spent(old.used(state, now), old.at(state, now))


def _refilled(old: TokenBucket, new: TokenBucket, state: TokenState, now: int) -> TokenState:
    level, at = old.level(state, now), old.at(state, now)
    _, _, high_at = state
    kept = min(level * new.per_token // old.per_token, new.capacity)
    return kept, at, at if level > old.half else high_at


def _rewindow(old: SlidingWindow, new: SlidingWindow, state: WindowState, now: int) -> WindowState:
    state = old.advance(state, now)
    if old.slot_ns == new.slot_ns:
        return state
    newest, since, ring, _ = state
    now = old.at(state, now)
    head = now // new.slot_ns
    moved = [0] * SLOTS
    for slot in range(newest - SLOTS + 1, newest + 1):
        latest = min((slot + 1) * old.slot_ns - 1, now)
        if latest // new.slot_ns > head - SLOTS:
            moved[latest // new.slot_ns % SLOTS] += ring[slot % SLOTS]
    return head, since, tuple(moved), sum(moved)
