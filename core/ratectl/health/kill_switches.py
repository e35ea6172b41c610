"""Checks of kill switches: which are on, and which agents do not obey them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratectl.errors import BundleError
from ratectl.health.checks import GRACE_SECONDS, Check
from ratectl.kill_switch.switches import Switches, read_switches
from ratectl.kill_switch.wording import by_files, switch_text
from ratectl.runtime.times import seconds_since

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from ratectl.records import AgentRecord
    from ratectl.stores.base import Store

__all__ = ["check_switches"]


def check_switches(store: Store, agents: Sequence[AgentRecord], at: datetime) -> list[Check]:
    """Check that no switch is on, and that every agent obeys the newest record of switches."""
    switches, checks = Switches(), []
    try:
        switches = read_switches(store)
    except BundleError as error:
        checks.append(Check("panic", "failed", f"{error}: `ratectl panic off` replaces it"))
    checks += [Check("panic", "warning", switch_text(switch, at)) for switch in switches.on]
    for agent, text in by_files(agents):
        checks.append(Check("panic", "warning", f"{agent} obeys a file on its machine: {text}"))
    checks += _check_obedience(switches, agents, at)
    return checks or [Check("panic", "ok", "no switch is on")]


def _check_obedience(
    switches: Switches, agents: Sequence[AgentRecord], at: datetime
) -> Iterator[Check]:
    """Yield a check for each agent that is behind the newest record of switches."""
    if _age(switches, at) <= GRACE_SECONDS:
        return
    for agent in agents:
        if agent.panic_sequence < switches.sequence:
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
