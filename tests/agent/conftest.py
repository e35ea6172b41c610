"""Agents on both stores."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

import ratectl
from ratectl.stores import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ratectl.stores.base import Store

MakeAgent = "Callable[..., ratectl.Agent]"


@pytest.fixture(params=["sqlite", pytest.param("etcd", marks=pytest.mark.etcd)])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh environment."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/rates.db"
    url: str = request.getfixturevalue("etcd_server").store_url(f"agent-{uuid.uuid4().hex[:12]}")
    return url


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    with open_store(store_url) as store:
        yield store


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
