"""Note on disk of the generation that this process is trying, and of the crash that ended it.

The first line of the file names the generation; the process writes it before it enforces the
generation. With the compiled engine, a fatal signal appends a line with its number (see
``witness.h``). Any other death (SIGKILL, a power cut) appends nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ratectl.agent.log import log
from ratectl.engine import engine_type

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["LeftTrial", "Trial", "TrialNote", "read_bounded"]


_MAX_BYTES: Final = 1 << 20
"""Largest size of a file that this module reads: its own are far smaller."""

_FATAL: Final = (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT)
"""Signals that the witness notes."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A generation that a process tries."""

    generation: int
    bundle: str
    candidate: bool
    """True for a candidate of a rollout, False for a live generation."""


class LeftTrial(NamedTuple):
    """Trial that was under way when its process ended, and the crash, if there was one."""

    trial: Trial
    crash: str | None
    """Name of the signal of the crash; None if no crash was recorded."""


class TrialNote:
    """The file ``trying`` of a slot; without a folder, nothing is written. Not thread-safe."""

    def __init__(self, folder: Path | None) -> None:
        self._path = None if folder is None else folder / "trying"
        self._written: Trial | None = None
        self._witness: int | None = None
        """Descriptor of the file, while a crash appends to it."""

    def take(self) -> LeftTrial | None:
        """Remove the note of the previous process, and return it.

        None if it cannot be read, or cannot be removed: it would count again at each start.
        """
        content = None if self._path is None else read_bounded(self._path)
        if self._path is None or not _removed(self._path) or content is None:
            return None
        noted, _, crash = content.partition(b"\n")
        with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
            return LeftTrial(_trial(json.loads(noted)), _signal_name(crash))
        return None

    def write(self, trial: Trial | None) -> None:
        """Replace the note; None removes it. A full disk does not stop the process."""
        if self._path is None or trial == self._written:
            return
        before, self._witness, self._written = self._witness, None, None
        with contextlib.suppress(OSError):
            if trial is not None:
                self._witness = _witnessed(_replaced(self._path, trial))
                self._written = trial
        if self._written is None:
            _removed(self._path)  # an old note must not put the blame on another generation
        _close(before)

    def leave_to_parent(self) -> None:
        """Close this child's copy after a fork: the note belongs to the parent."""
        if self._witness is not None:
            os.close(self._witness)
        self._path = self._witness = None


def read_bounded(path: Path) -> bytes | None:
    """Return a small file's content; None if it cannot be read, or is larger than our files."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError:
        return None
    return content if len(content) <= _MAX_BYTES else None


def _removed(path: Path) -> bool:
    """Remove a file; return False if it could not be removed."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.debug("%s cannot be removed: %s", path, error)
        return False
    return True


def _trial(noted: dict[str, Any]) -> Trial:
    """Return the trial of a note.

    :raises KeyError, TypeError: the note is damaged.
    """
    trial = Trial(noted["generation"], noted["bundle"], noted["candidate"])
    types = [type(value) for value in (trial.generation, trial.bundle, trial.candidate)]
    if types != [int, str, bool]:
        raise TypeError("not a trial")
    return trial


def _signal_name(lines: bytes) -> str | None:
    """Return the name of the last recorded signal; None if the last line names none.

    A process that survives a signal (the host's handler repairs it) records 00.
    """
    *_, last, rest = [b"", *lines.split(b"\n")]
    return next((number.name for number in _FATAL if last == b"%02d" % number and not rest), None)


def _replaced(path: Path, trial: Trial) -> int:
    """Write a new note, rename it into place, and return its descriptor.

    Not synced: a crash of the whole machine may lose it, as the generation did not cause that.
    """
    beside = path.with_name(f"{path.name}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
    file = os.open(beside, flags, 0o600)
    try:
        os.write(file, json.dumps(asdict(trial)).encode() + b"\n")
        beside.replace(path)
    except BaseException:
        os.close(file)
        raise
    return file


def _witnessed(file: int) -> int | None:
    """Make a crash append to a file, and return it; close it if the engine cannot do that."""
    if engine_type().name != "pure":
        from ratectl.engine.native import _fast

        if _fast.witness(file):
            return file
        log.warning(
            "too many agents of this process try a generation: a crash would not be recorded"
        )
    os.close(file)
    return None


def _close(witness: int | None) -> None:
    if witness is not None:
        from ratectl.engine.native import _fast

        _fast.dismiss(witness)
        os.close(witness)
