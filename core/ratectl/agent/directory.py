"""Following of a directory of YAML files, for development: no store, no publishing."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

from ratectl.errors import PolicyError
from ratectl.policy.bundle import digest, encode_policies
from ratectl.records import utc_now
from ratectl.runtime.cooperative import Pacer, cooperative, release

if TYPE_CHECKING:
    import os
    from pathlib import Path

    from ratectl.agent.enforcement import Enforcement
    from ratectl.agent.failures import Failures
    from ratectl.agent.state import AgentState
    from ratectl.agent.wall_clock import WallClock

__all__ = ["DirectorySync"]

_POLL_SECONDS: Final = 0.25


class DirectorySync:
    """Keeps an engine on a directory's policies; generations count from 1 in this process."""

    def __init__(
        self,
        path: Path,
        enforcement: Enforcement,
        state: AgentState,
        wall: WallClock,
        failures: Failures,
    ) -> None:
        self._path = path
        self._enforcement = enforcement
        self._state = state
        self._wall = wall
        self._failures = failures
        self._stop = threading.Event()
        self._seen: object = None
        self._bundle: str | None = None

    def load(self) -> None:
        """Read the directory now, if it changed.

        :raises PolicyError: it does not validate; the policies in force stay.
        """
        started = time.monotonic()
        fingerprint = self._fingerprint()
        if fingerprint is not None and fingerprint == self._seen:
            return
        self._seen = fingerprint
        from ratectl.policy.read import load_valid  # an agent of a store reads no YAML

        tree = load_valid([self._path]).tree
        generation = self._state.now.generation
        spent: list[list[object]] = []
        # Long work pauses for requests, except after ``stop``.
        pacer = Pacer(sleep=self._stop.wait)
        with cooperative(pacer):
            bundle = digest(encode_policies(tree))
            if bundle != self._bundle:
                generation += 1
                spent = self._enforcement.enforce(tree, generation)
                self._bundle = bundle
            spent.append(list(tree.policies.values()))
            del tree
        self._state.problem(
            "generation",
            None,
            generation=generation,
            sequence=generation,
            source="directory",
            connected=True,
            rejected=None,
            applied=utc_now(),
            swap_ms=round((time.monotonic() - started) * 1e3, 3),
        )
        with cooperative(pacer):
            release(*spent)

    def run(self) -> None:
        """Reload on changes until ``stop``. Never raises."""
        while not self._stop.wait(_POLL_SECONDS):
            self._wall.refresh()
            self._state.problem("decisions", self._failures.problem())
            try:
                self.load()
            except Exception as error:  # noqa: BLE001  the thread must survive any error
                text = str(error)
                if not isinstance(error, PolicyError):
                    self._seen = None  # the error may be gone at the next attempt
                    text = f"{type(error).__name__}: {error}"
                refused = self._state.now.generation + 1
                problem = f"{self._path}: keeping the policies in force: {text}"
                self._state.problem("generation", problem, rejected=refused)

    def _fingerprint(self) -> object:
        """Return a value that differs when files change (ctime: or become readable).

        None where the directory cannot be listed: loading reports why.
        """
        try:
            files = [self._path] if self._path.is_file() else sorted(self._path.rglob("*"))
        except OSError:
            return None
        return [
            (str(path), stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino)
            for path in files
            if (stat := _stat(path)) is not None
        ]

    def stop(self) -> None:
        """Ask the thread to end."""
        self._stop.set()


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None
