"""Kill switches, for people and for programs."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ratectl.engine.waivers import Waivers
from ratectl.kill_switch.wording import by_files, switch_text
from ratectl.runtime.wording import listed
from ratectl_cli.framework.text import Column, Styled, Table, bold, dim, paragraph, plural
from ratectl_cli.render import times

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from ratectl.kill_switch.switches import Changed, Switch, Switches
    from ratectl.kill_switch.turning import SwitchFile
    from ratectl.records import AgentRecord
    from ratectl_cli.framework.recommended import Selector
    from ratectl_cli.framework.text import Block, Line
    from ratectl_cli.render.waited import Waited

__all__ = [
    "Turned",
    "banner",
    "by_files",
    "file_blocks",
    "local_data",
    "local_options",
    "obeyed_data",
    "obeyed_text",
    "status_blocks",
    "status_data",
    "switch_data",
    "turned_blocks",
    "turned_data",
    "undo",
]

_COLUMNS: Final = (
    Column("SCOPE"),
    Column("MODE", 2),
    Column("SINCE", 3),
    Column("BY", 5, "text", least=10),
    Column("REASON", 4, "text", least=16),
    Column("FROM", 6),
)
_NAMED: Final = 10
_AGAIN: Final = ": limits apply again there"
_UNASKED: Final = ", unless a switch in the store is on"


@dataclass(frozen=True, slots=True)
class Turned:
    """A change of switches, and what agents made of it, if they were waited for."""

    place: str
    """Path of the file that was changed; empty for the store."""
    changed: Changed
    waited: Waited | None = None
    here: SwitchFile | None = None
    """File that the usual agents of this machine obey as well; None if that is what changed."""
    agents: Sequence[AgentRecord] = ()
    """Agents that the store knows: some may obey files."""


def undo(scope: str, place: str = "", selector: str = "") -> str:
    """Return the command that turns a switch off; ``selector``: options to repeat."""
    return f"ratectl panic off --scope {scope}{local_options(place) or selector}"


def local_options(place: str) -> str:
    """Return the options for the file at ``place``; empty for the store."""
    return f" --local --state-dir {shlex.quote(str(Path(place).parent))}" if place else ""


def banner(switches: Switches, agents: Sequence[AgentRecord], now: datetime) -> Iterator[Block]:
    """Yield the switches that are on, to be printed above limits that are not enforced."""
    for switch in switches.on:
        yield paragraph([bold("PANIC ", "red"), switch_text(switch, now)])
    for agent, text in by_files(agents):
        yield paragraph([bold("PANIC ", "red"), f"{agent} obeys a file on its machine: {text}"])


def obeyed_text(obeyed: Sequence[Mapping[str, str]]) -> str:
    """Return ``open /a, shadow / (file)``."""
    return ", ".join(
        f"{switch['mode']} {switch['scope']}{' (file)' if switch['source'] == 'file' else ''}"
        for switch in obeyed
    )


def switch_data(switch: Switch) -> dict[str, Any]:
    """Return a switch for programs."""
    return {
        "scope": switch.scope,
        "mode": switch.mode,
        "reason": switch.reason,
        "author": switch.author,
        "time": switch.time,
    }


def _switches_data(switches: Switches) -> list[dict[str, Any]]:
    return [switch_data(switch) for switch in switches.on]


# -- turning


def turned_data(turned: Turned) -> dict[str, Any]:
    """Return a change for programs: the switches that are on now, and the agents that obey."""
    return {
        "file": turned.place or None,
        "switches": _switches_data(turned.changed.after),
        "local": file_data(turned.here) if turned.here else None,
        "obeying_files": [id_ for id_, _ in by_files(turned.agents)],
        "agents": None
        if turned.waited is None
        else {
            "outcome": turned.waited.outcome,
            "obeying": [agent.id for agent in turned.waited.standing.running],
            "behind": [agent.id for agent in turned.waited.standing.behind],
        },
    }


def turned_blocks(
    turned: Turned, scope: str | None, now: datetime, *, selector: Selector, quiet: bool
) -> Iterator[Block]:
    """Yield a change of switches for people. ``selector``: options to repeat."""
    before, after = turned.changed.before.modes, turned.changed.after
    here = turned.here.switches if turned.here else None
    on = {switch.scope: switch for switch in after.on}
    turned_off = [off for off in before if off not in on]
    if scope in on and turned.changed.after.on != turned.changed.before.on:
        how = "open" if on[scope].mode == "open" else "in shadow"
        yield [bold(f"limits are {how} at and below {scope}", "red"), ", from now on"]
    elif not turned_off:
        yield f"no switch was on{f' at {scope}' if scope else ''}"
    for off in turned_off:
        yield [bold(f"the switch at {off} is off", "green"), _again(off, turned, here)]
    if turned.place:
        yield f"only for agents with the state directory {Path(turned.place).parent}"
    yield from _waited_blocks(turned)
    for other in after.on:
        if other.scope != scope:
            yield [bold("also on: ", "red"), switch_text(other, now)]
    yield from _file_blocks(turned, now)
    if scope in on and not quiet:
        yield [dim("undo:   "), undo(scope, turned.place, selector.changing)]
        follow = f" status{local_options(turned.place)}" if turned.place else selector.reading
        yield [dim("follow: "), f"ratectl panic{follow}"]


def _again(scope: str, turned: Turned, here: Switches | None) -> str:
    """Return a note that limits apply again; empty if another known switch is on there."""
    if turned.place:
        return "" if Waivers(turned.changed.after.modes).at(scope) else _AGAIN + _UNASKED
    on = dict(turned.changed.after.modes)
    on |= here.modes if here else {}
    obeyed = [
        switch for agent in turned.agents for switch in agent.panic if switch.source == "file"
    ]
    on |= {switch.scope: "open" for switch in obeyed}
    return "" if Waivers(on).at(scope) else _AGAIN


def _file_blocks(turned: Turned, now: datetime) -> Iterator[Block]:
    """Yield the switches that files turn on, whatever the store says."""
    here = turned.here
    for switch in here.switches.on if here and here.switches else ():
        off = undo(switch.scope, str(here.path) if here else "")
        yield [
            bold("also on: ", "red"),
            f"{switch_text(switch, now)}, in a file on this machine: {off}",
        ]
    if here and here.problem:
        yield [bold("warning: ", "yellow"), f"{here.path}: {here.problem}"]
    for agent, text in by_files(turned.agents):
        yield [bold("also on: ", "red"), f"{agent} obeys a file on its machine: {text}"]


def _waited_blocks(turned: Turned) -> Iterator[Block]:
    if turned.waited is None:
        return
    outcome, standing, _ = turned.waited
    if outcome == "nobody":
        yield [bold("no agent is running: agents obey it when they start", "yellow")]
    else:
        yield from _obedience([agent.id for agent in standing.behind], standing.there)


def _obedience(behind: Sequence[str], there: int) -> Iterator[Block]:
    yield f"obeyed by {there - len(behind)} of {plural(there, 'agent')}"
    if behind:
        yield paragraph([bold("not yet: ", "yellow"), listed(behind, _NAMED)])


# -- what is on


def status_data(
    switches: Switches, here: SwitchFile | None, agents: Sequence[AgentRecord]
) -> dict[str, Any]:
    """Return all switches that are on, for programs."""
    return {
        "switches": _switches_data(switches),
        "local": file_data(here) if here else None,
        "agents": [
            {
                "id": agent.id,
                "obeys": agent.panic_sequence >= switches.sequence,
                "panic": obeyed_data(agent),
            }
            for agent in agents
        ],
    }


def obeyed_data(agent: AgentRecord) -> list[dict[str, str]]:
    """Return the switches that an agent obeys, for programs."""
    return [
        {"scope": switch.scope, "mode": switch.mode, "source": switch.source}
        for switch in agent.panic
    ]


def status_blocks(
    switches: Switches, here: SwitchFile | None, agents: Sequence[AgentRecord], now: datetime
) -> Iterator[Block]:
    """Yield all switches that are on, for people."""
    local = here.switches if here else None
    if switches.on or (local and local.on):
        yield _table([(each, "store") for each in switches.on] + _of_file(local), now)
    else:
        yield "no switch is on"
    if here and here.problem:
        yield [bold("warning: ", "yellow"), f"{here.path}: {here.problem}"]
    behind = [agent.id for agent in agents if agent.panic_sequence < switches.sequence]
    if switches.on and not agents:
        yield [bold("no agent is running: agents obey it when they start", "yellow")]
    elif switches.on or behind:
        yield from _obedience(behind, len(agents))
    for agent, text in by_files(agents):
        yield paragraph(f"{agent} obeys a file on its machine: {text}")


def local_data(file: SwitchFile) -> dict[str, Any]:
    """Return a file for programs, where the store is not asked."""
    return {"switches": None, "local": file_data(file), "agents": None}


def file_data(file: SwitchFile) -> dict[str, Any]:
    """Return a file for programs."""
    return {
        "file": str(file.path),
        "switches": _switches_data(file.switches) if file.switches else None,
        "problem": file.problem,
    }


def file_blocks(file: SwitchFile, now: datetime) -> Iterator[Block]:
    """Yield the switches of a file for people."""
    if file.problem:
        yield [bold("warning: ", "yellow"), f"{file.path}: {file.problem}"]
    elif file.switches and file.switches.on:
        yield f"{file.path}:"
        yield _table(_of_file(file.switches), now)
    else:
        yield f"no switch is on in {file.path}"


def _of_file(switches: Switches | None) -> list[tuple[Switch, str]]:
    return [(switch, "local file") for switch in switches.on] if switches else []


def _table(rows: Sequence[tuple[Switch, str]], now: datetime) -> Table:
    table = Table(_COLUMNS)
    for switch, source in rows:
        mode: Line = Styled(switch.mode, "red" if switch.mode == "open" else "yellow")
        who = switch.author.partition(" <")[0]
        table.rows.append(
            (bold(switch.scope), mode, times.ago(switch.time, now), who, switch.reason, source)
        )
    return table
