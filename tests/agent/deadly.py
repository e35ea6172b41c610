"""Processes that really die: by a generation that kills them, or by a signal at any moment."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from support import CRASHING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

__all__ = ["CRASHES", "Victim", "leave_crash", "planted"]

CRASHES: Final = {"abort": "SIGABRT", "fault": "SIGSEGV"}

PLANTED: Final = """
import ctypes, os
import ratectl
from ratectl.engine import engine_type

DEADLY, HOW, WHEN = int(os.environ["DEADLY"]), os.environ["HOW"], os.environ["WHEN"]
first = os.getpid()


def die():
    if HOW == "abort":
        os.abort()
    ctypes.string_at(0)  # a real fault


engine = engine_type()
swap, create = engine.swap, ratectl.Agent.__init__


def swap_or_die(self, plans, *words, **options):
    if plans.generation == DEADLY:
        die()
    return swap(self, plans, *words, **options)


def create_deadly(self, *words, **options):
    create(self, *words, **options)
    check = self.check

    def check_and_die(*words, **options):
        decision = check(*words, **options)
        if decision.generation == DEADLY and (WHEN == "deciding" or os.getpid() != first):
            die()
        return decision

    self.check = check_and_die


if WHEN == "applying":
    engine.swap = swap_or_die
else:
    ratectl.Agent.__init__ = create_deadly
"""
"""Module that a process loads at its start: one generation kills the process at a chosen moment.

``deciding in a worker`` kills only forked processes.
"""


def planted(
    folder: Path,
    deadly: int,
    how: str,
    when: Literal["applying", "deciding", "deciding in a worker"],
) -> dict[str, str]:
    """Return environment variables with which a generation kills a process."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(PLANTED)
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    return {"PYTHONPATH": path, "DEADLY": str(deadly), "HOW": how, "WHEN": when}


SCRIPT: Final = """
import json, sys, time
from ratectl import Agent  # it takes a while
print("begins", flush=True)
agent = Agent(sys.argv[1], id="victim", state_dir=sys.argv[2], report_interval=0.1)
before = None
while True:
    decision, status = agent.check("/", {"tenant": "acme"}), agent.status
    now = [decision.generation, decision.reason, status.rejected, status.known_problems]
    if now != before:
        print(json.dumps(now), flush=True)
    before = now
    time.sleep(0.005)
"""


@dataclass
class Victim:
    """A process with an agent that tells whenever its decisions or its status change."""

    url: str
    state: Path
    env: Mapping[str, str] = field(default_factory=dict)

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, self.url, str(self.state)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**CRASHING, **self.env},
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "begins\n"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def tells(self) -> list[Any] | None:
        """Wait for a change: generation, reason, rejected, problems; None when it has died."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        with contextlib.suppress(ValueError):  # killed in the middle of a line
            return json.loads(line) if line else None
        return None

    def until(self, generation: int, rejected: int | None = None) -> list[Any]:
        """Wait until it decides by ``generation`` and rejects ``rejected``."""
        while (told := self.tells()) is not None:
            if (told[0], told[2]) == (generation, rejected):
                return told
        raise AssertionError("it has died")

    def dies(self) -> int:
        """Wait for its death and return its exit status."""
        while self.tells() is not None:
            pass
        return self.process.wait(20)


def leave_crash(slot: Path, generation: int, bundle: str) -> None:
    """Write the note that a process leaves when it crashes while it tries a generation."""
    trial = {"generation": generation, "bundle": bundle, "candidate": False}
    (slot / "trying").write_bytes(json.dumps(trial).encode() + b"\n11\n")
