"""Real processes that ask, and what they report."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from bench.cluster.requests import SECOND
from ratectl import Agent
from ratectl.cluster.entries import read_hints, read_roster
from ratectl.policy.language.model import Policy, PolicyTree
from ratectl.publishing._publish import publish
from ratectl.publishing.provenance import Provenance
from ratectl.stores import open_store

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from multiprocessing.connection import Connection
    from pathlib import Path

__all__ = ["Answer", "Ask", "Processes"]

_SETTLED: Final = 1.5
"""Seconds: shares that have not moved for so long do not move any more."""
_FORKS: Final = multiprocessing.get_context("forkserver")
"""A process that has imported everything once, and forks: twenty imports take long."""
_FORKS.set_forkserver_preload(["bench.cluster.asking", "bench.cluster_keys"])


class Answer(NamedTuple):
    """One decision."""

    at: int
    """Nanoseconds of the clock that all processes share."""
    who: int
    """Number of the process, or of the key."""
    allowed: int
    took: int = 0
    """Nanoseconds."""


Ask = Callable[[Agent, int, int], list[Answer]]
"""Asks an agent, given the number of the process and the instant at which to begin. Forked
processes import it."""


class Processes:
    """Processes that have an agent each, on one store."""

    def __init__(
        self,
        folder: Path,
        policy: Mapping[str, object],
        ask: Ask,
        count: int,
        *,
        store: str = "",
        variables: Sequence[Mapping[str, str]] = (),
    ) -> None:
        """Publish a policy of the root scope, start processes, and wait until they share limits.

        :param store: URL; by default a SQLite file in ``folder``.
        :param variables: variables of the environment of each process.
        """
        store = self._store = store or f"sqlite:///{folder}/rates.db"
        with open_store(store) as opened:
            root = Policy.model_validate({"scope": "/", **policy})
            publish(opened, PolicyTree({"/": root}), Provenance("bench", "bench"))
        self._pipes = []
        self._processes = []
        for n in range(count):
            ours, theirs = _FORKS.Pipe()
            process = _FORKS.Process(
                target=_work, daemon=True,
                args=(theirs, ask, n, store, f"{folder}/{n}", variables[n] if variables else {}),
            )  # fmt: skip
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        for pipe in self._pipes:
            assert pipe.recv() == "ready"
        _wait_for_shares(store)

    def run(self, meanwhile: Callable[[], None] = lambda: None) -> tuple[list[Answer], int]:
        """Let all ask; return their answers in the order of time, and the longest stall (ns).

        May be called again. Answers of a process that is killed meanwhile are lost.
        """
        start = time.monotonic_ns() + SECOND
        for pipe in self._pipes:
            pipe.send(start)
        meanwhile()
        answers: list[Answer] = []
        stall = 0
        for pipe in self._pipes:
            try:
                some, longest, problems = pipe.recv()
            except EOFError:
                continue
            answers += some
            stall = max(stall, longest)
            for problem in problems:
                print(f"  problem: {problem}", flush=True)
        return sorted(answers), stall

    def kill_owner(self, shard: str) -> None:
        """Kill the process that owns a shard of the limits across the cluster."""
        with open_store(self._store) as opened:
            owner = read_hints(opened)[0][shard].owner
        assert owner is not None
        self._processes[int(owner.member.partition(".")[0].removeprefix("bench-"))].kill()

    def end(self) -> None:
        """Let all close their agents."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join()


def _wait_for_shares(store: str) -> None:
    """Wait until the first members have given the others their shares."""
    with open_store(store) as opened:
        shares, since = read_roster(opened).shares(), time.monotonic()
        while time.monotonic() - since < _SETTLED:
            time.sleep(0.1)
            now = read_roster(opened).shares()
            if now != shares:
                shares, since = now, time.monotonic()


def _work(
    pipe: Connection, ask: Ask, number: int, store: str, state: str, variables: Mapping[str, str]
) -> None:
    os.environ.update(variables)
    with Agent(
        store, id=f"bench-{number}", state_dir=state, ready_timeout=60, redis_deadline=5
    ) as agent:
        pipe.send("ready")
        with suppress(EOFError):  # the bench has all answers
            while True:
                start = pipe.recv()
                with _Stalls() as stalls:
                    answers = ask(agent, number, start)
                pipe.send((answers, stalls.longest, [*agent.status.problems.values()]))


class _Stalls:
    """A thread that sleeps again and again, and finds out for how long it was kept from running."""

    def __init__(self) -> None:
        self.longest = 0
        """Nanoseconds."""
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._ends = threading.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()

    def _watch(self) -> None:
        pause = SECOND // 50
        before = time.monotonic_ns()
        while not self._ends.wait(pause / SECOND):
            now = time.monotonic_ns()
            self.longest = max(self.longest, now - before - pause)
            before = now
