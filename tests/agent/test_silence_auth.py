"""An agent whose etcd user loses its rights reports it (real etcd)."""

from __future__ import annotations

import base64
import time
import uuid
from typing import TYPE_CHECKING

import pytest

from agent.problems import RETRIES, Log, wait_for_problem, wait_until_well
from etcd_server import EtcdServer, wait_for
from ratectl.fleet.usage import read_agents
from ratectl.stores import open_store
from support import publish_policies, simple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import ratectl
    from ratectl.stores.base import Store

    Make = Callable[..., ratectl.Agent]

pytestmark = [pytest.mark.etcd, pytest.mark.faults]

ACME = {"tenant": "acme"}
PASSWORD = "hunter2"
REFUSED = "refuses access: etcdserver: permission denied (the user needs a role that may read and"
WRONG = "refuses user or password: etcdserver: authentication failed, invalid user ID or password"


@pytest.fixture(scope="module")
def server() -> Iterator[EtcdServer]:
    """An etcd with authentication enabled."""
    server = EtcdServer.start()
    server.enable_auth()
    yield server
    server.stop()


class User:
    """A user of one environment, whose rights ``root`` changes."""

    def __init__(self, server: EtcdServer) -> None:
        self._server = server
        self.name = f"u{uuid.uuid4().hex[:8]}"
        self.url = server.store_url(self.name)
        self._keys = f"/ratectl/{self.name}/"
        server.add_user(self.name, PASSWORD, self._keys, server.token())

    def _call(self, path: str, body: dict[str, object]) -> None:
        self._server.call(f"/v3/auth/{path}", body, self._server.token())

    def _range(self) -> dict[str, str]:
        end = self._keys[:-1] + chr(ord(self._keys[-1]) + 1)
        return {"key": _b64(self._keys), "range_end": _b64(end)}

    def grant(self, kind: str = "READWRITE") -> None:
        permission = {"permType": kind, **self._range()}
        self._call("role/grant", {"name": self.name, "perm": permission})

    def revoke(self) -> None:
        self._call("role/revoke", {"role": self.name, **self._range()})

    def only_read(self) -> None:
        self.grant("READ")  # replaces the earlier permission for these keys

    def leave_role(self) -> None:
        self._call("user/revoke", {"name": self.name, "role": self.name})

    def take_role(self) -> None:
        self._call("user/grant", {"user": self.name, "role": self.name})

    def delete(self) -> None:
        self._call("user/delete", {"name": self.name})

    def add(self) -> None:
        self._call("user/add", {"name": self.name, "password": PASSWORD})
        self.take_role()

    def change_password(self, password: str = "other") -> None:
        self._call("user/changepw", {"name": self.name, "password": password})

    def change_password_back(self) -> None:
        self.change_password(PASSWORD)


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


LOSSES = [
    (User.revoke, User.grant, REFUSED),
    (User.leave_role, User.take_role, REFUSED),
    (User.delete, User.add, WRONG),
    (User.change_password, User.change_password_back, WRONG),
]
"""Ways to revoke and restore a user's rights, with the problem in the meantime."""


def named(each: object) -> str:
    return getattr(each, "__name__", "")


@pytest.fixture
def user(server: EtcdServer, monkeypatch: pytest.MonkeyPatch) -> User:
    """A user whose environment has generation 1; the process uses this user's credentials."""
    user = User(server)
    monkeypatch.setenv("RATECTL_ETCD_USER", user.name)
    monkeypatch.setenv("RATECTL_ETCD_PASSWORD", PASSWORD)
    with open_store(user.url) as store:
        publish_policies(store, simple())
    return user


@pytest.fixture
def admin(server: EtcdServer, user: User, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """The store, opened as root."""
    with monkeypatch.context() as patch:
        patch.setenv("RATECTL_ETCD_USER", "root")
        patch.setenv("RATECTL_ETCD_PASSWORD", "root-secret")
        store = open_store(user.url)
    with store:
        yield store


@pytest.mark.parametrize(("lose", "regain", "said"), LOSSES, ids=named)
def test_a_user_without_rights_at_the_start_is_reported(
    user: User,
    make_agent: Make,
    log: Log,
    lose: Callable[[User], None],
    regain: Callable[[User], None],
    said: str,
) -> None:
    lose(user)
    agent = make_agent(user.url, ready_timeout=0.5)
    assert wait_for_problem(agent, said).endswith("on_error answers every request until then")
    problem = agent.status.problems["store"]
    assert (agent.status.connected, agent.generation) == (False, 0)
    assert agent.check("/shop", ACME).reason == "error"
    time.sleep(RETRIES)
    assert log.warnings == [problem]
    regain(user)
    assert agent.wait_ready(15)
    wait_until_well(agent)
    wait_for(lambda: log.warnings == [problem, f"resolved: {problem}"], "the end is logged")


@pytest.mark.parametrize(("lose", "regain", "said"), LOSSES, ids=named)
def test_a_user_whose_rights_are_revoked_while_it_watches_is_reported(
    user: User,
    make_agent: Make,
    admin: Store,
    log: Log,
    lose: Callable[[User], None],
    regain: Callable[[User], None],
    said: str,
) -> None:
    """etcd keeps an admitted watch open: the agent has to notice the revocation otherwise."""
    agent = make_agent(user.url)
    assert agent.generation == 1
    lose(user)
    problem = wait_for_problem(agent, said, 15)
    wait_for(lambda: not agent.status.connected, "the watch ends too")  # a report may fail first
    assert agent.check("/shop", ACME).reason in ("ok", "limited"), "the policies in force stay"
    for _ in range(8):
        time.sleep(RETRIES / 4)
        assert agent.status.error == problem, "it does not come and go"
    assert log.warnings == [problem]
    publish_policies(admin, simple("9/s"))
    time.sleep(0.5)
    assert agent.status.error == problem
    regain(user)
    assert agent.wait_for_generation(2, 15)
    wait_until_well(agent)
    wait_for(lambda: log.warnings[-1].startswith("resolved: "), "the end is logged")
    log.check_no_repeats()


@pytest.mark.parametrize("later", [False, True])
def test_read_only_user_follows_and_its_missing_reports_are_a_problem(
    user: User, make_agent: Make, admin: Store, log: Log, later: bool
) -> None:
    if not later:
        user.only_read()
    agent = make_agent(user.url)
    assert agent.generation == 1
    if later:
        user.only_read()
    problem = wait_for_problem(agent, "does not show this agent: it cannot report", 15)
    assert "permission denied" in problem
    assert agent.status.connected
    publish_policies(admin, simple("9/s"))
    assert agent.wait_for_generation(2, 10)
    time.sleep(RETRIES)
    assert log.warnings == [problem]
    user.grant()
    wait_until_well(agent, 15)
    wait_for(lambda: read_agents(admin), "it reports")
    wait_for(lambda: log.warnings[1:] == [f"resolved: {problem}"], "the end is logged")
