"""Health checks of an environment, called without the command line."""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

import ratectl
from etcd_server import wait_for
from ratectl.errors import StoreUnavailable, UsageError
from ratectl.fleet.usage import read_agents
from ratectl.health import Check, examine
from ratectl.kill_switch.switches import PANIC
from ratectl.records import HEAD
from ratectl.stores import open_store
from support import publish_policies, simple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ratectl.stores.base import Store


@pytest.fixture
def url() -> str:
    return f"memory://test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with open_store(url) as opened:
        yield opened


def now() -> datetime:
    return datetime.now(UTC)


def states(checks: list[Check]) -> dict[str, str]:
    return {check.name: check.status for check in checks}


def one(checks: list[Check], name: str) -> Check:
    (check,) = (check for check in checks if check.name == name)
    return check


def test_environment_without_policies_has_warnings(url: str) -> None:
    checks = examine(url, now())
    assert [(check.name, check.status) for check in checks] == [
        ("environment", "warning"),
        ("store", "ok"),
        ("tls", "skipped"),
        ("auth", "skipped"),
        ("policies", "warning"),
        ("panic", "ok"),
        ("agents", "warning"),
        ("clock", "skipped"),
        ("engine", "ok"),
    ]
    assert one(checks, "store").details["backend"] == "memory"


def test_agent_that_serves_the_live_generation_is_ok(
    store: Store, url: str, tmp_path: Path
) -> None:
    publish_policies(store, simple("2/min", burst=2))
    with ratectl.Agent(url, state_dir=tmp_path, ready_timeout=10):
        wait_for(lambda: [agent.generation for agent in read_agents(store)] == [1], "a report")
        checks = examine(url, now())
        assert not {"failed", "warning"} & set(states(checks).values()), checks
        assert one(checks, "agents").message == "1 serving generation 1"
        assert one(checks, "policies").details == {"generation": 1}
        behind = examine(url, now() - timedelta(seconds=30))
        assert "ahead of this machine's" in one(behind, "clock").message
        stale = examine(url, now() + timedelta(seconds=30))
        assert one(stale, "agents").status == "warning"
        assert "was last seen 3" in one(stale, "agents").message


def test_agent_that_reports_rarely_is_not_stale_between_two_reports(
    store: Store, url: str, tmp_path: Path
) -> None:
    publish_policies(store, simple("2/min", burst=2))
    with ratectl.Agent(url, state_dir=tmp_path, ready_timeout=10, report_interval=30):
        wait_for(lambda: [agent.generation for agent in read_agents(store)] == [1], "a report")
        late = examine(url, now() + timedelta(seconds=45))
        assert one(late, "agents").status == "ok"
        stale = examine(url, now() + timedelta(seconds=75))
        assert one(stale, "agents").status == "warning"


def test_agent_that_stays_behind_is_a_failure(store: Store, url: str, tmp_path: Path) -> None:
    publish_policies(store, simple("2/min", burst=2))
    with ratectl.Agent(url, state_dir=tmp_path, ready_timeout=10) as agent:
        wait_for(lambda: [record.generation for record in read_agents(store)] == [1], "a report")
        agent._following.sync.stop()  # type: ignore[attr-defined]
        publish_policies(store, simple("3/min", burst=2))
        fresh = examine(url, now())
        assert one(fresh, "agents").status == "ok", "the agent may still be fetching the generation"
        later = examine(url, now() + timedelta(seconds=7))
        assert one(later, "agents") == Check(
            "agents", "failed", f"{agent.id} enforces generation 1; generation 2 is live"
        )


def test_unreadable_records_are_failures(store: Store, url: str) -> None:
    store.put(PANIC, b"no record")
    assert states(examine(url, now()))["panic"] == "failed"
    store.put(HEAD, b"no record")
    checks = examine(url, now())
    assert [check.status for check in checks if check.name == "store"] == ["ok", "failed"]
    assert "engine" in states(checks), "the other checks go on"


def test_unreachable_store_is_a_failure(url: str) -> None:
    @contextmanager
    def connect() -> Iterator[Store]:
        raise StoreUnavailable("somewhere", "refused")
        yield

    checks = examine(url, now(), connect)
    assert one(checks, "store") == Check(
        "store", "failed", "store somewhere is not reachable: refused"
    )
    assert states(checks).keys() == {"environment", "store", "tls", "auth", "engine"}


def test_invalid_url_is_an_error() -> None:
    with pytest.raises(UsageError):
        examine("redis://x", now())
