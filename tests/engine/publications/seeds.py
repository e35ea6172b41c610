"""Play the story of a seed; fail with its shortest form."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import pytest

from engine.publications.drawing import Drawing
from engine.publications.playing import Failure, Player, Story
from engine.publications.shrinking import failure, shrunk, written

if TYPE_CHECKING:
    from collections import Counter

    from engine.engines import MakeEngine


@lru_cache(maxsize=64)
def drawn(seed: int, kind: str, only_identities: bool, edits: int) -> Story:
    """Return the story of a seed, which every engine plays."""
    return Drawing(seed, kind, only_identities=only_identities).story(edits)


def play(
    make: MakeEngine, seed: int, kind: str, *, only_identities: bool = False, edits: int = 30
) -> Counter[str]:
    """Play the story of a seed; return how its decisions were judged."""
    story = drawn(seed, kind, only_identities, edits)
    try:
        return Player(make, story).play()
    except Failure:
        pass
    shortest = shrunk(make, story)
    found = failure(make, shortest)
    assert found is not None
    pytest.fail(f"seed {seed} of {kind}\n{written(shortest, found)}", pytrace=False)
