"""Kill switches in agents: from the store or a file, across restarts, for each algorithm."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from conformance.test_engine_waivers import KINDS
from engine.engines import ENGINES
from etcd_server import wait_for
from ratectl.agent import adoption
from ratectl.fleet.usage import read_agents
from ratectl.kill_switch.switches import (
    PANIC,
    Switch,
    Switches,
    change_switches,
    load_switches,
    save_switches,
    switch_file,
)
from ratectl.records import Obeyed
from support import policies, publish_policies, simple

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import ratectl
    from ratectl.engine.waivers import Waiver
    from ratectl.records import AgentRecord
    from ratectl.stores.base import Store

    Make = Callable[..., ratectl.Agent]

ACME = {"tenant": "acme", "tier": "gold"}
DEAD = "etcd://127.0.0.1:9/dead"
"""The discard port: nothing listens there."""
WITHIN = 1.0
"""Promised seconds. The benchmark measures the real time, as test machines are shared."""
ON_STORE = Obeyed(scope="/", mode="open", source="store")


def switch(scope: str = "/", mode: Waiver = "open") -> Switch:
    return Switch(scope=scope, mode=mode, reason="INC-1", author="me", time="2026-11-23T11:58:00Z")


def turn_on(store: Store, scope: str = "/", mode: Waiver = "open") -> Switches:
    return change_switches(store, lambda on: on.turned_on(switch(scope, mode))).after


def turn_off(store: Store, scope: str | None = None) -> Switches:
    return change_switches(store, lambda on: on.turned_off(scope)).after


def closed(store: Store, *scopes: str) -> None:
    """Publish policies that refuse everything, at ``/`` and at the given scopes."""
    none = {"limits": {"l": {"rate": "0/s"}}}
    publish_policies(store, policies(**({"/": none} | dict.fromkeys(scopes, none))))


def opens(agent: ratectl.Agent, scope: str = "/", seconds: float = 5.0) -> None:
    wait_for(lambda: agent.check(scope, ACME), f"{scope} is open", seconds)


def closes(agent: ratectl.Agent, scope: str = "/") -> None:
    wait_for(lambda: not agent.check(scope, ACME), f"{scope} is closed again", 5.0)


def record(store: Store) -> AgentRecord:
    (found,) = read_agents(store)
    return found


def local(tmp_path: Path, *switches: Switch) -> None:
    save_switches(switch_file(tmp_path / "state"), Switches(1, switches))


# -- from the store


def test_switch_opens_and_closes_and_is_reported(
    store: Store, store_url: str, make_agent: Make
) -> None:
    closed(store)
    agent = make_agent(store_url)
    assert not agent.check("/", ACME)
    gate = agent.gate("/", "tenant")
    on = turn_on(store)
    opens(agent)
    assert agent.check("/", ACME).reason == "ok"
    assert gate("acme")
    assert all(agent.check_many([("/", ACME), ("/a/b",)]))
    wait_for(lambda: record(store).panic == [ON_STORE], "the status shows the switch")
    assert record(store).panic_sequence == on.sequence
    off = turn_off(store)
    closes(agent)
    assert not gate("acme")
    wait_for(lambda: record(store).panic == [], "the status shows no switch")
    assert record(store).panic_sequence == off.sequence


def test_shadow_switch_counts_and_admits_requests(
    store: Store, store_url: str, make_agent: Make
) -> None:
    closed(store)
    agent = make_agent(store_url)
    turn_on(store, mode="shadow")
    opens(agent)
    assert agent.check("/", ACME).reason == "shadow"


def test_switch_affects_only_its_scope_and_below(
    store: Store, store_url: str, make_agent: Make
) -> None:
    closed(store, "/a")
    agent = make_agent(store_url)
    turn_on(store, "/a/b")
    opens(agent, "/a/b/c")
    assert [bool(agent.check(at, ACME)) for at in ("/", "/a", "/a/b")] == [False, False, True]
    turn_on(store, "/a")
    opens(agent, "/a")
    turn_off(store, "/a/b")
    wait_for(lambda: len(agent.status.panic) == 1, "one is left")
    assert [bool(agent.check(at, ACME)) for at in ("/", "/a", "/a/b")] == [False, True, True]


def test_switch_does_not_wait_for_a_generation_being_applied(
    store: Store, store_url: str, make_agent: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed(store)
    agent = make_agent(store_url)
    assert agent.generation == 1
    taking, go_on = threading.Event(), threading.Event()
    verified = adoption.verified

    def slowly(*args: Any) -> Any:
        taking.set()
        assert go_on.wait(20)
        return verified(*args)

    monkeypatch.setattr(adoption, "verified", slowly)
    publish_policies(store, simple("1/s"))
    assert taking.wait(10)
    turn_on(store)
    opens(agent)
    assert agent.generation == 1, "which is still being taken"
    go_on.set()
    assert agent.wait_for_generation(2, 10)


def test_switch_takes_less_than_a_second_with_ten_thousand_policies(
    store: Store, store_url: str, make_agent: Make, record_property: Callable[[str, object], None]
) -> None:
    scopes = ["/", *(f"/team-{number}" for number in range(10_000))]
    closed(store, *scopes)
    agent = make_agent(store_url, ready_timeout=60)
    asked = [f"{scope}/x" for scope in scopes[1::50]]
    assert not any(agent.check(scope, ACME) for scope in asked)
    started = time.monotonic()
    turn_on(store)
    wait_for(lambda: all(agent.check(scope, ACME) for scope in asked), "all are open", pause=0)
    taken = time.monotonic() - started
    record_property("panic_seconds", round(taken, 3))
    assert taken < WITHIN
    assert all(agent.check(f"{scope}/x", ACME) for scope in scopes[1:])


def test_agent_that_starts_while_a_switch_is_on_obeys_it(
    store: Store, store_url: str, make_agent: Make
) -> None:
    closed(store)
    turn_on(store)
    opens(make_agent(store_url))


def test_switch_is_obeyed_before_the_first_publication(
    store: Store, store_url: str, make_agent: Make
) -> None:
    turn_on(store, "/a")
    agent = make_agent(store_url, ready_timeout=0, on_error="deny")
    opens(agent, "/a/b")
    assert not agent.check("/", ACME)


def test_switch_admits_when_the_limiter_fails(
    store: Store, store_url: str, make_agent: Make
) -> None:
    publish_policies(
        store, policies(**{"/": {"on_error": "deny", "limits": {"l": {"rate": "9/s"}}}})
    )
    agent = make_agent(store_url, on_error="deny")
    nowhere: Any = None
    assert not agent.check(nowhere)
    turn_on(store, mode="shadow")
    wait_for(lambda: agent.status.panic, "the switch is on")
    assert agent.check(nowhere).reason == "error"
    assert agent.check(nowhere)


@pytest.mark.parametrize("engine", sorted(ENGINES))
@pytest.mark.parametrize("mode", ["open", "shadow"])
@pytest.mark.parametrize("said", KINDS.values(), ids=KINDS)
def test_acquire_no_longer_waits_for_any_kind_of_limit(
    tmp_path: Path,
    make_agent: Make,
    monkeypatch: pytest.MonkeyPatch,
    said: dict[str, Any],
    mode: Waiver,
    engine: str,
) -> None:
    monkeypatch.setenv("RATECTL_ENGINE", engine)
    folder = tmp_path / "policies"
    folder.mkdir()
    documents = [{"apiVersion": "ratectl/v1", "scope": scope, **of} for scope, of in said.items()]
    (folder / "all.yaml").write_text("---\n".join(json.dumps(each) + "\n" for each in documents))
    agent = make_agent(str(folder))
    cost = 5_000_000_000 if "5000000000" in str(said) else 1
    agent.check("/a", ACME, cost)
    assert not agent.check("/a", ACME, cost)
    local(tmp_path, switch(mode=mode))
    wait_for(lambda: agent.status.panic, "the switch is on")
    assert asyncio.run(agent.acquire("/a", ACME, cost))


def test_waiting_requests_pass_when_a_switch_is_turned_on(
    store: Store, store_url: str, make_agent: Make
) -> None:
    publish_policies(store, simple("1/day", burst=1))
    agent = make_agent(store_url)
    assert agent.check("/", ACME)

    async def wait() -> float:
        waiting = asyncio.create_task(agent.acquire("/", ACME))
        await asyncio.sleep(0)
        assert not waiting.done()
        turn_on(store)
        started = time.monotonic()
        assert await asyncio.wait_for(waiting, 10)
        return time.monotonic() - started

    assert asyncio.run(wait()) < 2 * WITHIN


# -- records that change nothing


@pytest.mark.parametrize(
    "bad",
    [
        b"", b"junk", b"\xff\xfe", b"[]", b"null", b'"open"', b'{"format":2}', b"[" * 100_000,
        b'{"format":1,"sequence":1e400,"switches":[]}', b'{"format":1,"sequence":9}',
        b'{"format":1,"sequence":NaN,"switches":[]}', b"{" + b" " * 900_000 + b"}",
        b'{"format":1,"sequence":99999999999999,"switches":[{"scope":"/"}]}',
    ],
)  # fmt: skip
def test_unreadable_switch_record_is_reported_and_changes_nothing(
    store: Store, store_url: str, make_agent: Make, bad: bytes
) -> None:
    closed(store, "/a")
    agent = make_agent(store_url)
    turn_on(store, "/a")
    opens(agent, "/a")
    store.put(PANIC, bad)
    wait_for(lambda: "cannot be read" in (agent.status.error or ""), "the damage is reported")
    assert [bool(agent.check(at, ACME)) for at in ("/", "/a")] == [False, True]
    wait_for(lambda: "cannot be read" in (record(store).error or ""), "in the store as well")
    turn_off(store)
    closes(agent, "/a")
    wait_for(lambda: agent.status.error is None, "the record is repaired, and the problem is over")


def test_deleted_switch_record_changes_nothing(
    store: Store, store_url: str, make_agent: Make
) -> None:
    closed(store)
    agent = make_agent(store_url)
    turn_on(store)
    opens(agent)
    store.delete(PANIC)
    turn_on(store, "/elsewhere")  # the agent sees this after the deletion
    closes(agent)
    store.delete(PANIC)
    turn_on(store)
    opens(agent)
    store.delete(PANIC)
    publish_policies(store, simple("1/day"))
    assert agent.wait_for_generation(2, 10)
    assert agent.check("/", ACME).reason == "ok"
    assert agent.status.panic == (ON_STORE,)
    turn_off(store)
    wait_for(lambda: not agent.status.panic, "a record says off; a missing record does not")


def test_older_switch_record_is_ignored_and_reported(
    store: Store, store_url: str, make_agent: Make
) -> None:
    closed(store)
    agent = make_agent(store_url)
    before = turn_off(store)
    turn_on(store)
    opens(agent)
    store.put(PANIC, before.encode())
    wait_for(lambda: "older" in (agent.status.error or ""), "it is reported")
    assert agent.check("/", ACME)
    turn_off(store)
    closes(agent)
    wait_for(lambda: agent.status.error is None, "all is well again")


# -- from disk


def test_agent_without_store_obeys_saved_switches(tmp_path: Path, make_agent: Make) -> None:
    from ratectl.stores import open_store

    url = f"sqlite:///{tmp_path}/rates.db"
    with open_store(url) as store:
        closed(store, "/a")
        agent = make_agent(url)
        assert agent.generation == 1
        turn_on(store, "/a")
        opens(agent, "/a")
        remembered = [*(tmp_path / "state").rglob("panic.json")]
        wait_for(lambda: [*(tmp_path / "state").rglob("panic.json")], "it is on disk")
        wait_for(lambda: [*(tmp_path / "state").rglob("last-good")], "policies are on disk")
        agent.close()
    (tmp_path / "rates.db").unlink()
    (tmp_path / "rates.db").mkdir()  # a connection finds no store there
    again = make_agent(url, ready_timeout=0, id="another")
    assert [bool(again.check(at, ACME)) for at in ("/", "/a")] == [False, True]
    again.close()
    (remembered,) = (tmp_path / "state").rglob("panic.json")
    remembered.write_text("junk")
    third = make_agent(url, ready_timeout=0)
    assert [bool(third.check(at, ACME)) for at in ("/", "/a")] == [False, False]


def test_switch_file_works_without_a_store(tmp_path: Path, make_agent: Make) -> None:
    agent = make_agent(DEAD, ready_timeout=0, on_error="deny")
    assert not agent.check("/a")
    local(tmp_path, switch("/a"))
    opens(agent, "/a")
    assert not agent.check("/")
    assert agent.status.panic == (Obeyed(scope="/a", mode="open", source="file"),)
    switch_file(tmp_path / "state").unlink()
    closes(agent, "/a")


def test_existing_switch_file_is_obeyed_from_the_first_request(
    tmp_path: Path, make_agent: Make
) -> None:
    local(tmp_path, switch())
    assert make_agent(DEAD, ready_timeout=0, on_error="deny").check("/a/b")


def test_switches_of_store_and_file_add_up_and_open_beats_shadow(
    store: Store, store_url: str, tmp_path: Path, make_agent: Make
) -> None:
    closed(store)
    agent = make_agent(store_url)
    turn_on(store, mode="shadow")
    local(tmp_path, switch("/"), switch("/b", "shadow"))
    wait_for(lambda: len(agent.status.panic) == 3, "all are on")
    assert agent.check("/", ACME).reason == "ok"
    save_switches(switch_file(tmp_path / "state"), Switches(2))
    wait_for(lambda: len(agent.status.panic) == 1, "those of the file are off")
    assert agent.check("/", ACME).reason == "shadow"
    turn_on(store, mode="open")
    local(tmp_path, switch("/", "shadow"))
    wait_for(lambda: {each.mode for each in agent.status.panic} == {"open", "shadow"}, "both on")
    assert agent.check("/", ACME).reason == "ok"


@pytest.mark.parametrize("damage", ["junk", "pipe", "folder", "gone with its disk", "no bytes"])
def test_unusable_switch_file_is_reported_and_changes_nothing(
    tmp_path: Path, make_agent: Make, damage: str
) -> None:
    state = tmp_path / "switches"
    path = switch_file(state)
    save_switches(path, Switches(1, (switch("/a"),)))
    agent = make_agent(DEAD, ready_timeout=0, on_error="deny", state_dir=state)
    assert agent.check("/a")
    if damage == "gone with its disk":
        state.rename(tmp_path / "elsewhere")
    else:
        path.unlink() if damage in ("pipe", "folder") else path.write_text("")
        {"pipe": os.mkfifo, "folder": os.mkdir}.get(damage, _damage)(path)
    wait_for(
        lambda: "switches that were on stay on" in (agent.status.error or ""), "it is reported"
    )
    assert [bool(agent.check(at)) for at in ("/", "/a")] == [False, True]


def _damage(path: Path) -> None:
    path.write_text("junk")


def test_a_directory_of_policies_has_a_kill_switch_too(tmp_path: Path, make_agent: Make) -> None:
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "a.yaml").write_text("apiVersion: ratectl/v1\nscope: /\nlimits: {l: {rate: 0/s}}\n")
    agent = make_agent(str(folder))
    assert not agent.check("/")
    local(tmp_path, switch())
    opens(agent)


# -- across processes


def test_forked_child_obeys_and_follows_switches(
    store: Store, store_url: str, tmp_path: Path
) -> None:
    """In its own process: a fork of the test runner would copy its threads' locks."""
    closed(store)
    turn_on(store)
    script = f"""
import os, sys, time, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 on: threads exist while forking
import ratectl
agent = ratectl.Agent({store_url!r}, state_dir=sys.argv[1], report_interval=0.1, ready_timeout=5)
def until(wanted):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if bool(agent.check("/")) == bool(agent.status.panic) == wanted:
            return True
        time.sleep(0.01)
    return False
assert until(True)
pid = os.fork()
if pid == 0:
    at_once = bool(agent.check("/"))
    print("forked", flush=True)
    ok = at_once and until(False)
    agent.close()
    os._exit(0 if ok else 1)
print(os.waitpid(pid, 0)[1], until(False), flush=True)
agent.close()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "state")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "forked\n"
    turn_off(store)
    assert process.communicate(timeout=60)[0] == "0 True\n"


def test_switch_file_is_readable_for_other_users(tmp_path: Path) -> None:
    path = switch_file(tmp_path / "deep" / "state")
    before = os.umask(0o077)
    try:
        save_switches(path, Switches(7, (switch(),)))
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o644
    assert load_switches(path) == Switches(7, (switch(),))
    assert [each.name for each in path.parent.iterdir()] == ["panic.json"]
