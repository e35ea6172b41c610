"""Quarantine: a generation that this agent's process died with is not tried again for a while.

A note on disk (``trial_note``) names the generation that a process tries. The note stays from
before the generation is enforced until the process has lived with it for some seconds, or has ended
normally. The next process in the slot reads a note that was left. If several generations are tried
at the same time, the note names the newest: the last change is the most likely cause.

For a candidate of a rollout, one death of any kind is enough. For a live generation only a crash
that the note records counts, since a deployment may end a process at any moment. One crash may be
chance: it takes two, or three if the generation has served before. Quarantine lasts for minutes at
first, and twice as long each time.
"""

from __future__ import annotations

import contextlib
import json
import math
import threading
import time
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Self

from ratectl.agent.trial_note import Trial, TrialNote, read_bounded
from ratectl.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["PROBATION_SECONDS", "Quarantine"]

PROBATION_SECONDS: Final = 10.0
"""Time of probation: a process that lives so long with a generation will not die of it. A candidate
is on probation until it is promoted or aborted."""

_FIRST_SECONDS: Final = 300.0
_MAX_SECONDS: Final = 86_400.0
_CRASHES: Final = 2
_SERVED_CRASHES: Final = 3
_REMEMBERED: Final = 100
_FILE: Final = "quarantine"

_APPLYING: Final = "applying"
_IN_FORCE: Final = "in force"
_SHADOW: Final = "shadow"


@dataclass(slots=True)
class _Deaths:
    """Number of deaths of one kind, and the time of the last one."""

    times: int = 0
    last: float = 0.0
    """Seconds since 1970 (wall clock), since the time is kept on disk."""

    @classmethod
    def load(cls, saved: dict[str, Any]) -> Self:
        """Return the deaths in a saved record.

        :raises ValueError, TypeError, KeyError, OverflowError: it is damaged.
        """
        times, last = int(saved["times"]), float(saved["last"])
        if not math.isfinite(last):
            raise ValueError(f"{last} is not a time")
        return cls(times, last)

    def add(self, now: float) -> None:
        self.times, self.last = self.times + 1, now

    def seconds_left(self, tolerated: int, now: float) -> float:
        """Return the remaining seconds of quarantine; 0 or less if there is none."""
        suspected = self.times - tolerated
        if suspected <= 0:
            return 0.0
        seconds = min(_FIRST_SECONDS * 2.0 ** min(suspected - 1, 20), _MAX_SECONDS)
        # A clock that is set back while the process runs must not prolong the quarantine.
        return min(self.last + seconds - now, seconds)

    def correct(self, now: float) -> bool:
        """Set a last time in the future to ``now``; return True if there was one."""
        before, self.last = self.last, min(self.last, now)
        return self.last != before


@dataclass(slots=True)
class _Record:
    """Memory of one generation."""

    generation: int
    served: bool = False
    """True if a process has lived through its probation."""
    as_candidate: _Deaths = field(default_factory=_Deaths)
    """Deaths of any kind while it was a candidate."""
    crashes: _Deaths = field(default_factory=_Deaths)
    """Recorded crashes, as a candidate or live."""
    signal: str | None = None
    """Name of the signal of the last crash."""

    def seconds_left(self, now: float) -> float:
        """Return the remaining seconds of quarantine as a live generation."""
        return self.crashes.seconds_left((_SERVED_CRASHES if self.served else _CRASHES) - 1, now)

    @classmethod
    def load(cls, saved: dict[str, Any]) -> Self:
        """Return the memory in a saved record.

        :raises ValueError, TypeError, KeyError, OverflowError: it is damaged.
        """
        return cls(
            int(saved["generation"]),
            bool(saved["served"]),
            _Deaths.load(saved["as_candidate"]),
            _Deaths.load(saved["crashes"]),
            None if saved["signal"] is None else str(saved["signal"]),
        )


@dataclass(slots=True)
class _Attempt:
    """A trial in this process."""

    trial: Trial
    since: float | None = None
    """Time of enforcement (monotonic seconds); None before."""


