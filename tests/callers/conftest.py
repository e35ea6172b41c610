"""Fixtures of hostile callers."""

from __future__ import annotations

import faulthandler
import logging
from typing import TYPE_CHECKING, Final

import pytest

from callers.house import SANITIZED, SOAK, House, each_house
from support import STANDARD_ERROR

if TYPE_CHECKING:
    from collections.abc import Iterator

HANGS: Final = 3_600.0 if SOAK else 300.0 if SANITIZED else 60.0
"""Seconds after which a test hangs."""


@pytest.fixture(autouse=True)
def _watchdog(pytestconfig: pytest.Config) -> Iterator[None]:
    """End the process, and print the stacks of all threads, if a test hangs."""
    printed_to = pytestconfig.stash[STANDARD_ERROR]
    faulthandler.dump_traceback_later(HANGS, exit=True, file=printed_to)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Log nothing: an exception at any moment may leave a handler's lock locked for ever."""
    logger = logging.getLogger("ratectl")
    nothing = logging.NullHandler()
    logger.addHandler(nothing)
    before, logger.propagate = logger.propagate, False
    yield
    logger.propagate = before
    logger.removeHandler(nothing)


@pytest.fixture(params=each_house(), ids=lambda case: "-".join(case))
def house(request: pytest.FixtureRequest) -> House:
    return House(*request.param)
