"""The roles of docs/operations.md, word for word, on a real etcd: what each may do."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trustme

import ratectl
from etcd_server import EtcdServer, wait_for
from ratectl.agent.dedicated import DedicatedOwner
from ratectl.cluster.entries import read_roster
from ratectl.errors import StoreUnauthenticated
from ratectl.fleet.usage import read_agents
from ratectl.signing.continuation import ensure_environment
from ratectl.stores import open_store
from support import publish_policies, simple

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.etcd, pytest.mark.servers]

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
PASSWORD = "hunter2"


def grant(server: EtcdServer, line: str) -> None:
    """Do what a line of the page does: ``role add NAME``, or ``role grant-permission``."""
    command, role, *rest = line.split()[2:]
    if command == "add":
        server.call("/v3/auth/role/add", {"name": role})
        server.call("/v3/auth/user/add", {"name": role, "password": PASSWORD})
        server.call("/v3/auth/user/grant", {"user": role, "role": role})
        return
    kind, key, prefix = rest
    assert (command, prefix) == ("grant-permission", "--prefix=true")
    end = key[:-1] + chr(ord(key[-1]) + 1)
    permission = {"permType": kind.upper(), "key": encoded(key), "range_end": encoded(end)}
    server.call("/v3/auth/role/grant", {"name": role, "perm": permission})


def encoded(key: str) -> str:
    return base64.b64encode(key.encode()).decode()


@pytest.fixture(scope="module")
def server() -> Iterator[EtcdServer]:
    """An etcd with the page's roles, and a user of the same name for each."""
    (block,) = re.findall(r"```console roles\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    server = EtcdServer.start()
    for line in block.splitlines():
        grant(server, line.removeprefix("$ ") if line.startswith("$ etcdctl") else line)
    server.enable_auth()
    yield server
    server.stop()


@pytest.fixture
def url(server: EtcdServer, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("RATECTL_ETCD_PASSWORD", PASSWORD)
    return server.store_url("production")


def become(monkeypatch: pytest.MonkeyPatch, role: str) -> None:
    monkeypatch.setenv("RATECTL_ETCD_USER", f"ratectl-{role}")


@pytest.fixture
def certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address for peers, and a certificate, in the environment."""
    authority = trustme.CA()
    issued = authority.issue_cert("owner")
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    issued.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "owner.pem"))
    monkeypatch.setenv("RATECTL_CLUSTER_LISTEN", "127.0.0.1:0")
    monkeypatch.setenv("RATECTL_CLUSTER_CA", str(tmp_path / "ca.pem"))
    for name in ("CERT", "KEY"):
        monkeypatch.setenv(f"RATECTL_CLUSTER_{name}", str(tmp_path / "owner.pem"))


@pytest.mark.usefixtures("certificates")
def test_a_dedicated_owner_needs_the_role_of_an_agent(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    become(monkeypatch, "publisher")
    with open_store(url) as store:
        ensure_environment(store)
    become(monkeypatch, "reader")
    with DedicatedOwner(url, "owner") as owner, pytest.raises(StoreUnauthenticated):
        owner.start()
    become(monkeypatch, "agent")
    with DedicatedOwner(url, "owner") as owner, open_store(url) as store:
        owner.start()
        member = owner.member
        assert member is not None
        assert member.endswith("@owner")
        wait_for(lambda: store.get("owners/0"), "an owner")
        assert list(read_roster(store).entries) == [member]
    with open_store(url) as store:
        assert read_roster(store).is_empty
        store.delete("owners/0")


def test_each_role_may_do_what_the_page_says(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for role in ("reader", "agent"):
        become(monkeypatch, role)
        with open_store(url) as store, pytest.raises(StoreUnauthenticated):
            publish_policies(store, simple())
        for key in ("head/panic", "head/controller", "environment", "rollouts/1"):
            with open_store(url) as store, pytest.raises(StoreUnauthenticated):
                store.put(key, b"")

    become(monkeypatch, "publisher")
    with open_store(url) as store:
        publish_policies(store, simple())

    become(monkeypatch, "agent")
    with ratectl.Agent(url, id="reports") as agent:
        wait_for(lambda: agent.status.generation == 1)
        become(monkeypatch, "reader")
        with ratectl.Agent(url, id="silent") as silent, open_store(url) as store:
            wait_for(lambda: silent.status.generation == 1)
            wait_for(lambda: "report" in silent.status.problems)
            wait_for(lambda: [record.id for record in read_agents(store)] == ["reports"])
            assert "report" not in agent.status.problems
