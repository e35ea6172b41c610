"""A pytest plugin: the fixture ``ratectl_agent`` makes agents whose time the test moves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratectl.agent import Agent

__all__ = ["MakeAgent", "ratectl_agent"]

_OPTION = "ratectl_policies"


class MakeAgent(Protocol):
    """Makes an agent; see the fixture ``ratectl_agent``."""

    def __call__(self, policies: Any = None, **options: Any) -> Agent: ...


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the setting that names the policies of the project."""
    parser.addini(_OPTION, "policies for ratectl_agent, from the rootdir", default="policies")


@pytest.fixture
def ratectl_agent(pytestconfig: pytest.Config) -> Iterator[MakeAgent]:
    """Return a function that makes agents for one test, without a store.

    It takes what ``Agent.from_policies`` takes. Without policies, those at ``ratectl_policies`` (a
    setting of pytest, by default ``policies``) are used: a path that is relative to the rootdir.
    Without a clock, all agents of the test share one ``FakeClock``: ``agent.clock.advance(1)``.
    """
    from ratectl.agent import Agent  # tests of projects that do not use the fixture start quickly
    from ratectl.agent.fake_clock import FakeClock

    clock, agents = FakeClock(), []

    def make(policies: Any = None, **options: Any) -> Agent:
        if policies is None:
            policies = pytestconfig.rootpath / pytestconfig.getini(_OPTION)
        agent = Agent.from_policies(policies, **{"clock": clock, **options})
        agents.append(agent)
        return agent

    yield make
    for agent in agents:
        agent.close()
