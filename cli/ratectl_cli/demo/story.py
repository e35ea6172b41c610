"""Acts of the demo in order, and checks that each of them really happened."""

from __future__ import annotations

import io
import shlex
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ratectl.fleet.usage import read_agents, read_usage, totals
from ratectl.history.generations import read_entry, read_live
from ratectl.stores import open_store
from ratectl.stores.registry import is_server
from ratectl_cli.demo.acks import AckWatch
from ratectl_cli.demo.fleet import DemoFailed, Fleet
from ratectl_cli.errors import Terminated
from ratectl_cli.framework.text import Column, Table, bold, dim

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ratectl.records import HistoryEntry
    from ratectl_cli.demo.acks import Ack
    from ratectl_cli.demo.feed import Feed
    from ratectl_cli.demo.stage import Stage
    from ratectl_cli.framework.session import Session
    from ratectl_cli.framework.text import Line

__all__ = ["Plan", "Story"]

LOOSE: Final = "  spike: {rate: 10/s, burst: 40}"
TIGHT: Final = "  spike: {rate: 1/s, burst: 5}"
EDITED: Final = "web/site.yaml"

_ACK_SECONDS: Final = 10.0
_RISE: Final = 0.03
"""Least rise of the share of refused requests that counts as an effect."""

_SETTLE_SECONDS: Final = 0.5
"""Seconds after a change until earlier reports have arrived."""

_REFILL_SECONDS: Final = 1.5
"""Seconds after the rollback until buckets have filled somewhat."""


class Plan(NamedTuple):
    """Parameters of the demo."""

    feed: Feed
    source: str
    agents: int
    seconds: float
    """Seconds of traffic in each of the three acts."""


class Phase(NamedTuple):
    """Decisions of the changed limit in one act."""

    name: str
    seconds: float
    allowed: int
    refused: int

    @property
    def share(self) -> float:
        """Share of requests refused."""
        return self.refused / max(1, self.allowed + self.refused)


