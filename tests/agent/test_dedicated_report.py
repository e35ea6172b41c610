"""Reports of a dedicated owner: how full the limits are that it owns, and nothing as a stand-by."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from given_counts import owned
from ratectl.agent.dedicated_report import DedicatedReport
from ratectl.fleet.usage import read_agents, read_usage, totals
from ratectl.stores import open_store
from support import once

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ratectl.cluster.owned import OwnedLimit
    from ratectl.stores.base import Store

pytestmark = once


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(f"sqlite:///{tmp_path}/rates.db") as store:
        yield store


class Reporting:
    """A report, and what the process owns."""

    def __init__(self, store: Store, *rows: OwnedLimit) -> None:
        self.rows = rows
        self.store = store
        self.report = DedicatedReport(lambda: store, "owner-a", lambda: self.rows)

    def step(self) -> list[str]:
        """Report once; return the pools that the store shows."""
        self.report.step(self.store)
        return [pool.pool for record in read_usage(self.store) for pool in record.pools]


def test_a_report_lasts_as_long_as_the_process_owns_limits(store: Store) -> None:
    one = Reporting(store)
    assert one.step() == []
    one.rows = (owned(),)
    assert one.step() == one.step() == ["pool-x"]
    (record,) = read_usage(store)
    (pool,) = record.pools
    assert (record.id, pool.peak, pool.free, pool.held) == ("owner-a", 0.6, 25, 15)
    one.rows = ()
    assert one.step() == []
    assert read_usage(store) == []
    one.rows = (owned(),)
    assert one.step() == ["pool-x"]


def test_a_report_whose_lease_has_ended_is_written_again(store: Store) -> None:
    one = Reporting(store, owned())
    one.step()
    assert one.report._lease is not None
    one.report._lease.revoke()
    assert read_usage(store) == []
    assert one.step() == ["pool-x"]


def test_a_dedicated_owner_is_none_of_the_agents_that_report(store: Store) -> None:
    Reporting(store, owned()).step()
    assert totals(read_usage(store)).reporting == 0
    assert read_agents(store) == []


def test_a_report_of_very_many_limits_is_bounded(store: Store) -> None:
    rows = [owned(pool=f"pool-{number:05}" * 20, fullest=number / 2_000) for number in range(2_000)]
    pools = Reporting(store, *rows).step()
    assert 100 < len(pools) <= 1_000
    assert pools[0] == "pool-01999" * 20, "the fullest come first"
    assert len(read_usage(store)[0].encode()) <= 64 * 1024
