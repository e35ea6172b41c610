"""Answers of the limits to one request, and the counts of that request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ratectl.engine.algorithms.protocol import NEVER, UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ratectl.engine.algorithms.protocol import Slot, State
    from ratectl.engine.attributes import Attributes
    from ratectl.engine.buckets.bucket_set import Group
    from ratectl.engine.buckets.charges import Look

__all__ = [
    "Draw", "advanced", "attempt_all", "count_absent", "count_admitted", "count_refused",
    "decisive", "free", "numbered",
]  # fmt: skip


Draw = tuple[Any, object, int]
"""Wallets of a limit, key, and cost to be taken out of the wallet of that key."""


def advanced(looks: list[Look], now: int) -> list[tuple[Group, object, Any, int]]:
    """Return the buckets, as of ``now``, whose windows have advanced since the last request."""
    moved = []
    for group, key, state, serial, _ in looks:
        after = group.algorithm.advance(state, now)
        if after is not state:
            moved.append((group, key, after, serial))
    return moved


def count_admitted(looks: list[Look], lefts: list[int], attributes: Mapping[str, str]) -> None:
    """Count an admitted request. ``lefts``: the remaining cost of each limit that admitted it."""
    remaining = iter(lefts)
    for group, key, _, _, wait in looks:
        counters = group.counters
        if group.per:
            held = group.held and group.held.get(key)
            if held:
                held[0] += 1
            else:
                group.count_key(key, attributes)
        if wait:
            counters.shadow_refused += 1
            continue
        counters.allowed += 1
        left = next(remaining)
        lowest = counters.lowest
        if lowest is None or left < lowest:
            counters.lowest = left


def count_refused(looks: list[Look], attributes: Mapping[str, str]) -> None:
    """Count a request that was refused."""
    for group, key, _, _, wait in looks:
        if group.per:
            group.count_key(key, attributes)
        if wait and group.shadow:
            group.counters.shadow_refused += 1
        elif wait:
            group.count_refusal(key, attributes, never=wait == NEVER)


def count_absent(groups: Iterable[Group]) -> None:
    """Count a request in the limits that count per an attribute which it lacks."""
    for group in groups:
        group.counters.absent += 1


def free(slots: Sequence[Slot]) -> None:
    """Release slots."""
    for slot in slots:
        slot.release()


def numbered(look: Look, of: Group, serial: int) -> Look:
    """Return the look; with the serial number of its bucket if that is in this group."""
    group, key, state, _, wait = look
    return (group, key, state, serial, wait) if group is of else look


def decisive(looks: list[Look], *, shadow: bool) -> tuple[Group, Any, int] | None:
    """Return group, state and wait of the limit whose refusal is reported."""
    found: tuple[Group, Any, int] | None = None
    longest = 0
    for group, _, state, _, wait in looks:
        if not wait or (group.shadow and not shadow):
            continue
        if found is None or _outweighs(wait, longest):
            found, longest = (group, state, wait), wait
    return found


def _outweighs(wait: int, other: int) -> bool:
    """Return True if a refusal's wait is reported rather than another wait.

    ``NEVER`` comes first, then ``UNKNOWN``, then the longer wait: at the reported instant, no limit
    refuses.
    """
    if wait >= 0 and other >= 0:
        return wait > other
    return other != NEVER and (wait == NEVER or (wait == UNKNOWN and other != UNKNOWN))


def attempt_all(
    asked: Iterable[tuple[Group, int]], attributes: Attributes, now: int, looks: list[Look],
    states: list[tuple[Group, object, Any, int]], lefts: list[int], slots: list[Slot],
    draws: list[Draw] | None,
) -> tuple[bool, Group | None, int, State]:  # fmt: skip
    """Try every limit, and append what it answers.

    ``draws``: takes the costs that come out of wallets; None: nothing is to be charged.

    Return whether one refuses, and the limit with the least that is left, how much that is, and its
    state then. The caller frees ``slots`` in a ``try`` without a loop: Python 3.13 leaves the jump
    of a loop out of it, where a signal handler may raise.
    """
    refused, tightest = False, None
    least, capacity, state_then = 0, 1, None
    for group, amount in asked:
        key = group.key(attributes)
        state, serial = group.find(key, now)
        algorithm = group.algorithm
        wait, after, left, slot = algorithm.attempt(state, amount, now)
        is_drawn = False
        if algorithm.wallets is not None:
            drawn = algorithm.drawn(key, amount, now, wait, after, is_real=draws is not None)
            if drawn >= 0:
                is_drawn, wait, left = True, 0, drawn
        looks.append((group, key, state, serial, wait))
        if wait:
            refused = refused or not group.shadow
            continue
        if is_drawn and draws is not None:
            draws.append((algorithm.wallets, key, amount))
        elif serial or amount:
            states.append((group, key, after, serial))
        lefts.append(left)
        size = algorithm.capacity or 1
        if not group.shadow and (tightest is None or left * capacity < least * size):
            tightest, least, capacity, state_then = group, left, size, after
        if slot is not None:
            slots.append(slot)
    return refused, tightest, least, state_then
