"""Checks of kill switches: which are on, and which agents do not obey them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratectl.health.checks import GRACE_SECONDS, Check
from ratectl.kill_switch.wording import by_files, switch_text
from ratectl.runtime.times import seconds_since

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from ratectl.health.fleet import Fleet
    from ratectl.kill_switch.switches import Switches

__all__ = ["check_switches"]


def check_switches(fleet: Fleet, damage: Sequence[str], at: datetime) -> list[Check]:
    """Check that no switch is on, and that every agent obeys the newest record of switches.

    ``damage``: why the record cannot be read, if it cannot.
    """
    switches = fleet.switches
    checks = [
        Check("panic", "failed", f"{problem}: `ratectl panic off` replaces it")
        for problem in damage
    ]
    checks += [Check("panic", "warning", switch_text(switch, at)) for switch in switches.on]
    for agent, text in by_files(fleet.agents):
        checks.append(Check("panic", "warning", f"{agent} obeys a file on its machine: {text}"))
    checks += _check_obedience(fleet, at)
    return checks or [Check("panic", "ok", "no switch is on")]


def _check_obedience(fleet: Fleet, at: datetime) -> Iterator[Check]:
    """Yield a check for each agent that is behind the newest record of switches."""
    if _age(fleet.switches, at) <= GRACE_SECONDS:
        return
    for agent in fleet.agents:
        if not fleet.obeys(agent):
            on = [f"{each.mode} {each.scope}" for each in agent.panic if each.source == "store"]
            message = f"{agent.id} does not obey the newest switches: it obeys "
            yield Check("panic", "failed", message + (", ".join(on) or "none"))


def _age(switches: Switches, at: datetime) -> float:
    """Return how many seconds ago the last turn was, or more.

    A sequence is a time, or later; a signed one counts on from the time of the first turn.
    """
    turned = (seconds_since(switch.time, at) for switch in switches.on)
    ages = [at.timestamp() - switches.sequence / 1_000, *(age for age in turned if age is not None)]
    return min(ages)
