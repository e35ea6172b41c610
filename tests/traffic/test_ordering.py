"""Sorter: order, completeness, late requests, and bounded memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ratectl.traffic import Ordered, Request, ordered

if TYPE_CHECKING:
    from collections.abc import Iterator

times = st.lists(st.integers(0, 200), max_size=80)


def stream(at: list[int]) -> list[Request]:
    """Return requests whose size is their position in the stream."""
    return [Request(each, {"client": "c"}, number) for number, each in enumerate(at)]


def lateness(at: list[int]) -> int:
    newest = late = 0
    for each in at:
        newest = max(newest, each)
        late = max(late, newest - each)
    return late


@settings(max_examples=300)
@given(times, st.integers(0, 250))
def test_requests_are_sorted_and_complete(at: list[int], window: int) -> None:
    """For any input: sorted, each request once, and times only change to later ones."""
    sorter = ordered(stream(at), window)
    out = list(sorter)
    assert [r.at_ns for r in out] == sorted(r.at_ns for r in out)
    assert sorted(r.size for r in out) == list(range(len(at)))
    moved = [r.at_ns - at[r.size] for r in out]
    assert min(moved, default=0) >= 0
    assert sorter.late == sum(1 for each in moved if each)
    assert sorter.most_late_ns == max(moved, default=0)


@settings(max_examples=300)
@given(times)
def test_a_window_as_long_as_the_disorder_sorts_exactly(at: list[int]) -> None:
    """The order is stable, and no request is late."""
    requests = stream(at)
    sorter = ordered(requests, lateness(at))
    assert list(sorter) == sorted(requests, key=lambda r: r.at_ns)
    assert sorter.late == 0


@settings(max_examples=200)
@given(times, st.integers(0, 50))
def test_the_look_ahead_is_bounded_by_the_window(at: list[int], window: int) -> None:
    """All requests outside the window are yielded before more are read."""
    requests = stream(at)
    held: set[int] = set()

    def source() -> Iterator[Request]:
        newest = 0
        for request in requests:
            assert all(at[number] > newest - window for number in held)
            newest = max(newest, request.at_ns)
            held.add(request.size)
            yield request

    for request in ordered(source(), window):
        held.remove(request.size)
    assert not held


@settings(max_examples=200)
@given(times, st.integers(1, 10))
def test_memory_is_bounded(at: list[int], most: int) -> None:
    """For any window, at most ``max_held`` requests are read ahead."""
    read = 0

    def source() -> Iterator[Request]:
        nonlocal read
        for request in stream(at):
            read += 1
            yield request

    given_out = 0
    for request in Ordered(source(), 10**18, max_held=most):
        given_out += 1
        assert read - given_out <= most
        assert request.at_ns >= at[request.size]
    assert given_out == len(at)


def test_late_requests_get_a_later_time_and_are_counted() -> None:
    """Example: the window is 5, and 3 comes 17 late."""
    sorter = ordered(stream([10, 20, 3, 21]), 5)
    assert [(r.at_ns, r.size) for r in sorter] == [(10, 0), (10, 2), (20, 1), (21, 3)]
    assert (sorter.late, sorter.most_late_ns) == (1, 7)


@pytest.mark.parametrize(("window", "held"), [(-1, 1), (0, 0)])
def test_impossible_windows_are_refused(window: int, held: int) -> None:
    """A negative window, or no room for a request, raises ValueError."""
    with pytest.raises(ValueError, match="window"):
        Ordered([], window, max_held=held)
