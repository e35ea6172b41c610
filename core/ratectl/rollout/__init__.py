"""Rollouts: some agents try a candidate while others run the live generation; then more, or none.

``steps`` writes each step in one compare-and-swap; ``judge`` compares the agents that take part
with the others; ``controller`` watches them, and advances or aborts the rollout.
"""

from ratectl.rollout.controller import Controlling, Progress
from ratectl.rollout.differences import Differences
from ratectl.rollout.judge import Group, Judge, Verdict
from ratectl.rollout.presence import controller_of
from ratectl.rollout.status import RolloutStatus, status_of
from ratectl.rollout.steps import (
    STAGES,
    Terms,
    Underway,
    abort,
    advance,
    pause,
    promote,
    read_rollout,
    require_stages,
    resume,
)
from ratectl.rollout.trial import Mode, agents_to_try, try_out

__all__ = [
    "STAGES",
    "Controlling",
    "Differences",
    "Group",
    "Judge",
    "Mode",
    "Progress",
    "RolloutStatus",
    "Terms",
    "Underway",
    "Verdict",
    "abort",
    "advance",
    "agents_to_try",
    "controller_of",
    "pause",
    "promote",
    "read_rollout",
    "require_stages",
    "resume",
    "status_of",
    "try_out",
]
