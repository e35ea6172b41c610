"""Share of one central bucket's admissions that processes with `across: cluster` use, and excess.

Real processes, offered three times the rate: 90 % of it to a tenth of the processes, and to another
tenth every few seconds. With a SQLite store, unless there is a round trip: then they follow a real
etcd, and reach each other over TLS and proxies that hand on bytes late. A hundred members run in
one process: real engines and state machines, with a simulated clock and network.

Excess is the number of tokens beyond burst + rate · window in the worst window, by the readings of
the clock that the decisions used. Static: each process has rate ÷ processes, on the same requests.
Simulated: as many members in one process, on the same requests, with the round trip of the row, or
2 ms; in parentheses where two figures share a column. ``across: redis``: each decision asks one
real Valkey server; its excess is not shown, because the server's clock counts. On and off: 0.7
times the rate, all of it for a tenth of the processes, another tenth every half second.

On few cores, processes wait for each other: ``stall`` is the longest time for which one of them
was kept from running, and leases lapse after 500 ms. After a stall of 100 ms or more, a case runs
again, three times at most; the row is of the run with the shortest stall.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from bench.cluster.asking import ask_by_server, ask_by_wallet
from bench.cluster.etcd import variables_of_members, written
from bench.cluster.figures import Figures, figures_of
from bench.cluster.inside import answers_inside
from bench.cluster.processes import Answer, Ask, Processes
from bench.cluster.proxy import SlowProxies
from bench.cluster.requests import Requests
from etcd_server import EtcdServer
from valkey_server import ValkeyServer

if TYPE_CHECKING:
    from collections.abc import Sequence

RATE: Final = 600
ENVIRONMENT: Final = "bench"
MILLISECOND: Final = 10**6
STALLED: Final = 100 * MILLISECOND
RUNS: Final = 3
MOST_PROCESSES: Final = 50
"""More members run in one process."""
HEADINGS: Final = (
    "used", "lated", "static", "excess", "wrongly", "verged", "median", "p99", "stall"
)  # fmt: skip
WIDTHS: Final = (6, 6, 6, 6, 11, 7, 9, 9, 7)
COUNTED: Final = 20
"""Seconds in which writes are counted: members that began together renew together every ten."""
RENEWALS: Final = 3 / 30
"""Writes of a member in a second, by docs/cluster.md."""


@dataclasses.dataclass(frozen=True)
class Case:
    """A row of the table."""

    name: str
    processes: int
    round_trip: int = 0
    """Milliseconds; 0: on this machine."""
    across: str = "cluster"
    on_off: bool = False

    @property
    def requests(self) -> Requests:
        """Requests of all processes."""
        requests = Requests(self.processes, RATE)
        if self.on_off:
            return dataclasses.replace(requests, load=0.7, every=0.5, hot=1)
        return requests

    @property
    def policy(self) -> dict[str, object]:
        """Fields of the policy of the root scope."""
        fleet = {"rate": f"{RATE}/s", "burst": RATE, "across": self.across}
        return {"budgets": {"fleet": fleet}}

    @property
    def ask(self) -> Ask:
        """Work of each process."""
        return partial(ask_by_server if self.across == "redis" else ask_by_wallet, self.requests)


CASES: Final = (
    Case("2 processes", 2),
    Case("5 processes", 5),
    Case("20 processes", 20),
    Case("100 members in one process", 100),
    Case("20 processes, round trip 10 ms", 20, 10),
    Case("20 processes, round trip 50 ms", 20, 50),
    Case("20 processes, on and off", 20, on_off=True),
    Case("100 members, on and off", 100, on_off=True),
    Case("20 processes, across: redis", 20, across="redis"),
    Case("20 processes, across: redis, 10 ms", 20, 10, across="redis"),
)


def run() -> dict[str, object]:
    """Measure each case once."""
    _print_row("", ("", "simu-", "", "", "refused", "con-", "decision"))
    _print_row("", HEADINGS)
    return {case.name: _measure(case) for case in CASES}


def _measure(case: Case) -> dict[str, object]:
    simulated = None
    if case.across == "cluster":
        round_trip = max(2, case.round_trip) * MILLISECOND
        simulated = figures_of(answers_inside(case.requests, round_trip), case.requests)
    if simulated is not None and case.processes > MOST_PROCESSES:
        _show(case, simulated, None, None)
        return dataclasses.asdict(simulated)
    try:
        measured = _asked(case)
    except pytest.skip.Exception as missing:
        print(f"  {case.name:34} not measured: {missing}", flush=True)
        return {"not measured": str(missing)}
    figures = figures_of(measured.answers, case.requests)
    _show(case, figures, simulated, measured.stall)
    row: dict[str, object] = {**dataclasses.asdict(figures), "stall": measured.stall}
    if simulated is not None:
        row["simulated"] = dataclasses.asdict(simulated)
    if measured.writes is not None:
        row["writes/s"] = _show_writes(case, *measured.writes)
    return row


def _show_writes(case: Case, roster: float, all_writes: float) -> dict[str, float]:
    formula = case.processes * RENEWALS
    print(
        f"  {'':34} etcd: {roster:.2f} writes/s of the roster, {formula:.2f} by the formula "
        f"({roster / formula - 1:+.1%}); {all_writes:.1f} with reports of agents",
        flush=True,
    )
    return {"roster": roster, "formula": formula, "all": all_writes}


class Run(NamedTuple):
    """One run of a case."""

    answers: list[Answer]
    stall: int
    """Nanoseconds."""
    writes: tuple[float, float] | None
    """To etcd in a second: of the roster, and all."""


def _asked(case: Case) -> Run:
    """Let real processes ask; return the run with the shortest stall."""
    server: EtcdServer | None = None
    store = ""
    variables: list[dict[str, str]] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        proxies = stack.enter_context(SlowProxies(case.round_trip / 1000))
        if case.across == "redis":
            valkey = ValkeyServer.start()
            stack.callback(valkey.stop)
            port = proxies.before(valkey.port) if case.round_trip else valkey.port
            variables = [{"RATECTL_REDIS_URL": f"redis://127.0.0.1:{port}/0"}] * case.processes
        elif case.round_trip:
            server = EtcdServer.start()
            stack.callback(server.stop)
            store = server.store_url(ENVIRONMENT)
            variables = variables_of_members(folder, case.processes, proxies)
        processes = Processes(
            folder, case.policy, case.ask, case.processes, store=store, variables=variables
        )
        stack.callback(processes.end)
        runs = [_ran(processes, server)]
        while len(runs) < RUNS and min(run.stall for run in runs) >= STALLED:
            runs.append(_ran(processes, server))
    return min(runs, key=lambda run: run.stall)


def _ran(processes: Processes, server: EtcdServer | None) -> Run:
    before = server and written(server, ENVIRONMENT)
    answers, stall = processes.run()
    if before:
        time.sleep(max(0, before.at + COUNTED - time.monotonic()))
    after = server and written(server, ENVIRONMENT)
    return Run(answers, stall, after.per_second(before) if after and before else None)


def _show(case: Case, of: Figures, simulated: Figures | None, stall: int | None) -> None:
    columns = [f"{of.used:.1%}", "", f"{of.static:.1%}", "", f"{of.refused_wrongly:.1%}"]
    if simulated is not None:
        columns[1] = f"{simulated.used:.1%}"
        columns[4] += f" ({simulated.refused_wrongly:.1%})"
    if case.across == "cluster":
        columns[3] = f"{of.excess:.1f}"
    columns.append("" if case.on_off else f"{of.converged:.2f} s")
    if stall is not None:
        columns += [_time(of.median), _time(of.p99), f"{stall / MILLISECOND:.0f} ms"]
    _print_row(case.name, columns)


def _print_row(name: str, columns: Sequence[str]) -> None:
    cells = (f"{text:>{width}}" for text, width in zip(columns, WIDTHS, strict=False))
    print(f"  {name:34} {' '.join(cells)}".rstrip(), flush=True)


def _time(nanoseconds: float) -> str:
    if nanoseconds < MILLISECOND:
        return f"{nanoseconds / 1000:.1f} µs"
    return f"{nanoseconds / MILLISECOND:.1f} ms"
