"""Usage reports: with any keys, and with failures that the status reports."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from etcd_server import wait_for
from ratectl.agent.usage.meter import UsageMeter
from ratectl.fleet.usage import read_usage
from support import publish_policies, simple

if TYPE_CHECKING:
    from collections.abc import Callable

    import ratectl
    from ratectl.stores.base import Store

    Make = Callable[..., ratectl.Agent]


def refused_keys(store: Store) -> set[str]:
    """Return the refused keys in all usage reports."""
    return {
        key
        for record in read_usage(store)
        for limit in record.limits
        for key, _ in limit.top_refused
    }


@pytest.mark.parametrize("engine", ["c", "pure"])
def test_refused_key_with_invalid_unicode_is_reported_escaped(
    store: Store, store_url: str, make_agent: Make, monkeypatch: pytest.MonkeyPatch, engine: str
):
    publish_policies(store, simple("1/day", burst=1))
    monkeypatch.setenv("RATECTL_ENGINE", engine)
    agent = make_agent(store_url)
    for tenant in ("\udcff", "\ud800x"):
        for _ in range(2):
            agent.check("/", {"tenant": tenant})
    wait_for(lambda: refused_keys(store) == {"\\udcff", "\\ud800x"}, "the keys are reported")
    assert agent.status.error is None


def test_an_unexpected_failure_of_reports_is_a_problem_until_it_is_over(
    store: Store,
    store_url: str,
    make_agent: Make,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    publish_policies(store, simple())
    agent = make_agent(store_url)
    tries: list[None] = []

    def fail(*_: object) -> None:
        tries.append(None)
        raise ValueError("no such number")

    with monkeypatch.context() as patch, caplog.at_level(logging.ERROR):
        patch.setattr(UsageMeter, "read", fail)
        wait_for(lambda: len(tries) > 3, "it tries again")
        assert "no such number" in agent.status.problems["report"]
        assert len(caplog.records) == 1
    wait_for(lambda: not agent.status.problems, "the problem is over")
