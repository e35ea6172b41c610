"""Problems of agents: in their status, and in the log."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING

from etcd_server import wait_for

if TYPE_CHECKING:
    import pytest

    import ratectl

__all__ = ["RETRIES", "Log", "wait_for_problem", "wait_until_well"]

RETRIES = 1.5
"""Seconds in which an agent retries several times."""


class Log:
    """Warnings that agents logged."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "ratectl.agent")
        self._caplog = caplog

    @property
    def warnings(self) -> list[str]:
        found = self._caplog.records
        return [each.getMessage() for each in found if each.levelno >= logging.WARNING]

    def check_no_repeats(self) -> None:
        """Assert that no warning was logged twice."""
        assert max(Counter(self.warnings).values(), default=0) <= 1, self.warnings


def wait_for_problem(agent: ratectl.Agent, words: str, seconds: float = 10.0) -> str:
    """Wait until the status has a problem with these words; return all its problems."""
    wait_for(lambda: words in (agent.status.error or ""), f"{words!r} is reported", seconds)
    return agent.status.error or ""


def wait_until_well(agent: ratectl.Agent, seconds: float = 10.0) -> None:
    wait_for(lambda: agent.status.error is None, "no problem is left", seconds)
