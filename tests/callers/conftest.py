"""Fixtures of hostile callers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from callers.house import House, each_house, watchdog

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _hangs() -> Iterator[None]:
    with watchdog():
        yield


@pytest.fixture(params=each_house(), ids=lambda case: "-".join(case))
def house(request: pytest.FixtureRequest) -> House:
    return House(*request.param)
