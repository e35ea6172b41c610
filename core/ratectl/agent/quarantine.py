"""Generations that this process has died of: not tried again at once, whatever the store says.

Before a generation is put in force, a file in the agent's slot says so; it goes when the process
has outlived its first seconds with it, or ends in good order. A file that is still there at the
next start was left by a process that died: the generation is left alone for some minutes then, for
twice as long each time it happens again.

How many deaths that takes depends on what else may have been the reason. A candidate is there to
be tried: one is enough. What is live gets a second chance, since a deployment may end a process
at any moment, and what had served before a third.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["PROBATION_SECONDS", "Quarantine"]

PROBATION_SECONDS: Final = 10.0
"""A process that lives so long with a generation does not die of it; a candidate is on probation
for as long as it is one."""

_FIRST_SECONDS: Final = 300.0
_MOST_SECONDS: Final = 86_400.0
_LIVE_DEATHS: Final = 2
_SERVED_DEATHS: Final = 3
_REMEMBERED: Final = 100

_TRYING: Final = "trying"
_DEATHS: Final = "quarantine"


@dataclass(slots=True)
class _Deaths:
    generation: int
    deaths: int = 0
    served: bool = False
    until: float = 0.0
    """Wall clock, in seconds since 1970: it has to outlive the process."""


@dataclass(slots=True)
class _Attempt:
    generation: int
    bundle: str
    candidate: bool
    since: float | None = None
    """When it was in force; None before."""


class Quarantine:
    """What is remembered in one slot's folder; without a folder, nothing is. Thread-safe."""

    def __init__(
        self,
        folder: Path | None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._wall = wall
        self._lock = threading.Lock()
        self._attempt: _Attempt | None = None
        self._known = self._load()
        self._autopsy()

    def refusal(self, bundle: str) -> str | None:
        """Why a bundle must not be tried now; None where it may be."""
        known = self._known.get(bundle)
        # A clock that was set back must not make it last for ever.
        left = 0.0 if known is None else min(known.until - self._wall(), _MOST_SECONDS)
        if known is None or left <= 0:
            return None
        until = datetime.fromtimestamp(self._wall() + left, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        times = "once" if known.deaths == 1 else f"{known.deaths} times"
        return (
            f"this agent's process died with generation {known.generation} ({times}); "
            f"it is not tried again before {until}"
        )

    def begin(self, generation: int, bundle: str, *, candidate: bool) -> None:
        """Note that a bundle is about to be put in force."""
        with self._lock:
            self._attempt = _Attempt(generation, bundle, candidate)
            self._strike_out()  # where the next line fails, nobody else is to be blamed
            said = {"generation": generation, "bundle": bundle, "candidate": candidate}
            # Not synced: what a machine's crash takes with it was not the generation's doing.
            self._write(_TRYING, said)

    def in_force(self) -> None:
        """Note that it is: its time begins."""
        with self._lock:
            if self._attempt is not None:
                self._attempt.since = self._clock()

    def promoted(self) -> None:
        """Note that the candidate is one no more."""
        with self._lock:
            if self._attempt is not None:
                self._attempt.candidate = False

    def tend(self) -> None:
        """Note that the process lives on, if it has done so for long enough."""
        with self._lock:
            attempt = self._attempt
            if attempt is None or attempt.candidate or attempt.since is None:
                return
            if self._clock() - attempt.since >= PROBATION_SECONDS:
                self._known.pop(attempt.bundle, None)
                self._known[attempt.bundle] = _Deaths(attempt.generation, served=True)
                self._save()
                self._attempt = None
                self._strike_out()

    def end(self) -> None:
        """The attempt ended in good order: the process refused it, or closed its agent."""
        with self._lock:
            self._attempt = None
            self._strike_out()

    def _strike_out(self) -> None:
        if self._folder is not None:
            with contextlib.suppress(OSError):
                (self._folder / _TRYING).unlink(missing_ok=True)

    def _autopsy(self) -> None:
        """Hold what the last process died with against it."""
        left = self._read(_TRYING) or {}
        bundle, generation = left.get("bundle"), left.get("generation")
        if not isinstance(bundle, str) or type(generation) is not int:
            return
        known = self._known.pop(bundle, None) or _Deaths(generation)
        self._known[bundle] = known
        known.deaths += 1
        enough = _SERVED_DEATHS if known.served else _LIVE_DEATHS
        suspected = known.deaths - (0 if left.get("candidate") is True else enough - 1)
        if suspected > 0:
            seconds = min(_FIRST_SECONDS * 2 ** min(suspected - 1, 20), _MOST_SECONDS)
            known.until = self._wall() + seconds
        self._save()
        self._strike_out()

    def _load(self) -> dict[str, _Deaths]:
        found: dict[str, _Deaths] = {}
        for bundle, said in (self._read(_DEATHS) or {}).items():
            with contextlib.suppress(TypeError, ValueError, KeyError, OverflowError):
                found[bundle] = _Deaths(
                    int(said["generation"]),
                    int(said["deaths"]),
                    bool(said["served"]),
                    float(said["until"]),
                )
        return found

    def _save(self) -> None:
        self._known = dict(list(self._known.items())[-_REMEMBERED:])
        self._write(_DEATHS, {bundle: asdict(said) for bundle, said in self._known.items()})

    def _read(self, name: str) -> dict[str, Any] | None:
        """What a file says; None where there is none, or none that can be read."""
        if self._folder is None:
            return None
        try:
            found = json.loads((self._folder / name).read_bytes())
        except (OSError, ValueError, RecursionError):
            return None
        return found if isinstance(found, dict) else None

    def _write(self, name: str, said: dict[str, Any]) -> None:
        if self._folder is None:
            return
        beside = self._folder / f"{name}.new"
        with contextlib.suppress(OSError):  # a full disk must not keep policies from being enforced
            beside.write_text(json.dumps(said), "utf-8")
            beside.replace(self._folder / name)
