"""All tamperings, by their target."""

from __future__ import annotations

from typing import Final

from agent.tampering.bundles import BUNDLES
from agent.tampering.disk import DISK
from agent.tampering.environments import ENVIRONMENTS
from agent.tampering.heads import HEADS
from agent.tampering.records import HISTORY, ROLLOUTS
from agent.tampering.switches import SWITCHES

__all__ = ["TAMPERINGS"]

TAMPERINGS: Final = {
    "heads": HEADS,
    "switches": SWITCHES,
    "bundles": BUNDLES,
    "history": HISTORY,
    "rollouts": ROLLOUTS,
    "environments": ENVIRONMENTS,
    "disk": DISK,
}
