"""The cluster of an environment: what is read of members, and what is wrong with them."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from fleet.members import write_roster
from fleet.reports import report_agent
from ratectl.health import examine
from ratectl.health.cluster import read_cluster
from ratectl.health.cluster_limits import cluster_limits
from ratectl.policy.read import load_valid
from ratectl.records import ROSTER, owner_key
from ratectl.records.members import member_key
from ratectl.stores import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratectl.health.cluster import Cluster
    from ratectl.stores.base import Store

A, B = "edge-1.0000000a", "edge-2.0000000b"
HALF = 500_000


@pytest.fixture
def url() -> str:
    return f"memory://test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with open_store(url) as opened:
        yield opened


def read(store: Store) -> Cluster:
    unreadable: list[str] = []
    cluster = read_cluster(store, unreadable.append)
    assert unreadable == []
    return cluster


def findings(url: str) -> list[tuple[str, str]]:
    checks = examine(url, datetime.now(UTC))
    return [(check.status, check.message) for check in checks if check.name == "cluster"]


# Members ------------------------------------------------------------------------------------------


def test_store_without_members(store: Store, url: str) -> None:
    cluster = read(store)
    assert (cluster.members, cluster.owners, cluster.problems) == ((), (), [])
    assert findings(url) == []


def test_members_that_report(store: Store, url: str) -> None:
    write_roster(url, {A: HALF, B: HALF}, owner=B)
    report_agent(url, id="edge-1")
    report_agent(url, id="edge-2")
    cluster = read(store)
    assert [(member.id, member.state, member.is_owner) for member in cluster.members] == [
        (A, "reporting", False), (B, "reporting", True)
    ]  # fmt: skip
    assert (cluster.members[0].agent, cluster.members[0].host) == ("edge-1", "host-a")
    assert cluster.members[0].reported is not None
    assert (cluster.shares, cluster.unowned, cluster.problems) == (2 * HALF, 0, [])
    assert findings(url) == [("ok", f"2 members, owner {B}")]


def test_member_of_an_agent_that_does_not_report_is_silent(store: Store, url: str) -> None:
    write_roster(url, {A: HALF, B: HALF}, owner=B)
    report_agent(url, id="edge-2")
    cluster = read(store)
    assert [member.state for member in cluster.members] == ["silent", "reporting"]
    (problem,) = cluster.problems
    assert problem.startswith(f"no agent reports for {A}: ")
    assert findings(url) == [("warning", problem)]


def test_silent_members_are_one_problem(store: Store, url: str) -> None:
    write_roster(url, {A: HALF, B: HALF}, owner=B)
    (problem,) = read(store).problems
    assert problem.startswith(f"no agent reports for {A}, {B}: ")


def test_several_members_of_one_agent_are_unclear(store: Store, url: str) -> None:
    """Only one of them can run, and a report does not say which."""
    write_roster(url, {A: HALF, "edge-1.0000000c": HALF}, owner=A)
    report_agent(url, id="edge-1")
    found = read(store)
    assert [member.state for member in found.members] == ["unclear", "unclear"]
    (problem,) = found.problems
    assert problem.startswith(f"of {A}, edge-1.0000000c, one of each name runs at most: up to 100%")


def test_long_ids_of_agents_are_found_by_their_first_part(store: Store, url: str) -> None:
    agent = "a" * 64
    write_roster(url, {f"{agent[:60]}.0000000a": 2 * HALF}, owner=f"{agent[:60]}.0000000a")
    report_agent(url, id=agent)
    (member,) = read(store).members
    assert (member.state, member.agent) == ("reporting", agent)


def test_damaged_entry_is_a_member_without_a_share(store: Store, url: str) -> None:
    write_roster(url, {A: HALF}, owner=A)
    report_agent(url, id="edge-1")
    store.put(member_key(B), b"nonsense")
    cluster = read(store)
    assert [(member.state, member.share) for member in cluster.members] == [
        ("reporting", HALF), ("damaged", None)
    ]  # fmt: skip
    (problem,) = cluster.problems
    assert f"members/{B} is left out" in problem


def test_members_whose_names_have_dots(store: Store, url: str) -> None:
    """Over TLS, a member has the name of its certificate as well, and half as much of the id."""
    agent = "a" * 64
    member = f"{agent[:50]}.0000000a@node-1.example.com"
    write_roster(url, {member: 2 * HALF}, owner=member)
    report_agent(url, id=agent)
    (found,) = read(store).members
    assert (found.state, found.agent) == ("reporting", agent)


# Problems -----------------------------------------------------------------------------------------


def test_members_without_an_owner(store: Store, url: str) -> None:
    write_roster(url, {A: 2 * HALF})
    report_agent(url, id="edge-1")
    (problem,) = read(store).problems
    assert problem.startswith("no owner is named")
    assert findings(url) == [("warning", problem)]


def test_owner_that_is_no_member(store: Store, url: str) -> None:
    write_roster(url, {A: 2 * HALF}, owner=B)
    report_agent(url, id="edge-1")
    (problem,) = read(store).problems
    assert problem.startswith(f"the owner that is named, {B}, is no member any more")


def test_damaged_hint_names_no_owner(store: Store, url: str) -> None:
    write_roster(url, {A: 2 * HALF})
    report_agent(url, id="edge-1")
    store.put(owner_key("0"), b"nonsense")
    first, second = read(store).problems
    assert first.startswith("no owner is named")
    assert second.startswith("owners/0 is left out")


@pytest.mark.parametrize(("share", "problems"), [(HALF, 1), (2 * HALF, 0), (2 * HALF + 1, 1)])
def test_sum_of_shares(store: Store, url: str, share: int, problems: int) -> None:
    unowned = max(0, share - 2 * HALF)
    write_roster(url, {A: share - unowned}, owner=A, unowned=unowned)
    report_agent(url, id="edge-1")
    found = read(store).problems
    assert len(found) == problems
    assert all("the shares of all members are" in problem for problem in found)


UNREACHED = "the owner edge-2.0000000b at 10.0.0.5:7946 does not answer: Connection refused"


def test_members_that_cannot_reach_the_owner_are_named(store: Store, url: str) -> None:
    write_roster(url, {A: HALF, B: HALF}, owner=B)
    report_agent(url, id="edge-1", cluster=UNREACHED)
    report_agent(url, id="edge-2")
    cluster = read(store)
    assert [member.problem for member in cluster.members] == [UNREACHED, None]
    text = f"member {A} reports: {UNREACHED}"
    assert cluster.problems == [text]
    assert findings(url) == [("warning", text)]
    report_agent(url, id="edge-2", cluster=UNREACHED)
    assert read(store).problems == [f"member {A}, member {B} report: {UNREACHED}"]


def test_an_agent_without_a_member_that_counts_alone_is_named(store: Store, url: str) -> None:
    """The roster does not have such an agent, so no check named it."""
    alone = "limits across the cluster count in this process alone: set RATECTL_CLUSTER_LISTEN"
    report_agent(url, id="edge-1", cluster=alone)
    text = f"agent edge-1 reports: {alone}"
    assert findings(url) == [("warning", text)]
    write_roster(url, {B: 2 * HALF}, owner=B)
    report_agent(url, id="edge-2")
    assert findings(url) == [("warning", text)]


def test_damaged_roster_record_is_a_problem(store: Store, url: str) -> None:
    write_roster(url, {A: 2 * HALF}, owner=A)
    report_agent(url, id="edge-1")
    store.put(ROSTER, b"nonsense")
    cluster = read(store)
    assert cluster.unowned is None
    (problem,) = cluster.problems
    assert problem.startswith(f"{ROSTER} is left out")


# Limits -------------------------------------------------------------------------------------------

POLICIES = """\
apiVersion: ratectl/v1
scope: /shop
limits:
  plain: {rate: 5/s, burst: 5}
  fleet: {rate: 5/s, burst: 5, across: cluster}
  each: {rate: 5/s, per: [tenant, route], across: cluster}
  counted: {algorithm: sliding-window, rate: 5/min, per: [tenant, route], across: cluster}
  window: {algorithm: sliding-window, rate: 5/min, across: cluster}
  idle: {rate: 5/s, burst: 5, across: cluster, mode: "off"}
  open: {rate: unlimited, across: cluster}
budgets:
  total: {rate: 5/s, burst: 5, across: cluster}
---
apiVersion: ratectl/v1
scope: /shop/cart
"""


def reasons(scope: str) -> dict[str, str | None]:
    tree = load_valid(["-"], stdin=POLICIES.encode()).tree
    return {
        limit.name: limit.not_shared for limit in cluster_limits(tree, 0) if limit.scope == scope
    }


def test_limits_across_the_cluster_are_shared_or_have_a_reason() -> None:
    found = reasons("/shop")
    assert list(found) == ["counted", "each", "fleet", "idle", "open", "total", "window"]
    shared = ("counted", "each", "fleet", "total", "window")
    assert [found[name] for name in shared] == [None] * 5
    assert (found["idle"], found["open"]) == ("it is off", "its rate is unlimited")


def test_limits_of_scopes_below_have_buckets_of_their_own_and_budgets_have_not() -> None:
    assert list(reasons("/shop/cart")) == ["counted", "each", "fleet", "idle", "open", "window"]
