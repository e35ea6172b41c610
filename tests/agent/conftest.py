"""Agents that tests need not close."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import ratectl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def make_agent(tmp_path: Path) -> Iterator[Callable[..., ratectl.Agent]]:
    """Agents that report quickly, keep their state below the test's folder, and are closed."""
    made: list[ratectl.Agent] = []

    def make(source: str, **options: object) -> ratectl.Agent:
        given = {"state_dir": tmp_path / "state", "report_interval": 0.1, "ready_timeout": 5.0}
        agent = ratectl.Agent(source, **{**given, **options})  # type: ignore[arg-type]
        made.append(agent)
        return agent

    yield make
    for agent in made:
        agent.close()
