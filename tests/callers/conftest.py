"""Fixtures of hostile callers."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from callers.house import House, each_house

if TYPE_CHECKING:
    from collections.abc import Iterator


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
