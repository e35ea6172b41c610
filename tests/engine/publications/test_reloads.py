"""The promise across publications of every kind, measured: no request is ever over its bound.

`promise.py` says what the bound is, `ideal.py` what counts as stricter, `drawing.py` which edits
there are. A seed that fails prints its shortest story; paste it into `Player(make, STORY).play()`.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from engine.engines import each_engine
from engine.publications.drawing import KINDS
from engine.publications.seeds import play
from soak import scaled

if TYPE_CHECKING:
    from engine.engines import MakeEngine

SEEDS = scaled(20, 640)
"""Stories for each of the five kinds, with 30 edits each."""
GROUPS = 8
"""Tests that share the seeds of a kind."""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("group", range(GROUPS))
@each_engine
def test_no_request_is_over_its_bound_and_untouched_ones_notice_nothing(
    make: MakeEngine, kind: str, group: int
) -> None:
    """100 stories of 30 edits; 3,200 with ``RATECTL_SOAK=1``. What was stricter is counted."""
    counts: Counter[str] = Counter()
    for seed in range(group, SEEDS, GROUPS):
        counts += play(make, seed, kind)
    for what, count in sorted(counts.items()):
        print(f"{kind}: {what}: {count}")
    assert counts["decisions"] > 0