class Quarantine:
    """Memory of deaths, kept in one slot's folder; without a folder, nothing is kept. Thread-safe.

    ``clock``: monotonic seconds; ``wall``: seconds since 1970.
    """

    def __init__(
        self,
        folder: Path | None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._path = None if folder is None else folder / _FILE
        self._note = TrialNote(folder)
        self._clock = clock
        self._wall = wall
        self._lock = threading.Lock()
        self._attempts: dict[str, _Attempt] = {}
        """By role, newest last: the newest is blamed if the process dies."""
        self._known = self._load()
        self._correct_times()
        self._autopsy()

    # Looking up ---------------------------------------------------------------------------------

    def refusal(self, trial: Trial) -> str | None:
        """Return why a generation must not be tried now; None if it may be."""
        record = self._known.get(trial.bundle)
        if record is None:
            return None
        now = self._wall()
        deaths, died, left = record.crashes, f"crashed ({record.signal})", record.seconds_left(now)
        if trial.candidate and record.as_candidate.seconds_left(0, now) > left:
            deaths, died = record.as_candidate, "died"
            left = deaths.seconds_left(0, now)
        if left <= 0:
            return None
        until = datetime.fromtimestamp(now + left, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        times = "once" if deaths.times == 1 else f"{deaths.times} times"
        return (
            f"this agent's process {died} with generation {record.generation}, {times}; "
            f"that generation is not tried again before {until}"
        )

    def has_served(self, bundle: str) -> bool:
        """Return True if a process of this slot has lived through the bundle's probation."""
        record = self._known.get(bundle)
        return record is not None and record.served

    # Probation ----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def trying(self, trial: Trial, *, shadow: bool = False) -> Iterator[None]:
        """Note that the body enforces a generation, or begins to evaluate it in shadow.

        Probation begins when the body has finished.

        :raises BundleError: the body failed. Every error rejects the generation: it must not be
            taken for an outage of the store.
        """
        self.begin(trial, shadow=shadow)
        try:
            yield
        except BaseException as error:
            self.end(shadow=shadow)
            if isinstance(error, BundleError) or not isinstance(error, Exception):
                raise
            raise BundleError(f"it cannot be enforced: {type(error).__name__}: {error}") from error
        if not shadow:
            self.in_force()

    def begin(self, trial: Trial, *, shadow: bool = False) -> None:
        """Note that a generation is about to be put in force, or evaluated in shadow."""
        role = _SHADOW if shadow else _APPLYING
        with self._lock:
            self._attempts.pop(role, None)
            self._attempts[role] = _Attempt(trial)
            self._write_note()

    def in_force(self) -> None:
        """Start the probation of the generation that was begun; it replaces the previous one."""
        with self._lock:
            attempt = self._attempts.pop(_APPLYING, None)
            if attempt is not None:
                attempt.since = self._clock()
                self._attempts.pop(_IN_FORCE, None)
                self._attempts[_IN_FORCE] = attempt
                self._write_note()

    def end(self, *, shadow: bool = False) -> None:
        """Note that the generation failed with an exception, or is no longer evaluated in shadow.

        The generation in force stays on probation.
        """
        with self._lock:
            if self._attempts.pop(_SHADOW if shadow else _APPLYING, None) is not None:
                self._write_note()

    def promoted(self) -> None:
        """Note that the candidate in force has become live."""
        with self._lock:
            attempt = self._attempts.get(_IN_FORCE)
            if attempt is not None:
                attempt.trial = replace(attempt.trial, candidate=False)
                self._write_note()

    def end_probation_if_due(self) -> bool:
        """End the probation if the process has lived long enough; return True if it ended now."""
        with self._lock:
            attempt = self._attempts.get(_IN_FORCE)
            if attempt is None or attempt.trial.candidate or attempt.since is None:
                return False
            if self._clock() - attempt.since < PROBATION_SECONDS:
                return False
            del self._attempts[_IN_FORCE]
            self._write_note()
            self._remember(attempt.trial.bundle, _Record(attempt.trial.generation, served=True))
            return True

    def close(self) -> None:
        """Remove the note, since the process ends normally, and write none from now on."""
        with self._lock:
            self._attempts.clear()
            self._write_note()
            self._note = TrialNote(None)

    def leave_to_parent(self) -> None:
        """Close the parent's note, in a forked child."""
        self._note.leave_to_parent()

    def _write_note(self) -> None:
        newest = next(reversed(self._attempts.values()), None)
        self._note.write(None if newest is None else newest.trial)

    # Memory -------------------------------------------------------------------------------------

    def _autopsy(self) -> None:
        """Count the death of the slot's last process, if it left a note."""
        left = self._note.take()  # removed first: a kill in between must not count it twice
        if left is None or not (left.trial.candidate or left.crash):
            return
        trial, crash = left
        record = self._known.get(trial.bundle) or _Record(trial.generation)
        now = self._wall()
        if trial.candidate:
            record.as_candidate.add(now)
        if crash is not None:
            record.crashes.add(now)
            record.signal = crash
        self._remember(trial.bundle, record)

    def _remember(self, bundle: str, record: _Record) -> None:
        self._known.pop(bundle, None)
        self._known[bundle] = record
        self._known = dict(list(self._known.items())[-_REMEMBERED:])
        self._save()

    def _correct_times(self) -> None:
        """Set times of death that lie in the future (a wrong clock) to now, and save them."""
        now = self._wall()
        corrected = [
            deaths.correct(now)
            for record in self._known.values()
            for deaths in (record.as_candidate, record.crashes)
        ]
        if any(corrected):
            self._save()

    def _save(self) -> None:
        if self._path is None:
            return
        saved = {bundle: asdict(record) for bundle, record in self._known.items()}
        beside = self._path.with_name(f"{_FILE}.new")
        with contextlib.suppress(OSError):  # a full disk must not stop enforcement
            beside.write_text(json.dumps(saved), "utf-8")
            beside.replace(self._path)

    def _load(self) -> dict[str, _Record]:
        content = None if self._path is None else read_bounded(self._path)
        records: dict[str, _Record] = {}
        with contextlib.suppress(ValueError, AttributeError, RecursionError):
            for bundle, saved in json.loads(content or b"{}").items():
                with contextlib.suppress(TypeError, ValueError, KeyError, OverflowError):
                    records[bundle] = _Record.load(saved)
        return records
