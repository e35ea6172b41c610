"""Fixtures of agents; each agent is closed after its test."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import ratectl
from agent.explain_support import TEXT
from agent.problems import Log
from agent.signatures import EVIL, GOOD, Keys
from ratectl.publishing._publish import publish
from support import ME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ratectl.stores.base import Store


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


@pytest.fixture
def short_folder(tmp_path: Path) -> Iterator[Path]:
    """The folder of temporary files. Its path is short: so are those of sockets.

    ``tmp_path`` comes first: its own folder must not lie in this one, which is deleted.
    """
    with (
        tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as folder,
        pytest.MonkeyPatch().context() as patch,
    ):
        patch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    """The key pair that agents trust."""
    return Keys(tmp_path, "platform")


@pytest.fixture
def published(store: Store, keys: Keys) -> Store:
    """Store with two signed generations: 1 is ``EVIL``, 2 is ``GOOD``."""
    for tree in (EVIL, GOOD):
        assert publish(store, tree, ME, signer=keys.signer) is not None
    return store


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Log:
    """Warnings that agents log during a test."""
    return Log(caplog)


@pytest.fixture(params=["c", "pure"])
def both_engines(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of the engine that agents of the test have: each of both in turn."""
    name: str = request.param
    if os.environ.get("RATECTL_ENGINE", "auto") not in (name, "auto"):
        pytest.skip("another engine is tested")
    monkeypatch.setenv("RATECTL_ENGINE", name)
    return name


@pytest.fixture
def agent() -> Iterator[ratectl.Agent]:
    """Agent with the policies of the tests of explanations."""
    with ratectl.Agent.from_policies(TEXT, clock=ratectl.FakeClock()) as agent:
        yield agent


@pytest.fixture
def payments(tmp_path: Path) -> Path:
    """Folder with the policies of the tests of explanations."""
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "team.yaml").write_text(TEXT)
    return folder
