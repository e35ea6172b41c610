"""What `ratectl doctor` says of kill switches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ratectl.errors import BundleError
from ratectl_cli.diagnosis import Finding
from ratectl_cli.render.panic import by_files, switch_text
from ratectl_cli.render.times import seconds_since

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from ratectl.kill_switch.switches import Switches
    from ratectl.records import AgentRecord
    from ratectl.stores.base import Store

__all__ = ["examine_switches"]

_GRACE_SECONDS: Final = 5.0
"""How long an agent may be behind a switch that was just turned."""


def examine_switches(
    store: Store, agents: Sequence[AgentRecord], at: datetime
) -> tuple[Switches, list[Finding]]:
    """What is on, and what there is to say of it."""
    from ratectl.kill_switch.switches import Switches, read_switches

    try:
        switches, findings = read_switches(store), []
    except BundleError as error:
        switches = Switches()
        findings = [Finding("panic", "failed", f"{error}: `ratectl panic off` replaces it")]
    findings += [Finding("panic", "warning", switch_text(each)) for each in switches.on]
    for agent, text in by_files(agents):
        findings.append(Finding("panic", "warning", f"{agent} obeys a file of its own: {text}"))
    findings += _behind(switches, agents, at)
    return switches, findings or [Finding("panic", "ok", "no switch is on")]


def _age(switches: Switches, at: datetime) -> float:
    """Return how many seconds ago the last turn was, or more.

    A sequence is a time, or later; a signed one counts on from the time of the first turn.
    """
    turned = (seconds_since(each.time, at) for each in switches.on)
    ages = [at.timestamp() - switches.sequence / 1_000, *(age for age in turned if age is not None)]
    return min(ages)


def _behind(switches: Switches, agents: Sequence[AgentRecord], at: datetime) -> Iterator[Finding]:
    age = _age(switches, at)
    for agent in agents:
        if agent.panic_sequence < switches.sequence and age > _GRACE_SECONDS:
            text = f"{agent.id} does not go by what was turned last: it obeys "
            on = [f"{each.mode} {each.scope}" for each in agent.panic if each.source == "store"]
            yield Finding("panic", "failed", text + (", ".join(on) or "none"))
