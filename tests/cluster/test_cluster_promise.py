"""Bounds and fallbacks of limits across the cluster, in words."""

from __future__ import annotations

import pytest

from ratectl.cluster.promise import bound_text, fallback_texts
from support import once

pytestmark = once

TOGETHER = "all processes together admit at most "
WINDOW = "in any window of length w, "


@pytest.mark.parametrize(
    ("burst", "per", "bound"),
    [
        (200, (), f"{WINDOW}{TOGETHER}200 + 5/min · w"),
        (None, (), f"{TOGETHER}5/min, in any window of that length"),
        (1, ("tenant",), f"{WINDOW}{TOGETHER}1 + 5/min · w of each tenant"),
    ],
)
def test_the_bound_of_a_limit(burst: int | None, per: tuple[str, ...], bound: str) -> None:
    assert bound_text(burst, "5/min", per, optimistic=False) == bound


@pytest.mark.parametrize(
    ("burst", "per", "bound"),
    [
        (200, (), f"{WINDOW}{TOGETHER}200 + 5/min · w, and 2 more for each process"),
        (
            None,
            (),
            f"{TOGETHER}5/min, in any window of that length, and 1 more for each process",
        ),
        (
            1,
            ("tenant",),
            f"{WINDOW}{TOGETHER}1 + 5/min · w of each tenant, and 1 more for each process",
        ),
    ],
)
def test_the_bound_of_an_optimistic_limit(
    burst: int | None, per: tuple[str, ...], bound: str
) -> None:
    assert bound_text(burst, "5/min", per, optimistic=True) == bound


def test_the_bound_of_a_window_of_a_key() -> None:
    bound, more = bound_text(None, "5/min", ("user",), optimistic=False).split("; ")
    assert bound == f"{TOGETHER}5/min of each user, in any window of that length"
    assert more == "a process that comes, or whose share grows to two, may admit one more"
    assert bound_text(None, "5/min", ("user",), optimistic=True).endswith(
        "and 1 more for each process; a process that comes may admit one more"
    )


def test_the_bound_of_keys_says_what_moving_shares_add() -> None:
    bound, moving, large = bound_text(21, "100/s", ("tenant", "user"), optimistic=False).split("; ")
    assert bound == f"{WINDOW}{TOGETHER}21 + 100/s · w of each tenant, user"
    assert moving.startswith("while processes come or go, up to 10 · s more, where s is the part ")
    assert large == (
        "a request that costs more than 11 waits until the processes have put their parts together"
    )
    _, moving, _ = bound_text(21, "100/s", ("tenant",), optimistic=True).split("; ")
    assert moving.endswith("moves between them, and 1 for each that comes")


@pytest.mark.parametrize(
    ("size", "is_window", "per", "lost"),
    [
        (999, False, (), "its owner is lost, almost nothing is admitted for 1 to 2 s: "),
        (1_000, False, (), "one of its two owners is lost, about half of it is admitted for 1 to "),
        (9, False, ("tenant",), "one of its two owners is lost, half of the keys have only what "),
        (999, True, (), "its owner is lost, almost nothing is admitted for about one window: "),
        (1_000, True, (), "one of its two owners is lost, about half of it is admitted for about "),
    ],
)
def test_the_fallback_is_that_of_the_limit(
    size: int, is_window: bool, per: tuple[str, ...], lost: str
) -> None:
    first, *others = fallback_texts(size, per, is_window=is_window)
    assert first.startswith(f"if {lost}")
    assert len(others) == 2
