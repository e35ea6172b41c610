"""Bounds and fallbacks of limits across the cluster, in words."""

from __future__ import annotations

import pytest

from ratectl.cluster.promise import bound_text, fallback_texts
from support import once

pytestmark = once

WHOLE = "in any window of length w, all processes together admit at most "


@pytest.mark.parametrize(
    ("burst", "rate", "per", "bound"),
    [
        (200, "100/s", (), f"{WHOLE}200 + 100/s · w"),
        (None, "5/min", (), "all processes together admit at most 5/min, in any window of that length"),
        (
            21, "100/s", ("tenant", "user"),
            (f"{WHOLE}21 + 100/s · w of each tenant, user; while processes come or go, up to 10 · s "
            "more, where s is the part of the limit that moves between them; a request that costs "
            "more than 11 is never admitted"),
        ),
        (1, "100/s", ("tenant",), f"{WHOLE}1 + 100/s · w of each tenant"),
    ],
)  # fmt: skip
def test_the_bound_says_what_moving_shares_add(
    burst: int | None, rate: str, per: tuple[str, ...], bound: str
) -> None:
    assert bound_text(burst, rate, per) == bound


@pytest.mark.parametrize(
    ("is_window", "per", "lost"),
    [
        (False, (), "almost nothing is admitted for 1 to 2 s: another process takes over"),
        (
            False, ("tenant",),
            ("each process admits only its own part of each key for 1 to 2 s: another process takes "
            "over"),
        ),
        (
            True, (),
            ("almost nothing is admitted for about one window: the next owner does not know what "
            "was admitted before"),
        ),
    ],
)  # fmt: skip
def test_the_fallback_is_that_of_the_limit(
    is_window: bool, per: tuple[str, ...], lost: str
) -> None:
    first, *others = fallback_texts(is_window=is_window, per=per)
    assert first == f"if its owner is lost, {lost}"
    assert len(others) == 2
