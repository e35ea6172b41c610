"""Generations that this process has died of: not tried again at once, whatever the store says.

Before a generation is put in force, a file in the agent's slot says so; it goes when the process
has outlived its first seconds with it, or ends in good order. A file that is still there at the
next start was left by a process that died: the generation is left alone for some minutes then, for
twice as long each time it happens again. One that had served before gets two more chances: most
that kills a process is none of our doing.
"""

from __future__ import annotations

import contextlib
import json
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
_CHANCES: Final = 3
"""Deaths before a generation that had served is suspected."""
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


class Quarantine:
    """What is remembered in one slot's folder; without a folder, nothing is."""

    def __init__(
        self,
        folder: Path | None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._wall = wall
        self._trying: str | None = None
        self._since = 0.0
        self._known = self._load()
        self._autopsy()

    def refusal(self, bundle: str) -> str | None:
        """Why a bundle must not be tried now; None where it may be."""
        known = self._known.get(bundle)
        # A clock that was set back must not make it last for ever.
        left = 0.0 if known is None else min(known.until - self._wall(), _MOST_SECONDS)
        if known is None or left <= 0:
            return None
        until = datetime.fromtimestamp(known.until, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        times = "once" if known.deaths == 1 else f"{known.deaths} times"
        return (
            f"this agent's process died with generation {known.generation} ({times}); "
            f"it is not tried again before {until}"
        )

    def begin(self, generation: int, bundle: str) -> None:
        """Note that a bundle is about to be put in force."""
        self._trying, self._since = bundle, self._clock()
        self._known.setdefault(bundle, _Deaths(generation))
        # Not synced: what a machine's crash takes with it was not the generation's doing.
        self._write(_TRYING, {"generation": generation, "bundle": bundle})

    def tend(self, *, candidate: bool) -> None:
        """Note that the process lives on, if it has done so for long enough."""
        if not candidate and self._clock() - self._since >= PROBATION_SECONDS:
            self._served()

    def _served(self) -> None:
        if self._trying is not None:
            self._known[self._trying] = _Deaths(self._known[self._trying].generation, served=True)
            self._save()
            self.end()

    def end(self) -> None:
        """The attempt ended in good order: the process refused it, or closed its agent."""
        self._trying = None
        if self._folder is not None:
            with contextlib.suppress(OSError):
                (self._folder / _TRYING).unlink(missing_ok=True)

    def _autopsy(self) -> None:
        """Hold what the last process died with against it."""
        left = self._read(_TRYING) or {}
        bundle, generation = left.get("bundle"), left.get("generation")
        if not isinstance(bundle, str) or not isinstance(generation, int):
            return
        known = self._known.setdefault(bundle, _Deaths(generation))
        known.deaths += 1
        suspected = known.deaths - (_CHANCES - 1 if known.served else 0)
        if suspected > 0:
            seconds = min(_FIRST_SECONDS * 2 ** (suspected - 1), _MOST_SECONDS)
            known.until = self._wall() + seconds
        self._save()
        self.end()

    def _load(self) -> dict[str, _Deaths]:
        found = self._read(_DEATHS) or {}
        with contextlib.suppress(TypeError, AttributeError):
            return {bundle: _Deaths(**said) for bundle, said in found.items()}
        return {}

    def _save(self) -> None:
        newest = list(self._known.items())[-_REMEMBERED:]
        self._known = dict(newest)
        self._write(_DEATHS, {bundle: asdict(said) for bundle, said in newest})

    def _read(self, name: str) -> dict[str, Any] | None:
        """What a file says; None where there is none, or none that can be read."""
        if self._folder is None:
            return None
        try:
            found = json.loads((self._folder / name).read_bytes())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def _write(self, name: str, said: dict[str, object]) -> None:
        if self._folder is None:
            return
        beside = self._folder / f"{name}.new"
        with contextlib.suppress(OSError):  # a full disk must not keep policies from being enforced
            beside.write_text(json.dumps(said), "utf-8")
            beside.replace(self._folder / name)
