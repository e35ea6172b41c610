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

from typing import TYPE_CHECKING

from ratectl.engine.concurrency import Concurrency, SlotState
from ratectl.engine.quota import Quota, QuotaState
from ratectl.engine.sliding_window import SLOTS, SlidingWindow, WindowState
from ratectl.engine.token_bucket import TokenBucket, TokenState

if TYPE_CHECKING:
    from ratectl.engine.base import Algorithm, State

__all__ = ["migrate"]


def migrate(old: Algorithm, new: Algorithm, state: State, now: int) -> State:
    """The state under ``new`` of a bucket that was ``state`` under ``old`` until ``now``.

    Never more than the old state would admit at ``now``, save by what the table above says.
    """
    if isinstance(old, TokenBucket) and isinstance(new, TokenBucket):
        assert isinstance(state, TokenState)
        level, at = old.level(state, now), max(now, state.at)
        refilled = TokenState(min(level * new.per_token // old.per_token, new.capacity), at)
        refilled.high_at = at if level > old.half else state.high_at
        return refilled
    if isinstance(old, SlidingWindow) and isinstance(new, SlidingWindow):
        assert isinstance(state, WindowState)
        return _rewindow(old, new, state, now)
    if isinstance(old, Quota) and old.same_window(new):
        assert isinstance(state, QuotaState)
        moved = state.copy()
        old.used(moved, now)  # begin the window that has come
        return moved
    if isinstance(old, Concurrency) and isinstance(new, Concurrency):
        assert isinstance(state, SlotState)
        return new.resumed(state, now)
    state = state if isinstance(state, SlotState) else state.copy()
    return new.spent(old.used(state, now), old.at(state, now))


def _rewindow(old: SlidingWindow, new: SlidingWindow, state: WindowState, now: int) -> WindowState:
    state = state.copy()
    old.used(state, now)  # forget what has passed
    if old.slot_ns == new.slot_ns:
        return state
    now = max(now, state.head * old.slot_ns)
    moved = new.full(now)
    moved.since = state.since
    for slot in range(state.head - SLOTS + 1, state.head + 1):
        count = state.ring[slot % SLOTS]
        latest = min((slot + 1) * old.slot_ns - 1, now)
        if count and latest // new.slot_ns > moved.head - SLOTS:
            _count(moved, latest // new.slot_ns, count)
    return moved


def _count(state: WindowState, slot: int, count: int) -> None:
    state.ring[slot % SLOTS] += count
    state.total += count