@dataclass(slots=True)
class Story:
    """One run of the demo."""

    session: Session
    stage: Stage
    plan: Plan
    run_command: Callable[[Sequence[str]], int]
    """Runs a command line of ratectl and returns its exit code."""
    commands: list[dict[str, Any]] = field(default_factory=list)
    phases: list[Phase] = field(default_factory=list)
    acks: list[dict[str, Any]] = field(default_factory=list)
    decided: dict[str, Any] = field(default_factory=dict)

    def show(self) -> None:
        """Run all acts, from the first policies to the rollback.

        :raises DemoFailed: something did not happen.
        """
        self._begin()
        # Before the agents: their first acknowledgements must not be missed.
        with (
            AckWatch(self.stage.store) as acks,
            Fleet(self.plan.agents, self.stage.store, self.plan.feed, self.stage.folder) as fleet,
        ):
            acks.wait(fleet.names, 1, _ACK_SECONDS)
            self._traffic("as published", fleet, 0)
            self.run("agents")
            self.run("usage", "/web")
            self._tighten()
            self._acknowledged(acks, fleet, 2)
            self._traffic("tightened", fleet)
            self.run("usage", "/web")
            self.say("Too tight: readers of the site are refused. Back to what worked.")
            self.run("rollback", "--yes", "-m", "readers are refused")
            self._acknowledged(acks, fleet, 3)
            self._traffic("rolled back", fleet, _REFILL_SECONDS)
            self.run("agents")
            self._check_agents(fleet)
            self.decided = fleet.finish()
        self.run("history")
        self._prove()

    # Acts ---------------------------------------------------------------------------------------

    def _begin(self) -> None:
        self.say(
            "A company's rate limits, as YAML: global.yaml for everybody, then team by team.",
            f"In {self.stage.folder}",
        )
        self._typed("export", f"RATECTL_STORE={self.stage.store}")
        self.run("validate", "policies/")
        first = ("--allow-first", "a demonstration") if is_server(self.stage.store) else ()
        self.run("apply", "policies/", "-m", "first policies", *first, "--yes")
        self.say(
            f"{self.plan.agents} processes of a website ask an agent before they answer a request:",
            f'  agent = ratectl.Agent("{self.stage.store}")',
            '  decision = agent.check("/web/files", {"client": "198.18.0.7", "method": "GET", …})',
            f"Traffic: {self.plan.source}, {self.plan.feed.speed:,.0f} times as fast; the same "
            f"{self.plan.feed.stretch:.1f} seconds again and again, to compare.",
        )

    def _tighten(self) -> None:
        path = self.stage.policies / EDITED
        text = path.read_text(encoding="utf-8")
        if text.count(LOOSE) != 1:
            raise DemoFailed(f"the example {EDITED} no longer holds the line to change")
        path.write_text(text.replace(LOOSE, TIGHT), encoding="utf-8")
        self.say(f"Some clients take more than their part. Edit policies/{EDITED}:")
        self.session.show([[bold(f"- {LOOSE}", "red")], [bold(f"+ {TIGHT}", "green")]])
        why = (
            "--allow-below-use",
            "some take too much",
        )  # a guard refuses it without a reason: the limit is in use
        self.run("apply", "policies/", "-m", "tighten the website", *why, "--yes")

    def _acknowledged(self, acks: AckWatch, fleet: Fleet, generation: int) -> None:
        """Print how long after publishing each agent's acknowledgement was in the store."""
        acknowledged = acks.wait(fleet.names, generation, _ACK_SECONDS)
        entry = self._entry(generation)
        published = datetime.fromisoformat(entry.time).timestamp()
        self.acks += [
            {"agent": a.agent, "generation": generation, "swap_ms": a.swap_ms,
             "ms": max(1, round((a.seen - published) * 1e3))}
            for a in acknowledged
        ]  # fmt: skip
        for ack, figures in zip(acknowledged, self.acks[-len(acknowledged) :], strict=True):
            self.session.show([_acknowledgement(ack, figures["ms"])])

    def _traffic(self, name: str, fleet: Fleet, settle: float = _SETTLE_SECONDS) -> None:
        """Let traffic flow, and count the decisions of the changed limit meanwhile."""
        self._sleep(settle, fleet)
        begun, before = time.monotonic(), self._counts()
        with self.session.busy("traffic flows"):
            self._sleep(self.plan.seconds, fleet)
        after = self._counts()
        self.phases.append(
            Phase(name, time.monotonic() - begun, after[0] - before[0], after[1] - before[1])
        )

    def _sleep(self, seconds: float, fleet: Fleet) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            fleet.check()
            time.sleep(min(0.2, left))

    # Proof --------------------------------------------------------------------------------------

    def _counts(self) -> tuple[int, int]:
        """Return the requests that the limit ``spike`` of ``/web`` has allowed and refused."""
        with open_store(self.stage.store) as store:
            limits = totals(read_usage(store), "/web").limits
        spikes = [limit for limit in limits if (limit.scope, limit.limit) == ("/web", "spike")]
        return sum(limit.allowed for limit in spikes), sum(limit.refused for limit in spikes)

    def _entry(self, generation: int) -> HistoryEntry:
        with open_store(self.stage.store) as store:
            return read_entry(store, generation)

    def _check_agents(self, fleet: Fleet) -> None:
        with open_store(self.stage.store) as store:
            serving = {
                record.id for record in read_agents(store)
                if (record.generation, record.state, record.errors) == (3, "serving", 0)
            }  # fmt: skip
        if not serving.issuperset(fleet.names):
            raise DemoFailed("not every agent enforces the generation rolled back to")

    def _prove(self) -> None:
        """Print figures of the whole demo.

        :raises DemoFailed: the live policies or the figures are not as expected.
        """
        with open_store(self.stage.store) as store:
            live = read_live(store)
            first = read_entry(store, 1)
        if live.generation != 3 or live.head is None or live.head.bundle != first.bundle:
            raise DemoFailed("the rollback did not restore the first generation's policies")
        table = Table(
            [
                Column("LIMIT spike OF /web"),
                Column("REQUESTS", 3, "number"),
                Column("REFUSED", 2, "number"),
            ]
        )
        for phase in self.phases:
            count = f"{phase.allowed + phase.refused:,}"
            table.rows.append([phase.name, count, bold(f"{phase.share:.1%}")])
        ms = [ack["ms"] for ack in self.acks]
        did = self.decided
        acknowledged = f"Agents acknowledged {min(ms)} to {max(ms)} ms after a publication."
        decided = (
            f"They decided {did['decided']:,} requests meanwhile; {did['errors']} failed, and the "
            f"slowest took {did['slowest_ms']:g} ms."
        )
        self.session.show(["", table, "", acknowledged, decided])
        self.judge()

    def judge(self) -> None:
        """:raises DemoFailed: refusals did not follow the limit, or decisions failed."""
        loose, tight, restored = (phase.share for phase in self.phases)
        if self.decided["errors"]:
            raise DemoFailed(f"{self.decided['errors']} decisions failed")
        if not tight > loose + _RISE:
            raise DemoFailed(
                "refusals did not rise when the limit was tightened; at this speed clients may "
                "stay below it"
            )
        if not restored < (loose + tight) / 2:
            raise DemoFailed("refusals did not fall again after the rollback")

    # Showing ------------------------------------------------------------------------------------

    def say(self, *lines: str) -> None:
        """Print comments of a shell."""
        self.session.show(["", *([dim(f"# {line}")] for line in lines)])

    def _typed(self, *words: str) -> None:
        self.session.show([[bold(f"$ {shlex.join(words)}", "cyan")]])

    def run(self, *words: str) -> None:
        """Print a command line and run this command in this process.

        :raises DemoFailed: it did not succeed.
        """
        if self.commands:
            self.session.show([""])
        self._typed("ratectl", *words)
        sys.stdout.flush()
        out = sys.stdout if self.session.text else io.StringIO()
        colour = "always" if self.session.text and self.session.out.colour else "never"
        with redirect_stdout(out), redirect_stderr(out):
            code = self.run_command([*words, "--color", colour])
        text = out.getvalue() if isinstance(out, io.StringIO) else None
        line = shlex.join(["ratectl", *words])
        self.commands.append({"command": line, "exit_code": code, "output": text})
        if code > 128:  # a signal asked us to end
            raise Terminated(code - 128)
        if code:
            raise DemoFailed(f"`{line}` ended with exit code {code}")

    def data(self) -> dict[str, Any]:
        """Return everything for programs."""
        return {
            "commands": self.commands,
            "acknowledgements": self.acks,
            "phases": [
                {**phase._asdict(), "refused_share": round(phase.share, 4)} for phase in self.phases
            ],
            "decisions": self.decided,
        }


def _acknowledgement(ack: Ack, ms: int) -> Line:
    swap = (
        "" if ack.swap_ms is None else f", of which {ack.swap_ms:.1f} to fetch, check and swap it"
    )
    text = f" enforces generation {ack.generation}: {ms} ms after it was published{swap}"
    return [bold(ack.agent), text]
