"""Logs and maps that the command line names, and replays of them."""

from __future__ import annotations

import os
import stat
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ratectl.errors import UsageError
from ratectl.policy.resolution.effective_limit import DEFAULT_UNIT
from ratectl.policy.yaml.text import MAX_BYTES, quoted
from ratectl.runtime.closest import closest
from ratectl.runtime.files import left_repository
from ratectl.simulate import Traffic, read_map, replay
from ratectl_cli.framework.progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ratectl.policy.language.model import PolicyTree
    from ratectl.simulate import Report
    from ratectl.simulate.model import TrafficMap
    from ratectl_cli.framework.session import Session

__all__ = ["Recording", "replay_recording"]


class Recording(NamedTuple):
    """A log, and the map of its lines to requests."""

    log: str
    """A file, or ``-`` for standard input."""
    map: str
    made: TrafficMap
    option: str
    """Option that names the log, for messages."""

    @classmethod
    def of(cls, log: str, map_file: str, option: str) -> Recording:
        """Read the map.

        :raises MapError: it is not a map.
        :raises UsageError: there is no such file.
        """
        with _opened(map_file, "--map") as file:
            made = read_map(file.read(MAX_BYTES + 1), map_file)
        return cls(log, map_file, made, option)


def replay_recording(
    session: Session,
    recording: Recording,
    policies: Sequence[tuple[str, PolicyTree]],
    *,
    window_ns: int = 60_000_000_000,
) -> Report:
    """Replay through one or two named sets of policies, with a progress bar if it takes long.

    :raises UsageError: there is no such log, or its header lacks a field that the map names.
    :raises OSError: the log cannot be read.
    """
    log = recording.log
    _compare_units(session, recording, [tree for _, tree in policies])
    with (
        _log(recording) as (file, size),
        progress_bar(session, f"replaying {log}", size) as passed,
    ):
        return replay(Traffic(file, recording.made, window_ns=window_ns, passed=passed), policies)


def _compare_units(session: Session, recording: Recording, trees: Sequence[PolicyTree]) -> None:
    """Warn of limits whose unit the map leaves out.

    :raises UsageError: the map names a unit that no limit counts.
    """
    counted = set().union(*(tree.units() for tree in trees))
    carried = set(recording.made.cost)
    for unit in sorted(carried - counted - {DEFAULT_UNIT}):
        meant = closest(unit.lower(), sorted(counted))
        remedy = f"write {meant}" if meant else "delete it from cost, or give a limit this unit"
        raise UsageError(
            f"{recording.map}: no limit of the policies counts the unit {quoted(unit)}: {remedy}"
        )
    for unit in sorted(counted - carried - {DEFAULT_UNIT}):
        session.warn(
            f"{recording.map} has no cost of {unit}: limits that count {unit} refuse nothing in "
            f"this replay. Add cost: {{{unit}: {{field: …}}}}"
        )


@contextmanager
def _log(recording: Recording) -> Iterator[tuple[Any, int | None]]:
    """Open the log; yield it and its size in bytes, None if unknown."""
    name, option = recording.log, recording.option
    if name == "-":
        if sys.stdin.isatty():
            raise UsageError(f"{option} - reads standard input, which is a terminal")
        yield sys.stdin.buffer, None
        return
    with _opened(name, option) as file:
        status = os.fstat(file.fileno())
        yield file, status.st_size if stat.S_ISREG(status.st_mode) else None


@contextmanager
def _opened(name: str, option: str) -> Iterator[Any]:
    repository = left_repository(name)
    if repository is not None:
        raise UsageError(
            f"{option} {name} leads out of the repository {repository} by a link: name the place "
            "that it leads to"
        )
    try:
        file = Path(name).open("rb")  # noqa: SIM115  closed below
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"{option} {name}: {why.lower()}") from error
    with file:
        yield file
