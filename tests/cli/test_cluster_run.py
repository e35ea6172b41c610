"""``ratectl cluster run``: what it needs, and that it ends as it should."""

from __future__ import annotations

import json
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest
from cli_support import PROGRAM, Cli
from test_exit_codes import closed_port

from etcd_server import wait_for
from ratectl.agent.dedicated import DedicatedOwner
from ratectl.cluster.entries import read_roster
from ratectl.cluster.sharding import SHARD_NAMES
from ratectl.errors import UsageError
from ratectl.stores import open_store
from support import hint_of, publish_policies, simple

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Golden


def test_help(cli: Cli, golden: Golden) -> None:
    golden("cluster-run-help", cli("cluster", "run", "--help").out)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_is_ready_then_owns_and_leaves(tmp_path: Path, number: int) -> None:
    url = f"sqlite:///{tmp_path}/rates.db"
    with open_store(url) as store:
        publish_policies(store, simple())
    process = subprocess.Popen(
        [*PROGRAM, "cluster", "run", "--store", url, "-o", "json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        ready = process.stderr.readline()
        assert "ready: member owner-" in ready
        assert f"of the cluster of {url}" in ready
        with open_store(url) as store:
            hint = wait_for(lambda: hint_of(store, SHARD_NAMES[0]).owner, "an owner")
            (entry,) = read_roster(store).entries.values()
            assert (entry.member, entry.is_dedicated, entry.share) == (hint.member, True, 0)
            process.send_signal(number)
            out, log = process.communicate(timeout=20)
            assert read_roster(store).is_empty
    finally:
        process.kill()
        process.communicate()
    assert (process.returncode, json.loads(out)["member"]) == (0, entry.member)
    assert f"{entry.member} owns shard 1 of the limits across the cluster" in log
    assert log.splitlines()[-1].endswith("stopped")
    assert "Traceback" not in log


def test_it_joins_after_the_first_publication(tmp_path: Path) -> None:
    """The store has no identity before, by which members know that they follow the same one."""
    url = f"sqlite:///{tmp_path}/rates.db"
    words = [*PROGRAM, "cluster", "run", "--store", url]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        assert f"nothing is published in {url} yet: it joins after" in process.stderr.readline()
        with open_store(url) as store:
            assert read_roster(store).is_empty
            publish_policies(store, simple())
            assert "ready: member owner-" in process.stderr.readline()
            assert read_roster(store).sharing == 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()


def test_it_ends_before_the_first_publication(tmp_path: Path) -> None:
    words = [*PROGRAM, "cluster", "run", "--store", f"sqlite:///{tmp_path}/rates.db"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({}, "set RATECTL_CLUSTER_LISTEN to an address such as 10.0.0.5:7946, and cert"),
        ({"LISTEN": "10.0.0.5"}, "RATECTL_CLUSTER_LISTEN: '10.0.0.5' is no address"),
        (
            {"LISTEN": "10.0.0.5:7946"},
            "RATECTL_CLUSTER_LISTEN needs certificates hint: set RATECTL_CLUSTER_CA",
        ),
        (
            {"LISTEN": "10.0.0.5:7946", "CA": "nowhere", "CERT": "nowhere", "KEY": "nowhere"},
            "the certificate nowhere with the key nowhere of the cluster cannot be used: No such",
        ),
    ],
)
def test_etcd_needs_an_address_and_certificates(
    cli: Cli,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    message: str,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"RATECTL_CLUSTER_{name}", value)
    run = cli("cluster", "run", "--store", f"etcd://127.0.0.1:{closed_port()}/test")
    assert (run.code, run.out) == (64, "")
    assert message in " ".join(run.err.split())


def test_a_store_that_cannot_be_used_is_an_error(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("not a database, by far" * 100)
    run = cli("cluster", "run", "--store", f"sqlite:///{tmp_path}/text.db")
    assert (run.code, run.out) == (69, "")
    assert "text.db" in run.err
    assert "ready" not in run.err


def test_a_store_of_one_process_is_an_error(cli: Cli) -> None:
    assert cli("cluster", "run", "--store", "memory://one").code == 64
    with pytest.raises(UsageError, match="no other process can use memory://one: name a store"):
        DedicatedOwner("memory://one", "owner")


def test_help_leaves_out_the_option_that_it_refuses(cli: Cli) -> None:
    assert "--timeout" not in cli("cluster", "run", "--help").out
    assert "it takes no --timeout" in cli("cluster", "run", "--timeout", "9").err
