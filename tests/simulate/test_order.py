"""Time order within a window."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from logs import START, calls, log, traffic

from ratectl.simulate.order import Sorter

if TYPE_CHECKING:
    from ratectl.simulate.calls import Call


def call(at: int, name: str = "") -> Call:
    return (at, name, {}, 1)


def times(sorter: Sorter, *batches: list[int]) -> list[int]:
    given = sorter.ordered([[call(at) for at in batch] for batch in batches])
    return [one[0] for batch in given for one in batch]


def test_a_short_log_is_sorted_completely() -> None:
    replayed = traffic(log(30, 10, 20, 0), window_ns=0)
    assert [at // 10**9 - START for at, *_ in calls(replayed)] == [0, 10, 20, 30]
    assert replayed.reading.late == 0


def test_calls_within_the_window_are_sorted() -> None:
    sorter = Sorter(10, batch=1)
    assert times(sorter, [5, 1], [12, 3], [20, 11]) == [1, 3, 5, 11, 12, 20]
    assert (sorter.late, sorter.most_late_ns) == (0, 0)


def test_calls_beyond_the_window_get_a_later_time_and_are_counted() -> None:
    sorter = Sorter(10, batch=1)
    assert times(sorter, [1, 50, 20, 100, 7]) == [1, 20, 50, 50, 100]
    assert (sorter.late, sorter.most_late_ns) == (1, 43)


def test_calls_of_one_instant_keep_their_order() -> None:
    sorter = Sorter(0, batch=2)
    names = [[call(5, "a"), call(3, "b")], [call(5, "c"), call(5, "d")], [call(4, "late")]]
    given = [one[:2] for batch in sorter.ordered(names) for one in batch]
    assert given == [(3, "b"), (5, "a"), (5, "c"), (5, "d"), (5, "late")]


def test_held_calls_are_bounded() -> None:
    sorter = Sorter(10**9, batch=10, max_held=50)
    most = held = 0

    def arriving() -> list[list[Call]]:
        return [[call(at) for at in range(start, start + 10)] for start in range(0, 2000, 10)]

    def counted() -> object:
        nonlocal held, most
        for batch in arriving():
            held += len(batch)
            most = max(most, held)
            yield batch

    found = []
    for batch in sorter.ordered(counted()):  # type: ignore[arg-type]
        held -= len(batch)
        found += [one[0] for one in batch]
    assert found == list(range(2000))
    assert most <= 50 + 25 + 10


def test_calls_shuffled_within_the_window_are_sorted() -> None:
    draw = random.Random(5)
    wanted = sorted(draw.randrange(10_000) for _ in range(5000))
    shuffled = sorted(wanted, key=lambda at: at + draw.randrange(100))
    sorter = Sorter(100, batch=64)
    assert times(sorter, shuffled) == wanted
    assert sorter.late == 0
