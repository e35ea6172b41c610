"""Processes that follow etcd obey one limit: they reach each other over mutual TLS."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
import trustme

from agent.cluster_fleet import RATE, UNLESS_STALLED, Fleet, excess, limits
from etcd_server import EtcdCluster, free_port, wait_for
from ratectl import Agent
from ratectl.errors import UsageError
from ratectl.health import examine
from ratectl.health.cluster import limits_of
from ratectl.history.generations import read_live
from ratectl.stores import open_store
from soak import SOAK
from support import publish_policies

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from etcd_server import EtcdServer

pytestmark = [UNLESS_STALLED, pytest.mark.etcd, pytest.mark.xdist_group("cluster processes")]


PROGRAM = [sys.executable, "-c", "from ratectl_cli.app import main; main()", "cluster", "run"]


@pytest.fixture
def store(etcd_server: EtcdServer, request: pytest.FixtureRequest) -> str:
    return etcd_server.store_url(f"machines-{abs(hash(request.node.name)) % 10**8}")


@pytest.fixture
def fleet(tmp_path: Path, store: str) -> Iterator[Fleet]:
    fleet = with_certificates(Fleet(tmp_path, store))
    yield fleet
    fleet.end()


def with_certificates(fleet: Fleet) -> Fleet:
    """Give three workers a certificate each."""
    folder = fleet.folder
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    for number in range(3):
        issued = authority.issue_cert(f"machine-{number}")
        issued.cert_chain_pems[0].write_to_path(str(folder / f"cert-{number}.pem"))
        issued.private_key_pem.write_to_path(str(folder / f"key-{number}.pem"))
        fleet.variables.append(
            {
                "RATECTL_CLUSTER_LISTEN": f"127.0.0.1:{free_port()}",
                "RATECTL_CLUSTER_CA": str(folder / "ca.pem"),
                "RATECTL_CLUSTER_CERT": str(folder / f"cert-{number}.pem"),
                "RATECTL_CLUSTER_KEY": str(folder / f"key-{number}.pem"),
            }
        )
    return fleet


def test_machines_obey_one_limit_and_survive_the_death_of_the_owner(fleet: Fleet) -> None:
    fleet.start(3, 8)
    fleet.go()
    time.sleep(2.5)
    admitted = fleet.wait(*fleet.kill_owner())
    assert excess(admitted) == 0
    fleet.admits(admitted, 6, 8, 0.4 * RATE * 2)


def test_a_dedicated_owner_owns_and_hands_over(fleet: Fleet) -> None:
    words = [*PROGRAM, "--store", fleet.store, "--id", "owner-a"]
    env = {**os.environ, **fleet.variables[2]}
    process = subprocess.Popen(words, env=env, stderr=subprocess.PIPE, text=True)
    try:
        fleet.start(2, 6)
        fleet.go()
        time.sleep(3)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 0
    assert re.search(r"owner-a\.\w+@machine-2 owns shard 0 of the limits across the cluster", log)
    assert re.search(r"worker-\d\.\w+@machine-\d owns shard 0 of the limits across the cl", log)
    admitted = fleet.wait()
    assert excess(admitted) == 0
    fleet.admits(admitted, 2, 6, 0.4 * RATE * 4)


def test_a_store_of_three_servers_loses_each_of_them_in_turn(tmp_path: Path) -> None:
    """Then the owner is killed: the store names another one."""
    cluster = EtcdCluster.start(3)
    fleet = with_certificates(Fleet(tmp_path, cluster.store_url("machines")))
    try:
        fleet.start(3, 13)
        fleet.go()
        time.sleep(2)
        for member in cluster.members:
            member.kill()
            time.sleep(1)
            member.restart()
        admitted = fleet.wait(*fleet.kill_owner())
    finally:
        fleet.end()
        cluster.stop()
    assert excess(admitted) == 0
    fleet.admits(admitted, 1, 5, 0.6 * RATE * 4)
    fleet.admits(admitted, 11, 13, 0.4 * RATE * 2)


OUTAGE = float(os.environ.get("RATECTL_OUTAGE", "600"))
"""Seconds."""


@pytest.mark.skipif(not SOAK, reason="it takes more than ten minutes")
def test_a_store_that_is_gone_for_ten_minutes(fleet: Fleet, etcd_server: EtcdServer) -> None:
    """Members go on with their shares, and share them again when the store is back."""
    fleet.start(3, OUTAGE + 40)
    fleet.go()
    time.sleep(5)
    before = _members(fleet)
    etcd_server.freeze()
    try:
        time.sleep(OUTAGE)
    finally:
        etcd_server.thaw()
    time.sleep(20)
    assert _members(fleet) == before  # nobody had to join again
    admitted = fleet.wait()
    assert excess(admitted) == 0
    fleet.admits(admitted, 1, 25, 0.9 * RATE * 24)  # nothing has changed yet
    fleet.admits(admitted, 40, OUTAGE, 0.9 * RATE * (OUTAGE - 40))  # even requests
    fleet.admits(admitted, OUTAGE + 20, OUTAGE + 40, 0.9 * RATE * 20)


def _members(fleet: Fleet) -> set[str]:
    with open_store(fleet.store) as store:
        return {entry.key for entry in store.list("members/").items}


def test_doctor_names_members_whose_addresses_lead_nowhere(fleet: Fleet) -> None:
    """Such members replaced each other as owner again and again, and no command showed it."""
    for variables in fleet.variables:
        variables["RATECTL_CLUSTER_ADDRESS"] = "127.0.0.1:1"
    fleet.start(2, 0.1)

    def findings() -> str:
        checks = examine(fleet.store, datetime.now(UTC))
        return "\n".join(check.message for check in checks if check.name == "cluster")

    for number in range(2):
        member = rf"member worker-{number}\..*@machine-{number} reports: .*"
        text = rf"{member}: the owner worker-{1 - number}\..* at 127\.0\.0\.1:1 does not answer"
        wait_for(lambda text=text: re.search(text, findings()), text, 20)
    assert "Connection refused" in findings()
    with open_store(fleet.store) as store:
        assert [limit.not_shared for limit in limits_of(store, read_live(store), 0)] == [None]


def test_without_an_address_limits_count_in_the_process_alone(store: str, tmp_path: Path) -> None:
    with open_store(store) as opened:
        publish_policies(opened, limits(1, 5))
    with Agent(store, state_dir=tmp_path, ready_timeout=10) as agent:
        problem = wait_for(lambda: agent.status.problems.get("cluster"), "the problem", 10)
        assert problem.startswith(
            "limits across the cluster count in this process alone: set RATECTL_"
        )
        assert [agent.check("/").allowed for _ in range(6)].count(True) == 5


def test_a_wrong_variable_is_an_error(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RATECTL_CLUSTER_LISTEN", "10.0.0.5")
    with pytest.raises(UsageError, match=r"RATECTL_CLUSTER_LISTEN: .10\.0\.0\.5. is no address"):
        Agent(store, state_dir=tmp_path)
