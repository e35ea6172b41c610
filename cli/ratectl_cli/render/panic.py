"""Kill switches, for people and for programs."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ratectl.engine.waivers import Waivers
from ratectl.kill_switch import wording
from ratectl.kill_switch.wording import by_files
from ratectl_cli.framework.text import Column, Styled, Table, bold, dim, plural
from ratectl_cli.render import times

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ratectl.kill_switch.switches import Changed, Switch, Switches
    from ratectl.kill_switch.turning import SwitchFile
    from ratectl.records import AgentRecord
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
    "switch_text",
    "turned_blocks",
    "turned_data",
    "undo",
]

_NAMED: Final = 10
_AGAIN: Final = ": limits hold again there"
_UNASKED: Final = ", unless the store says otherwise"


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


def undo(scope: str, place: str = "") -> str:
    """The command that turns a switch off."""
    return f"ratectl panic off --scope {scope}{local_options(place)}"


def local_options(place: str) -> str:
    """The options that mean the file at ``place``; none for the store."""
    return f" --local --state-dir {shlex.quote(str(Path(place).parent))}" if place else ""


def switch_text(switch: Switch) -> str:
    """Return a sentence about a switch that is on."""
    return wording.switch_text(switch, times.now())


def banner(switches: Switches, agents: Sequence[AgentRecord]) -> Iterator[Block]:
    """What stands above a page of limits that nobody enforces."""
    for switch in switches.on:
        yield [bold("PANIC ", "red"), switch_text(switch)]
    for agent, text in by_files(agents):
        yield [bold("PANIC ", "red"), f"{agent} obeys a file of its own: {text}"]


def obeyed_text(obeyed: Sequence[Mapping[str, str]]) -> str:
    """``open /a, shadow / (file)``."""
    return ", ".join(
        f"{each['mode']} {each['scope']}{' (file)' if each['source'] == 'file' else ''}"
        for each in obeyed
    )


def switch_data(switch: Switch) -> dict[str, Any]:
    """A switch for programs."""
    return {
        "scope": switch.scope,
        "mode": switch.mode,
        "reason": switch.reason,
        "author": switch.author,
        "time": switch.time,
    }


def _switches_data(switches: Switches) -> list[dict[str, Any]]:
    return [switch_data(each) for each in switches.on]


# -- turning


def turned_data(turned: Turned) -> dict[str, Any]:
    """A turn for programs: what is on now, and who obeys."""
    return {
        "file": turned.place or None,
        "switches": _switches_data(turned.changed.after),
        "local": file_data(turned.here) if turned.here else None,
        "obeying_files": [id_ for id_, _ in by_files(turned.agents)],
        "agents": None
        if turned.waited is None
        else {
            "outcome": turned.waited.outcome,
            "obeying": [each.id for each in turned.waited.standing.running],
            "behind": [each.id for each in turned.waited.standing.behind],
        },
    }


def turned_blocks(turned: Turned, scope: str | None, *, quiet: bool) -> Iterator[Block]:
    """A turn for people."""
    before, after = turned.changed.before.modes, turned.changed.after
    here = turned.here.switches if turned.here else None
    now = {each.scope: each for each in after.on}
    over = [each for each in before if each not in now]
    if scope in now and turned.changed.after.on != turned.changed.before.on:
        how = "open" if now[scope].mode == "open" else "in shadow"
        yield [bold(f"limits are {how} at and below {scope}", "red"), ", from now on"]
    elif not over:
        yield f"no switch was on{f' at {scope}' if scope else ''}"
    for each in over:
        yield [bold(f"the switch at {each} is off", "green"), _again(each, turned, here)]
    if turned.place:
        yield f"for agents that keep their state in {Path(turned.place).parent}, and no others"
    yield from _waited_blocks(turned)
    for other in after.on:
        if other.scope != scope:
            yield [bold("also on: ", "red"), switch_text(other)]
    yield from _file_blocks(turned)
    if scope in now and not quiet:
        yield [dim("undo:   "), undo(scope, turned.place)]
        follow = f" status{local_options(turned.place)}" if turned.place else ""
        yield [dim("follow: "), f"ratectl panic{follow}"]


def _again(scope: str, turned: Turned, here: Switches | None) -> str:
    """That limits hold again at a scope, as far as that is known."""
    if turned.place:
        return "" if Waivers(turned.changed.after.modes).at(scope) else _AGAIN + _UNASKED
    on = dict(turned.changed.after.modes)
    on |= here.modes if here else {}
    obeyed = [each for agent in turned.agents for each in agent.panic if each.source == "file"]
    on |= {each.scope: "open" for each in obeyed}
    return "" if Waivers(on).at(scope) else _AGAIN


def _file_blocks(turned: Turned) -> Iterator[Block]:
    """Yield the switches that files turn on, whatever the store says."""
    here = turned.here
    for each in here.switches.on if here and here.switches else ():
        off = undo(each.scope, str(here.path) if here else "")
        yield [bold("also on: ", "red"), f"{switch_text(each)}, by a file here: {off}"]
    if here and here.problem:
        yield [bold("warning: ", "yellow"), f"{here.path}: {here.problem}"]
    for agent, text in by_files(turned.agents):
        yield [bold("also on: ", "red"), f"{agent} obeys a file of its own: {text}"]


def _waited_blocks(turned: Turned) -> Iterator[Block]:
    if turned.waited is None:
        return
    outcome, standing, _ = turned.waited
    if outcome == "nobody":
        yield [bold("no agent is there: nobody obeys it", "yellow")]
    else:
        yield from _obedience([each.id for each in standing.behind], standing.there)


def _obedience(behind: Sequence[str], there: int) -> Iterator[Block]:
    yield f"obeyed by {there - len(behind)} of {plural(there, 'agent')}"
    if behind:
        more = f" and {len(behind) - _NAMED} more" if len(behind) > _NAMED else ""
        yield [bold("not yet: ", "yellow"), ", ".join(behind[:_NAMED]) + more]


# -- what is on


def status_data(
    switches: Switches, here: SwitchFile | None, agents: Sequence[AgentRecord]
) -> dict[str, Any]:
    """All that is on, for programs."""
    return {
        "switches": _switches_data(switches),
        "local": file_data(here) if here else None,
        "agents": [
            {
                "id": each.id,
                "obeys": each.panic_sequence >= switches.sequence,
                "panic": obeyed_data(each),
            }
            for each in agents
        ],
    }


def obeyed_data(agent: AgentRecord) -> list[dict[str, str]]:
    """What an agent obeys, for programs."""
    return [{"scope": each.scope, "mode": each.mode, "source": each.source} for each in agent.panic]


def status_blocks(
    switches: Switches, here: SwitchFile | None, agents: Sequence[AgentRecord]
) -> Iterator[Block]:
    """All that is on, for people."""
    local = here.switches if here else None
    if switches.on or (local and local.on):
        yield _table([(each, "store") for each in switches.on] + _of_file(local))
    else:
        yield "no switch is on"
    if here and here.problem:
        yield [bold("warning: ", "yellow"), f"{here.path}: {here.problem}"]
    behind = [each.id for each in agents if each.panic_sequence < switches.sequence]
    if switches.on and not agents:
        yield [bold("no agent is there: nobody obeys it", "yellow")]
    elif switches.on or behind:
        yield from _obedience(behind, len(agents))
    for agent, text in by_files(agents):
        yield f"{agent} obeys a file of its own: {text}"


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


def file_blocks(file: SwitchFile) -> Iterator[Block]:
    """Yield the switches of a file for people."""
    if file.problem:
        yield [bold("warning: ", "yellow"), f"{file.path}: {file.problem}"]
    elif file.switches and file.switches.on:
        yield f"{file.path}:"
        yield _table(_of_file(file.switches))
    else:
        yield f"no switch is on in {file.path}"


def _of_file(switches: Switches | None) -> list[tuple[Switch, str]]:
    return [(each, "file here") for each in switches.on] if switches else []


def _table(rows: Sequence[tuple[Switch, str]]) -> Table:
    titles = ("SCOPE", "MODE", "SINCE", "BY", "REASON", "FROM")
    table = Table([Column(title, wraps=title in ("BY", "REASON")) for title in titles])
    at = times.now()
    for switch, source in rows:
        mode: Line = Styled(switch.mode, "red" if switch.mode == "open" else "yellow")
        who = switch.author.partition(" <")[0]
        table.rows.append(
            (bold(switch.scope), mode, times.ago(switch.time, at), who, switch.reason, source)
        )
    return table
