"""Sizes of tests: `make test` repeats less than `make soak`, which sets ``RATECTL_SOAK=1``."""

from __future__ import annotations

import os
from typing import Final

__all__ = ["SOAK", "scaled"]

SOAK: Final = os.environ.get("RATECTL_SOAK") == "1"


def scaled(usual: int, soak: int) -> int:
    """Return how often a test repeats what it does."""
    return soak if SOAK else usual
