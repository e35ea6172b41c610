"""``ratectl cluster``: status, forget and size."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from cli_support import Cli, report_agent
from terminal_support import Terminal

import ratectl
from etcd_server import wait_for
from fleet.members import write_roster
from ratectl.agent.cluster import ENTRY_LASTS
from ratectl.cluster.entries import read_roster
from ratectl.cluster.protocol.timing import SECOND
from ratectl.records import MemberRecord
from ratectl.records.members import member_key
from ratectl.stores import open_store
from ratectl_cli.prompts import cluster as prompts

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Golden

A, B, C = "edge-1.0000000a", "edge-2.0000000b", "edge-3.0000000c"
OWNERS = ["owner-x.0000000d", "owner-y.0000000e"]
SHARED = """\
apiVersion: ratectl/v1
scope: /fleet
limits:
  all: {rate: 5000/s, burst: 10000, across: cluster}
  each: {algorithm: sliding-window, rate: 7/min, per: tenant, across: cluster}
  paused: {rate: 5/min, across: cluster, mode: "off"}
budgets:
  total: {algorithm: sliding-window, rate: 6/min, across: cluster}
"""


@pytest.fixture
def shared(cli: Cli, tree: Path, store_url: str, still: None) -> str:
    """A store whose live generation has limits across the cluster."""
    (tree / "fleet.yaml").write_text(SHARED)
    assert cli("apply", "policies", "--yes").code == 0
    return store_url


@pytest.fixture
def members(shared: str) -> str:
    """Three members: the second is the owner, and the third is silent."""
    write_roster(shared, {A: 400_000, B: 350_000, C: 250_000}, owner=B)
    report_agent(shared, id="edge-1")
    report_agent(shared, id="edge-2")
    return shared


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """`forget` watches the entry for a moment only."""
    monkeypatch.setattr(prompts, "_WATCHED", 0.01)


def known(url: str) -> list[str]:
    with open_store(url) as store:
        return sorted(read_roster(store).entries)


# Status -------------------------------------------------------------------------------------------


def test_status(cli: Cli, golden: Golden, members: str) -> None:
    run = cli("cluster")
    assert (run.code, run.err) == (1, "")
    golden("cluster-status", run.out)
    with open_store(members) as store:
        store.put(member_key(C), b"nonsense")
        store.delete("owners/0")
    golden("cluster-damaged", cli("cluster", "status").out)


def test_status_for_programs(cli: Cli, members: str) -> None:
    document = cli("cluster", "status", "-o", "json").document
    assert document["kind"] == "Cluster"
    assert (document["degraded"], document["shares"], document["unowned"]) == (True, 1_000_000, 0)
    assert [owner["member"] for owner in document["owners"]] == [B, B]
    assert [(each["id"], each["state"], each["owner"]) for each in document["members"]] == [
        (A, "reporting", False), (B, "reporting", True), (C, "silent", False)
    ]  # fmt: skip
    limits = {limit["limit"]: limit["shared"] for limit in document["limits"]}
    assert limits == {"all": True, "each": True, "paused": False, "total": True}


def test_healthy_cluster_exits_with_zero(cli: Cli, members: str) -> None:
    report_agent(members, id="edge-3")
    run = cli("cluster")
    assert (run.code, run.err) == (0, "")
    assert "problem" not in run.out


def test_dedicated_owners_are_shown_and_are_no_problem(
    cli: Cli, golden: Golden, members: str
) -> None:
    """Dedicated owners write no reports, and do not count as processes that share the limits."""
    report_agent(members, id="edge-3")
    write_roster(members, {A: 400_000, B: 350_000, C: 250_000}, owner=OWNERS[0], dedicated=OWNERS)
    run = cli("cluster", "status")
    assert (run.code, run.err) == (0, "")
    golden("cluster-dedicated", run.out)
    document = cli("cluster", "status", "-o", "json").document
    assert [each["id"] for each in document["members"] if each["dedicated"]] == OWNERS
    assert [each["share"] for each in document["members"]] == [400_000, 350_000, 250_000, 0, 0]
    assert document["degraded"] is False
    assert f"ok       cluster      3 members, owner {OWNERS[0]}" in cli("doctor").out
    assert "by 3 processes now" in cli("explain", "/fleet", "--live").out
    assert "owner-" not in cli("agents").out
    run = cli("cluster", "forget", OWNERS[1], "--yes", "--force")
    assert run.code == 0
    assert "share:  none" in run.out


def test_dedicated_owner_without_other_members(cli: Cli, shared: str) -> None:
    write_roster(shared, {}, owner=OWNERS[0], dedicated=OWNERS[:1])
    run = cli("cluster")
    assert run.code == 0
    assert "0 members, 0% of all limits; nobody owns 100%; 1 dedicated owner" in run.out


def test_share_that_nobody_owns_is_shown(cli: Cli, members: str) -> None:
    report_agent(members, id="edge-3")
    with open_store(members) as store:
        store.put(member_key(C), MemberRecord(share=0, renewed=2).encode())
    write_roster(members, {A: 400_000, B: 350_000, C: 0}, owner=B)
    run = cli("cluster")
    assert run.code == 0, "members that run take it over at once"
    assert "3 members, 75% of all limits; nobody owns 25%" in run.out


def test_no_member(cli: Cli, shared: str) -> None:
    run = cli("cluster")
    assert run.code == 0
    assert "members:     none" in run.out
    assert "no process has joined: start one that uses this store, ratectl agent run" in run.err


def test_no_member_and_no_limit_to_share(cli: Cli, published: str) -> None:
    run = cli("cluster")
    assert (run.code, run.out) == (0, "members:  none\nshared:   no limit\n")
    assert "write `across: cluster` in a token bucket or a window" in run.err


def test_nothing_published(cli: Cli, store_url: str) -> None:
    run = cli("cluster")
    assert run.code == 0
    assert "nothing is published" in run.err


def test_unreadable_generation_does_not_hide_members(cli: Cli, members: str) -> None:
    with open_store(members) as store:
        for item in (*store.list("history/").items, *store.list("blobs/").items):
            store.put(item.key, b"nonsense")
    run = cli("cluster")
    assert run.code == 1
    assert B in run.out
    assert "shared:   unknown: the live generation cannot be read" in run.out
    assert "warning: generation 1 cannot be read" in run.err
    assert cli("cluster", "-o", "json").document["limits"] is None


# Forget -------------------------------------------------------------------------------------------


def test_forget(cli: Cli, golden: Golden, members: str, quick: None) -> None:
    run = cli("cluster", "forget", C, "--yes")
    assert run.code == 0
    assert "watching the entry" in run.err
    golden("cluster-forget", run.out)
    assert known(members) == [A, B]
    assert "75% of all limits; nobody owns 25%" in cli("cluster").out
    golden("cluster-forget-forced", cli("cluster", "forget", B, "--yes", "--force").out)
    document = cli("cluster", "forget", A, "--yes", "-o", "json").document
    assert (document["kind"], document["member"], document["share"]) == (
        "MemberRemoved",
        A,
        400_000,
    )
    assert (document["forced"], document["others"], document["store"]) == (False, [], members)


def test_forget_removes_a_damaged_entry(cli: Cli, members: str, quick: None) -> None:
    with open_store(members) as store:
        store.put(member_key(C), b"nonsense")
    run = cli("cluster", "forget", C, "--yes")
    assert run.code == 0
    assert "25%" in run.out, "what no other entry has"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("edge-3", f"did you mean {C}?"),
        ("edge-3.0000000d", f"did you mean {C}?"),
        ("qqqq", "`ratectl cluster` lists the members"),
        ("", "`ratectl cluster` lists the members"),
    ],
)
def test_forget_without_such_a_member(cli: Cli, members: str, name: str, hint: str) -> None:
    run = cli("cluster", "forget", name, "--yes", "--force")
    assert (run.code, run.out) == (64, "")
    assert f"there is no member {name!r}\n  hint: {hint}\n" in run.err


def test_forget_needs_an_id(cli: Cli, members: str) -> None:
    assert cli("cluster", "forget").code == 64


def test_forget_without_anybody_to_ask(cli: Cli, members: str) -> None:
    run = cli("cluster", "forget", C)
    assert run.code == 64
    assert "add --yes to go on without the question" in run.err
    assert f"Remove member {C} from {members}?" in run.err
    assert known(members) == [A, B, C]


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 1), ("", 1)])
def test_question_on_a_terminal(members: str, answer: str, code: int) -> None:
    terminal = Terminal("cluster", "forget", C, "--force")
    terminal.read_until("Remove member")
    terminal.type(f"{answer}\n")
    assert terminal.finish() == code
    assert (C in known(members)) == bool(code)


def test_member_that_renews_its_entry_stays(
    cli: Cli, members: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def renewed(_: float) -> None:
        with open_store(members) as store:
            store.put(member_key(C), MemberRecord(share=250_000, renewed=2).encode())

    monkeypatch.setattr(prompts.time, "sleep", renewed)
    run = cli("cluster", "forget", C, "--yes")
    assert run.code == 77
    assert "has renewed its entry just now, so it runs: stop it first" in run.err
    assert known(members) == [A, B, C]


def test_member_that_leaves_meanwhile(
    cli: Cli, members: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def left(_: float) -> None:
        with open_store(members) as store:
            store.delete(member_key(C))

    monkeypatch.setattr(prompts.time, "sleep", left)
    run = cli("cluster", "forget", C, "--yes")
    assert run.code == 64
    assert f"member {C} has gone meanwhile" in run.err


def test_time_that_is_too_short_to_watch_changes_nothing(cli: Cli, members: str) -> None:
    run = cli("cluster", "forget", C, "--yes", "--timeout", "0.5")
    assert run.code == 124
    assert "may have" not in run.err
    assert known(members) == [A, B, C]


def test_protected_environment_needs_its_name(cli: Cli, members: str, quick: None) -> None:
    assert cli("env", "protect", "prod", "--confirm", "--store", members).code == 0
    run = cli("cluster", "forget", C, "--yes")
    assert run.code in (64, 77)
    assert "--confirm prod" in run.err
    assert cli("cluster", "forget", C, "--yes", "--confirm", "other").code == 64
    assert known(members) == [A, B, C]
    assert cli("cluster", "forget", C, "--confirm", "prod").code == 0
    assert known(members) == [A, B]


def test_entry_is_watched_longer_than_a_member_takes_to_renew_it(cli: Cli) -> None:
    lasts = ENTRY_LASTS / SECOND
    assert lasts / 3 < prompts._WATCHED < lasts
    text = re.sub(r"\s+", " ", cli("cluster", "forget", "--help").out)
    assert f"not renewed for {lasts:.0f} seconds" in text
    assert f"watches it for {prompts._WATCHED:.0f} seconds" in text
    assert f"renews its entry every {lasts / 3:.0f} seconds" in text


# With real agents ---------------------------------------------------------------------------------


def test_agents_that_share_a_limit(cli: Cli, shared: str, tmp_path: Path) -> None:
    with (
        ratectl.Agent(shared, id="real-1", state_dir=tmp_path / "1", ready_timeout=10),
        ratectl.Agent(shared, id="real-2", state_dir=tmp_path / "2", ready_timeout=10),
    ):
        wait_for(
            lambda: (
                [member["agent"] for member in cli("cluster", "-o", "json").document["members"]]
                in (["real-1", "real-2"], ["real-2", "real-1"])
            ),
            "two members",
        )
        wait_for(lambda: cli("cluster").code == 0, "an owner and reports")
        # One of them may own both shards, or each of them one.
        healthy = re.compile("ok +cluster +2 members, owners? real-")
        wait_for(lambda: healthy.search(cli("doctor").out), "no problem is left")
    wait_for(lambda: "members:     none" in cli("cluster").out, "both have left")


def test_status_shows_what_members_report(cli: Cli, members: str) -> None:
    text = f"the owner {B} at 10.0.0.5:7946 does not answer: no connection: Connection refused"
    report_agent(members, id="edge-1", cluster=text)
    report_agent(members, id="edge-9", cluster="limits count in this process alone")
    run = cli("cluster", "status")
    assert run.code == 1
    shown = " ".join(run.out.split())
    assert f"problem: member {A} reports: {text}" in shown
    assert "problem: agent edge-9 reports: limits count in this process alone" in shown
    document = cli("cluster", "status", "-o", "json").document
    assert [member["problem"] for member in document["members"]] == [text, None, None]
    assert document["alone"] == [
        {"agent": "edge-9", "problem": "limits count in this process alone"}
    ]


# Bursts -------------------------------------------------------------------------------------------

TINY = """\
apiVersion: ratectl/v1
scope: /fleet
limits:
  all: {rate: 10/s, burst: 5, across: cluster}
