"""Following of the mapping's file: a service uses what the file says now."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from ratectl.agent.log import log
from ratectl.errors import UsageError
from ratectl.runtime.file_version import version_of
from ratectl.sidecar.mapping import EnvoyMapping
from ratectl.sidecar.mapping_file import MappingError, read_mapping

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

__all__ = ["MappingFollower"]

_EVERY: Final = 1.0
"""Seconds between two looks at the file."""


class MappingFollower:
    """Reads a mapping again when its file changes. The one in use stays if the new one is wrong."""

    def __init__(
        self,
        file: str | os.PathLike[str],
        use: Callable[[EnvoyMapping], object],
        problem: Callable[[str | None], object],
    ) -> None:
        """Read the file.

        :param use: is called with each new mapping.
        :param problem: is called with what is wrong with the file now; None for nothing.
        :raises UsageError: the file cannot be read.
        :raises MappingError: it is not valid.
        """
        self._file = file
        self._use = use
        self._problem = problem
        self._seen = version_of(file)
        use(EnvoyMapping(read_mapping(file)))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="ratectl-mapping", daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        while not self._stop.wait(_EVERY):
            self.look()

    def look(self) -> None:
        """Read the file if it has changed. Never raises."""
        version = version_of(self._file)
        if version == self._seen:
            return
        self._seen = version
        try:
            mapping = EnvoyMapping(read_mapping(self._file))
        except Exception as error:  # noqa: BLE001  the thread goes on
            self._problem(f"{_told(error)}; the mapping before it stays in use")
            return
        self._use(mapping)
        self._problem(None)
        log.info("the mapping %s is a new one", self._file)

    def close(self) -> None:
        """End. Safe to repeat."""
        self._stop.set()
        if self._thread is not threading.current_thread():
            self._thread.join()


def _told(error: Exception) -> str:
    """Return one line that says what is wrong."""
    if isinstance(error, MappingError):
        return str(error.diagnostics[0])
    if isinstance(error, UsageError):
        return str(error)
    return f"the mapping cannot be used: {type(error).__name__}: {error}"
