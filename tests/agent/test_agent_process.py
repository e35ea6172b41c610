"""An agent inside a service: threads, asyncio, fork, and failures of the limiter itself."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from virtual import SECOND, Clock, run

from etcd_server import wait_for
from ratectl.errors import PolicyError, UsageError
from ratectl.fleet.usage import read_agents
from support import policies, publish_policies, simple

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import ratectl
    from ratectl.stores.base import Store

    Make = Callable[..., ratectl.Agent]

ACME = {"tenant": "acme"}


def write(folder: Path, limits: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "global.yaml").write_text(
        f"apiVersion: ratectl/v1\nscope: /\nlimits:\n  spike: {limits}\n"
    )


def test_threads_admit_exactly_the_limit(store: Store, store_url: str, make_agent: Make):
    publish_policies(store, simple("1/day", burst=5_000))
    agent = make_agent(store_url)
    admitted: list[int] = []

    def work() -> None:
        admitted.append(sum(bool(agent.check("/", ACME)) for _ in range(2_000)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(admitted) == 5_000


def test_acquire_waits_only_until_the_request_may_pass(
    store: Store, store_url: str, make_agent: Make
):
    publish_policies(store, simple("20/s", burst=1))
    agent = make_agent(store_url)

    async def three() -> list[ratectl.Decision]:
        return [await agent.acquire("/", ACME, wait=5) for _ in range(3)]

    started = time.monotonic()
    assert all(asyncio.run(three()))
    assert time.monotonic() - started >= 0.099, "two of three waited 50 ms each"


def test_acquire_gives_up_at_once_if_the_wait_exceeds_the_timeout(
    store: Store, store_url: str, make_agent: Make
):
    publish_policies(store, simple("1/day", burst=1))
    agent = make_agent(store_url)
    assert agent.check("/", ACME)
    refused = asyncio.run(agent.acquire("/", ACME, wait=0.5))
    assert refused.reason == "limited"
    never = asyncio.run(agent.acquire("/", ACME, cost=2))
    assert never.reason == "never"


def test_waiting_agent_checks_and_counts_each_request_once(
    tmp_path: Path, make_agent: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """500 requests at 50/s were checked 125,250 times, and counted as 124,750 refusals."""
    clock = Clock()
    times = SimpleNamespace(monotonic=lambda: clock.now / SECOND, monotonic_ns=clock)
    monkeypatch.setattr("ratectl.agent.failures.time", times)
    write(tmp_path / "policies", "{rate: 50/s, burst: 1}")
    agent = make_agent(str(tmp_path / "policies"))
    order: list[int] = []

    async def wait(number: int) -> None:
        assert await agent.acquire("/")
        order.append(number)

    async def main() -> None:
        await asyncio.gather(*[wait(number) for number in range(500)])

    run(clock, main())
    assert order == list(range(500))
    (used,) = agent._engine.usage().limits
    assert (used.allowed, used.refused, used.waited) == (500, 0, 499)


def slots(store: Store, most: int = 1) -> None:
    said = {"algorithm": "concurrency", "max": most, "hold": "1h"}
    publish_policies(store, policies(**{"/": {"limits": {"l": said}}}))


def test_decision_is_released_at_the_end_of_its_with_block(
    store: Store, store_url: str, make_agent: Make
):
    slots(store)
    agent = make_agent(store_url)
    with agent.check("/") as decision:
        assert decision
        assert agent.check("/").retry_after is None
        slots(store, 2)
        assert agent.wait_for_generation(2, 10)
        assert [bool(agent.check("/")) for _ in range(2)] == [True, False]
    assert agent.check("/")


def test_acquire_waits_for_a_slot(store: Store, store_url: str, make_agent: Make):
    slots(store)
    agent = make_agent(store_url)

    async def several() -> list[bool]:
        first = agent.check("/")
        waiting = asyncio.create_task(agent.acquire("/", wait=30))
        late = await agent.acquire("/", wait=0.01)
        assert not waiting.done()
        first.release()
        with await waiting as second:
            return [bool(first), bool(late), bool(second)]

    assert asyncio.run(several()) == [True, False, True]
    assert agent.check("/", cost=0).remaining == 1


def test_forked_child_releases_only_its_own_slots(store: Store, store_url: str, make_agent: Make):
    """The child starts with a copy of the held slots, and its releases do not affect the parent."""
    slots(store, 2)
    agent = make_agent(store_url)
    held = agent.check("/", cost=2)
    child = os.fork()
    if not child:
        held.release()
        os._exit(0 if agent.check("/", cost=2) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert not agent.check("/")
    held.release()
    assert agent.check("/", cost=2)


def test_without_policies_there_is_nothing_to_release_or_settle(make_agent: Make, tmp_path: Path):
    agent = make_agent(f"sqlite:///{tmp_path}/none.db", ready_timeout=0)
    with agent.check("/") as decision:
        decision.settle(5)
    assert decision.reason == "error"


def test_forked_child_decides_at_once_and_reports_under_its_own_id(
    store: Store, store_url: str, tmp_path: Path
):
    """In its own process: a fork of the test runner would copy its threads' locks."""
    publish_policies(store, simple("1/day", burst=3))
    script = f"""
import json, os, sys, time, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 on: threads exist while forking
import ratectl
agent = ratectl.Agent({store_url!r}, state_dir=sys.argv[1], report_interval=0.1, ready_timeout=5)
acme = {{"tenant": "acme"}}
first = bool(agent.check("/", acme))
read, write = os.pipe()
pid = os.fork()
if pid == 0:
    told = {{"id": agent.id, "verdicts": [bool(agent.check("/", acme)) for _ in range(3)]}}
    deadline = time.monotonic() + 20
    while agent.generation < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    told["generation"] = agent.generation
    os.write(write, json.dumps(told).encode())
    agent.close()
    os._exit(0)
print("forked", flush=True)
_, status = os.waitpid(pid, 0)
child = json.loads(os.read(read, 65536))
agent.wait_for_generation(2, 10)
print(json.dumps({{"id": agent.id, "first": first, "status": status, "child": child,
                  "generation": agent.generation}}))
agent.close()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "state")],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "forked\n"
    wait_for(lambda: len(read_agents(store)) == 2, "parent and child report", 20)
    publish_policies(store, simple("1/day", burst=4))
    out, _ = process.communicate(timeout=30)
    told: dict[str, Any] = json.loads(out)
    assert told["first"] is True
    assert told["status"] == 0
    assert told["child"]["id"] != told["id"]
    assert told["child"]["verdicts"] == [True, True, False], "the child has a copy of the bucket"
    assert told["child"]["generation"] == told["generation"] == 2


def test_a_failure_of_the_limiter_is_answered_by_on_error(
    store: Store, store_url: str, make_agent: Make
):
    publish_policies(
        store,
        policies(
            **{"/": {"limits": {"a": {"rate": "1/s", "per": "x"}}}, "/strict": {"on_error": "deny"}}
        ),
    )
    agent = make_agent(store_url)
    wait_for(
        lambda: [r for r in read_agents(store) if r.generation == 1],
        "the failure is reported before",
    )
    broken: Any = object()  # not a mapping
    decision = agent.check("/", broken)
    assert (decision.allowed, decision.reason) == (True, "error")
    decision = agent.check("/strict/er", broken)
    assert (decision.allowed, decision.reason) == (False, "error")
    wait_for(lambda: [r for r in read_agents(store) if r.errors == 2], "errors are reported")


@pytest.mark.parametrize("cost", [-1, 1.5, "1", None, True])
def test_wrong_cost_is_a_usage_error(store: Store, store_url: str, make_agent: Make, cost: Any):
    publish_policies(store, simple())
    agent = make_agent(store_url)
    with pytest.raises(UsageError, match="whole number"):
        agent.check("/", ACME, cost=cost)


def test_a_directory_is_followed_and_a_broken_edit_changes_nothing(
    tmp_path: Path, make_agent: Make
):
    folder = tmp_path / "policies"
    write(folder, "{rate: 1/day, burst: 2, per: tenant}")
    agent = make_agent(str(folder))
    assert agent.check("/", ACME).capacity == 2
    write(folder, "{rate: 1/day, burst: 7, per: tenant}")
    assert agent.wait_for_generation(2, 5)
    assert agent.check("/", ACME).capacity == 7
    write(folder, "{rate: 1/fortnight}")
    wait_for(lambda: agent.status.rejected == 3, "rejection")
    assert "RC" in (agent.status.error or "")
    assert agent.check("/", ACME).capacity == 7
    write(folder, "{rate: 1/day, burst: 9, per: tenant}")
    assert agent.wait_for_generation(3, 5)
    assert agent.status.error is None


def test_a_directory_that_does_not_validate_is_an_error_at_the_start(
    tmp_path: Path, make_agent: Make
):
    write(tmp_path / "policies", "{rate: 1/fortnight}")
    with pytest.raises(PolicyError, match="fortnight"):
        make_agent(str(tmp_path / "policies"))


FORKED_FROM_A_DIRECTORY = """
import os, sys, time, warnings
from pathlib import Path
warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 on: threads exist while forking
import ratectl
file = Path("policies", "all.yaml")
agent = ratectl.Agent("policies", state_dir="state")
text = file.read_text()
file.unlink()
file.parent.rmdir()
child = os.fork()
if not child:
    before = [bool(agent.check("/")) for _ in range(2)]
    file.parent.mkdir()
    file.write_text(text.replace("1/day, burst: 1", "unlimited"))
    deadline = time.monotonic() + 20
    while not (after := agent.check("/")) and time.monotonic() < deadline:
        time.sleep(0.01)
    good = before == [True, False] and after and agent.status.error is None
    os._exit(0 if good else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_child_forked_while_its_directory_is_missing_decides_and_follows_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "all.yaml").write_text(
        "{apiVersion: ratectl/v1, scope: /, limits: {x: {rate: 1/day, burst: 1}}}\n"
    )
    command = [sys.executable, "-c", FORKED_FROM_A_DIRECTORY]
    run = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (run.returncode, run.stderr) == (0, "")