"""
TOO_SMALL = (
    "all at /fleet is shared by the cluster, and its burst of 5 is too small: it has less than 2 "
    "tokens for each of 3 processes. Requests are refused although the limit has room: write "
    "burst: 6, or more, or consistency: optimistic"
)


def test_a_burst_that_is_too_small_for_the_members(cli: Cli, members: str, tree: Path) -> None:
    """`validate` cannot know: only the store knows how many processes share a limit."""
    (tree / "fleet.yaml").write_text(TINY)
    assert "too small" not in cli("validate", "policies").out
    for command in (("plan", "policies"), ("apply", "policies", "--yes")):
        run = cli(*command)
        assert TOO_SMALL in " ".join(run.err.split())
        assert run.code == 0
    checks = cli("doctor", "-o", "json").document["findings"]
    (check,) = [each for each in checks if "too small" in each["detail"]]
    assert (check["check"], check["verdict"], check["detail"]) == ("cluster", "warning", TOO_SMALL)
    (tree / "fleet.yaml").write_text(TINY.replace("burst: 5", "burst: 6"))
    with open_store(members) as store:
        store.put(member_key(OWNERS[0]), MemberRecord(share=0, renewed=1, dedicated=True).encode())
    assert "too small" not in cli("apply", "policies", "--yes").err
    assert "too small" not in cli("doctor").out


def test_a_burst_that_is_too_small_for_any_number_is_told_once(
    cli: Cli, members: str, tree: Path
) -> None:
    (tree / "fleet.yaml").write_text(TINY.replace("10/s", "1000/s"))
    assert "RC303" in cli("validate", "policies").out
    assert cli("plan", "policies").err.count("too small") == 1


# Explain ------------------------------------------------------------------------------------------


def test_explain_says_who_shares_a_limit_and_what_it_promises(
    cli: Cli, golden: Golden, members: str
) -> None:
    golden("explain-shared", cli("explain", "/fleet", "--live").out)
    document = cli("explain", "/fleet", "--live", "-o", "json").document
    limit, each = [each for each in document["limits"] if each["shared"]]
    (total,) = [each for each in document["budgets"] if each["shared"]]
    assert total["shared"]["bound"].endswith("at most 6/min, in any window of that length")
    assert (limit["name"], limit["shared"]["members"]) == ("all", 3)
    assert limit["shared"]["bound"].endswith("at most 10000 + 5000/s · w")
    assert "at most 7/min of each tenant, in any window" in each["shared"]["bound"]
    files = cli("explain", "/fleet", "--policies", "policies").out
    assert "  bound" in files
    assert "  shared" not in files
