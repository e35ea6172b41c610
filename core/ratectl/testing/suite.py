"""Suite: the tests of a tree, and how to run them."""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING

from ratectl.errors import UsageError
from ratectl.runtime.gc_pause import paused_collector
from ratectl.testing.coverage import Meter
from ratectl.testing.play import play
from ratectl.testing.results import Report
from ratectl.testing.world import World

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from ratectl.policy.loading.loader import Loaded
    from ratectl.testing.results import Result

__all__ = ["Suite", "load_suite", "run_tests"]


class Suite:
    """Valid policies with the tests beside them."""

    def __init__(self, loaded: Loaded, pattern: str | None = None) -> None:
        """Select tests: only those with the regular expression ``pattern`` in their name.

        :raises UsageError: ``pattern`` is not a regular expression.
        """
        self._loaded = loaded
        try:
            chosen = re.compile(pattern or "")
        except re.error as error:
            raise UsageError(f"{pattern!r} is not a regular expression: {error}") from error
        self._tests = {
            written.test.name: written
            for written in loaded.tests
            if chosen.search(written.test.name)
        }

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the tests, in order of files and lines."""
        return tuple(self._tests)

    def run(self, name: str) -> Result:
        """Run one test.

        :raises UsageError: there is no test of this name.
        """
        return self._play(name, Meter())

    def run_all(self) -> Report:
        """Run all tests, each from full buckets, and measure their coverage."""
        meter = Meter()
        meter.plans(self._world.plans(0))
        meter.overrides(self._world.overrides)
        with paused_collector():
            results = tuple(self._play(name, meter) for name in self._tests)
        return Report(results, meter.coverage())

    def _play(self, name: str, meter: Meter) -> Result:
        written = self._tests.get(name)
        if written is None:
            raise UsageError(f"there is no test called {name!r}")
        return play(written, self._world, meter, self._loaded.texts)

    @cached_property
    def _world(self) -> World:
        return World(self._loaded.tree)


def load_suite(
    paths: Sequence[str | os.PathLike[str]],
    *,
    pattern: str | None = None,
    stdin: bytes | None = None,
) -> Suite:
    """Load policies with the tests beside them: files, directories, and ``-`` for ``stdin``.

    :raises PolicyError: a policy or a test is not valid.
    :raises UsageError: ``pattern`` is not a regular expression.
    """
    from ratectl.policy.read import load_valid

    return Suite(load_valid(paths, stdin=stdin), pattern)


def run_tests(paths: Sequence[str | os.PathLike[str]], *, pattern: str | None = None) -> Report:
    """Load policies and run the tests beside them; see ``load_suite``."""
    return load_suite(paths, pattern=pattern).run_all()
