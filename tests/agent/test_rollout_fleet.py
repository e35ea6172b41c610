"""Rollout to a large fleet of real agents: of a bad candidate, and of a good one."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from etcd_server import wait_for
from ratectl.agent.adoption import Adoption
from ratectl.fleet.membership import included
from ratectl.fleet.usage import read_agents
from ratectl.publishing.provenance import Provenance
from ratectl.rollout import Controlling, Terms, _start, read_rollout
from ratectl.rollout._start import start
from ratectl.stores import open_store
from support import ME, POISON, ROLLOUT, publish_policies, simple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import ratectl
    from ratectl.stores.base import Store

    Make = Callable[..., ratectl.Agent]

AGENTS = 200


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Record which agent fetched or tried which generation."""
    seen: list[tuple[str, int]] = []
    adopt = Adoption._adopt

    def spying(self: Adoption, store: Store, head: object, goal: object, at: float) -> None:
        seen.append((self._slot.id, goal.generation))  # type: ignore[attr-defined]
        adopt(self, store, head, goal, at)  # type: ignore[arg-type]

    monkeypatch.setattr(Adoption, "_adopt", spying)
    return seen


@pytest.fixture
def crowded() -> Iterator[None]:
    """Adapt the interpreter to 1,600 threads, far more than in any real process.

    A thread that waits for the interpreter's lock takes a mutex at every switch interval.
    Hundreds of threads that do so every 5 ms can keep the machine busy for many seconds.
    """
    interval = sys.getswitchinterval()
    sys.setswitchinterval(0.02)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.etcd
@pytest.mark.usefixtures("crowded")
def test_of_200_agents_only_those_hashed_in_ever_load_a_poisoned_candidate_and_all_come_back(
    etcd_server: object,
    make_agent: Make,
    monkeypatch: pytest.MonkeyPatch,
    loaded: list[tuple[str, int]],
):
    monkeypatch.setattr(_start, "_fresh_id", lambda: ROLLOUT)
    url = etcd_server.store_url("fleet-of-200")  # type: ignore[attr-defined]
    ids = [f"agent-{number:03d}" for number in range(AGENTS)]
    hashed_in = {each for each in ids if included(ROLLOUT, each, 2)}
    assert 1 <= len(hashed_in) <= 10
    with open_store(url) as store:
        publish_policies(store, simple("5/s"))
        agents = [make_agent(url, id=each, report_interval=10.0, ready_timeout=0) for each in ids]
        for agent in agents:
            assert agent.wait_for_generation(1, 60)
        wait_for(lambda: len(read_agents(store)) == AGENTS, "every agent reports", 60)

        begun = time.monotonic()
        entry = start(store, POISON, ME, Terms.of([2.0]))
        assert entry is not None
        final = Controlling(store, read_rollout(store).record).run(60)
        halted = time.monotonic() - begun

        assert final.state == "aborted"
        assert any(each in final.reason for each in hashed_in), final.reason
        assert "has no rate" in final.reason
        assert halted <= 10
        wait_for(
            lambda: (
                {(each.generation, each.state) for each in read_agents(store)} == {(1, "serving")}
            ),
            "all are back",
            20,
        )
    tried = {name for name, generation in loaded if generation == 2}
    print(f"{len(tried)} of {AGENTS} tried it, halted after {halted:.2f} s")
    assert tried
    assert tried <= hashed_in
    assert all(agent.check("/", {"tenant": "acme"}).generation == 1 for agent in agents)


def test_a_good_candidate_goes_from_stage_to_stage_and_becomes_live(
    store: Store, store_url: str, make_agent: Make
):
    publish_policies(store, simple("5/s"))
    agents = [make_agent(store_url, id=f"agent-{number}") for number in range(6)]
    wait_for(lambda: len(read_agents(store)) == 6, "every agent reports")
    author = Provenance("somebody")
    entry = start(store, simple("6/s"), author, Terms.of([30.0], bake_seconds=0, min_requests=6))
    assert entry is not None
    busy = threading.Event()

    def traffic() -> None:
        while not busy.wait(0.01):
            for agent in agents:
                agent.check("/", {"tenant": "acme"})

    thread = threading.Thread(target=traffic)
    thread.start()
    stages: list[float] = []
    try:
        controlling = Controlling(
            store,
            read_rollout(store).record,
            tell=lambda progress: stages.append(progress.record.percent),
        )
        final = controlling.run(60)
    finally:
        busy.set()
        thread.join()
    assert final.state == "promoted"
    assert sorted(set(stages)) == [30.0, 50.0, 100.0]
    for agent in agents:
        assert agent.wait_for_generation(entry.generation, 5)
    wait_for(
        lambda: {each.rollout for each in read_agents(store)} == {None}, "it is no candidate now"
    )
