"""Publications that change only which bucket serves a request, never a rate.

Scopes are declared and deleted, overrides without a parameter come, go and match otherwise, `per`
changes. One bucket of its own would bound every request as its limit says, whatever happens to
identities; so no request may be over that bound. Each story has 60 such publications.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.engines import each_engine
from engine.publications.drawing import LIMITS
from engine.publications.seeds import play
from soak import scaled

if TYPE_CHECKING:
    from engine.engines import MakeEngine

SEEDS = scaled(4, 600)
"""Stories for each algorithm."""


@pytest.mark.parametrize("kind", LIMITS)
@pytest.mark.parametrize("seed", range(SEEDS))
@each_engine
def test_changes_of_identity_alone_admit_nothing_more(
    make: MakeEngine, kind: str, seed: int
) -> None:
    play(make, seed, kind, only_identities=True, edits=60)
