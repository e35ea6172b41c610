"""``on_error`` answers failed decisions, even if the error or the host's logging fails too."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest

from etcd_server import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import ratectl


class Unshowable(Exception):
    """An error without a text."""

    def __str__(self) -> str:
        raise ValueError("cannot be shown")


class NoRepr:
    """A value that cannot be shown."""

    def __repr__(self) -> str:
        raise ValueError("no repr")


class Failing:
    """Attributes that raise an error."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def get(self, name: str) -> str:
        raise self._error


class Broken(logging.Handler):
    """A log handler that fails."""

    def emit(self, record: logging.LogRecord) -> None:
        raise RuntimeError("the handler is broken")


@pytest.fixture(params=["c", "pure"])
def agent(
    request: pytest.FixtureRequest,
    make_agent: Callable[..., ratectl.Agent],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> ratectl.Agent:
    """Return an agent of a directory with one limit, on each engine."""
    monkeypatch.setenv("RATECTL_ENGINE", request.param)
    file = tmp_path / "a.yaml"
    limits = {"spike": {"rate": "5/s", "per": "tenant"}}
    file.write_text(json.dumps({"apiVersion": "ratectl/v1", "scope": "/", "limits": limits}))
    return make_agent(str(file))


@pytest.fixture
def broken_log() -> Iterator[None]:
    """Log through a handler that fails."""
    logger, handler = logging.getLogger("ratectl.agent"), Broken()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield
    logger.removeHandler(handler)
    logger.setLevel(level)


@pytest.mark.parametrize("error", [Unshowable(), KeyError(NoRepr())], ids=["error", "argument"])
def test_an_error_that_cannot_be_shown_is_answered_by_on_error(
    agent: ratectl.Agent, error: Exception
):
    hostile: Any = Failing(error)
    assert agent.check("/", hostile).reason == "error"
    assert agent.check_many([("/", hostile)])[0].reason == "error"
    said = agent._following.settings.failures.problem()
    assert said is not None
    assert f"a {type(error).__name__} that cannot be shown" in said


def test_error_text_with_invalid_unicode_can_be_reported(
    agent: ratectl.Agent, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.CRITICAL, "ratectl.agent")  # pytest-xdist cannot send such a log
    hostile: Any = Failing(ValueError("\udcff"))
    assert agent.check("/", hostile).reason == "error"
    said = agent._following.settings.failures.problem()
    assert said is not None
    assert said.encode().endswith(b"ValueError: \\udcff")


@pytest.mark.usefixtures("broken_log")
def test_failing_log_handler_does_not_fail_a_decision(agent: ratectl.Agent):
    hostile: Any = Failing(RuntimeError("no attributes"))
    assert agent.check("/", hostile).reason == "error"
    scope: Any = 5
    assert agent.check(scope, hostile).reason == "error"


@pytest.mark.usefixtures("broken_log")
def test_a_log_handler_that_fails_ends_no_thread_of_the_agent(agent: ratectl.Agent, tmp_path: Path):
    file = tmp_path / "a.yaml"
    valid = file.read_text()
    file.write_text("no policies")
    wait_for(lambda: agent.status.error, "the agent notices the invalid file")
    file.write_text(valid.replace("5/s", "6/s"))
    assert agent.wait_for_generation(2, 10)


def test_a_log_record_names_the_line_that_logged(
    make_agent: Callable[..., ratectl.Agent], tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO, "ratectl.agent")
    make_agent(f"sqlite:///{tmp_path}/rates.db", ready_timeout=0).close()
    wait_for(lambda: caplog.records, "the agent says that nothing is published")
    assert caplog.records[0].filename != "log.py"
