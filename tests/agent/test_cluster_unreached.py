"""A real process that cannot reach the owners that the store names: doctor and status show it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from agent.cluster_fleet import Fleet
from etcd_server import wait_for
from ratectl.cluster.sharding import SHARD_NAMES
from ratectl.health import examine
from ratectl.records import OwnerHint, owner_key, owner_name
from ratectl.stores import open_store
from support import once

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ratectl.stores.base import Store

pytestmark = once

NOWHERE = "unix:/nonexistent/owner.sock"


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path)
    yield made
    made.end()


def findings(url: str) -> list[str]:
    checks = examine(url, datetime.now(UTC))
    return [check.message for check in checks if check.name == "cluster"]


def take_over(store: Store, member: str) -> None:
    """Name an owner that no process reaches, as often as the process names itself."""
    for shard in SHARD_NAMES:
        item = store.get(owner_key(shard))
        if item is not None and OwnerHint.decode(item.value).member != member:
            owner = OwnerHint(member=member, owner=owner_name(shard, member), address=NOWHERE)
            store.put(owner_key(shard), owner.encode())


def test_doctor_names_the_member_and_the_reason(fleet: Fleet) -> None:
    fleet.start(1, 0.1)

    def is_told() -> bool:
        with open_store(fleet.store) as store:
            take_over(store, "worker-9.0000000a")
        return any("does not answer" in text for text in findings(fleet.store))

    wait_for(is_told, "the report of the process")
    (found,) = [text for text in findings(fleet.store) if "does not answer" in text]
    assert found.startswith("member worker-0.")
    assert found.endswith(
        f"the owner worker-9.0000000a at {NOWHERE} does not answer: no connection: No such file or "
        "directory"
    )
