"""Quarantine after real crashes, and none after other deaths."""

from __future__ import annotations

import json
import random
import shutil
import signal
import threading
import time
from typing import TYPE_CHECKING, Literal

import pytest

from agent.deadly import CRASHES, Victim, leave_crash, planted
from agent.servers import ROUNDS, Service, witnessed
from etcd_server import wait_for
from ratectl.agent.quarantine import PROBATION_SECONDS, Quarantine
from ratectl.agent.trial_note import Trial
from ratectl.fleet.usage import read_agents
from ratectl.history.generations import read_live
from ratectl.rollout import Controlling, Terms, read_rollout
from ratectl.rollout._start import start
from ratectl.stores import open_store
from support import ME, once, policies, publish_policies, simple

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import ratectl
    from ratectl.stores.base import Store

    Make = Callable[..., ratectl.Agent]

ACME = {"tenant": "acme"}


# A generation that kills its process ------------------------------------------------------------


@witnessed
@pytest.mark.parametrize("how", CRASHES)
@pytest.mark.parametrize("when", ["applying", "deciding"])
def test_generation_that_crashed_its_process_twice_is_quarantined(
    store: Store,
    store_url: str,
    tmp_path: Path,
    how: str,
    when: Literal["applying", "deciding"],
):
    state, name = tmp_path / "state", CRASHES[how]
    env = planted(tmp_path / "planted", 2, how, when)
    publish_policies(store, simple("5/s"))
    with Victim(store_url, state, env) as first:
        first.until(1)
        publish_policies(store, simple("6/s"))
        assert first.dies() == -signal.Signals[name]
    with Victim(store_url, state, env) as second:
        assert second.dies() == -signal.Signals[name], "one crash may be chance: it is tried again"
    with Victim(store_url, state, env) as third:
        told = third.tells()
        assert told is not None
        assert told[:2] == [1, "ok"], "it starts with the generation before"
        error = third.until(1, rejected=2)[3]
        assert f"process crashed ({name}) with generation 2, 2 times" in error
        (record,) = wait_for(
            lambda: [each for each in read_agents(store) if each.rejected], "it is reported"
        )
        assert (record.generation, record.state, record.rejected) == (1, "rejected", 2)
        publish_policies(store, simple("7/s"))
        third.until(3)


@witnessed
@pytest.mark.servers
def test_generation_that_crashes_forked_workers_is_quarantined(tmp_path: Path):
    """The process that loads the generation decides nothing, and survives."""
    url = f"sqlite:///{tmp_path}/rates.db"
    service = Service(tmp_path / "service", url)
    with open_store(url) as store:
        publish_policies(store, simple("1000/s"))
        with service.gunicorn("--workers", "1", "--preload"):
            service.until_started(2)
        publish_policies(store, simple("2000/s"))
    planting = planted(tmp_path / "planted", 2, "fault", "deciding in a worker")
    service.env |= planting | {"GENERATION": "2"}
    with service.gunicorn("--workers", "2", "--preload"):
        master, *workers = service.until_started(2 + 1 + 2)[2:]
        assert master["generation"] == 2
        assert {worker["generation"] for worker in workers} == {1}
        answer = wait_for(
            lambda: found if (found := service.ask())["rejected"] else None, "the store is heard"
        )
        assert (answer["generation"], answer["reason"], answer["rejected"]) == (1, "ok", 2)


def test_pure_engine_records_no_crashes_of_a_live_generation(
    store: Store, store_url: str, tmp_path: Path
):
    state, engine = tmp_path / "state", {"RATECTL_ENGINE": "pure"}
    env = engine | planted(tmp_path / "planted", 2, "abort", "deciding")
    publish_policies(store, simple("5/s"))
    publish_policies(store, simple("6/s"))
    for _ in range(3):
        with Victim(store_url, state, env) as victim:
            assert victim.dies() == -signal.SIGABRT
    with Victim(store_url, state, engine) as victim:
        victim.until(2)


def test_agent_that_died_with_a_candidate_rejects_it_after_restart(
    store: Store, store_url: str, tmp_path: Path
):
    """For a candidate one death of any kind is enough."""
    state = tmp_path / "state"
    publish_policies(store, simple("5/s"))
    with Victim(store_url, state) as first:
        first.until(1)
        assert start(store, simple("6/s"), ME, Terms.of([100.0], min_requests=0)) is not None
        watching = threading.Thread(
            target=Controlling(store, read_rollout(store).record).run, args=(60,)
        )
        watching.start()
        first.until(2)
        first.process.kill()
    with Victim(store_url, state) as second:
        second.until(1)
        watching.join(20)
        record = read_rollout(store).record
        assert record.state == "aborted"
        assert "died with generation 2, once" in record.reason
        assert second.process.poll() is None


# A served generation is never lost ---------------------------------------------------------------


@pytest.fixture
def make(make_agent: Make) -> Make:
    def make(url: str) -> ratectl.Agent:
        return make_agent(url, id="me", ready_timeout=0.5)

    return make


def slot_of(tmp_path: Path) -> Path:
    (found,) = (tmp_path / "state").glob("agents/*/id-me")
    return found


def live_bundle(store: Store) -> str:
    head = read_live(store).head
    assert head is not None
    return head.bundle


def crash(slot: Path, generation: int, bundle: str, times: int = 2) -> None:
    for _ in range(times):
        leave_crash(slot, generation, bundle)
        Quarantine(slot)


def serve(slot: Path, generation: int, bundle: str) -> None:
    now = 0.0
    process = Quarantine(slot, lambda: now)
    process.begin(Trial(generation, bundle, candidate=False))
    process.in_force()
    now = PROBATION_SECONDS
    assert process.end_probation_if_due()


@pytest.fixture
def slot(store: Store, store_url: str, make: Make, tmp_path: Path) -> Path:
    """Slot of an ended agent that has persisted generation 1."""
    publish_policies(store, simple("5/s"))
    agent = make(store_url)
    assert agent.generation == 1
    wait_for(lambda: list(tmp_path.rglob("last-good")), "generation 1 is on disk")
    agent.close()
    return slot_of(tmp_path)


@pytest.mark.parametrize("on_disk", [True, False], ids=["on disk", "in the store alone"])
def test_served_generation_is_enforced_if_no_other_is_usable(
    store: Store, store_url: str, make: Make, slot: Path, on_disk: bool
):
    serve(slot, 1, live_bundle(store))
    crash(slot, 1, live_bundle(store), times=3)
    if not on_disk:
        (slot / "last-good").unlink()
    agent = make(store_url)
    assert agent.wait_for_generation(1, 5)
    assert agent.check("/", ACME).generation == 1
    wait_for(lambda: agent.status.source == "store", "the store is heard")
    error = wait_for(lambda: agent.status.error, "it is said")
    assert error.startswith(
        "generation 1 is enforced because no other is usable: this agent's process"
    )
    assert "crashed (SIGSEGV) with generation 1, 3 times" in error
    assert agent.status.rejected is None
    publish_policies(store, simple("6/s"))
    assert agent.wait_for_generation(2, 5)
    wait_for(lambda: agent.status.error is None, "another generation is in force")


def test_served_generation_is_enforced_while_the_store_is_unreachable(
    store: Store, make: Make, slot: Path, tmp_path: Path
):
    nobody = "etcd://127.0.0.1:9/dead"
    serve(slot, 1, live_bundle(store))
    crash(slot, 1, live_bundle(store), times=3)
    away = make(nobody)
    away.close()
    (theirs,) = (found for found in tmp_path.glob("state/agents/*/id-me") if found != slot)
    for name in ("last-good", "quarantine"):
        shutil.copy(slot / name, theirs / name)
    again = make(nobody)
    assert again.generation == 1
    assert "because no other is usable" in again.status.problems["quarantine"]


def test_quarantine_is_no_longer_reported_after_probation(
    store: Store, store_url: str, make: Make, slot: Path, monkeypatch: pytest.MonkeyPatch
):
    serve(slot, 1, live_bundle(store))
    crash(slot, 1, live_bundle(store), times=3)
    agent = make(store_url)
    assert agent.status.error is not None
    quarantine = agent._following.adoption._quarantine
    monkeypatch.setattr(quarantine, "_clock", lambda: time.monotonic() + PROBATION_SECONDS)
    wait_for(lambda: agent.status.error is None, "the probation is over")
    assert agent.generation == 1


def test_unproven_generation_is_refused_even_if_no_other_is_usable(
    store: Store, store_url: str, make: Make, slot: Path
):
    crash(slot, 1, live_bundle(store))
    agent = make(store_url)
    wait_for(lambda: agent.status.rejected == 1, "it is refused")
    assert agent.check("/", ACME).reason == "error"
    assert "crashed (SIGSEGV) with generation 1, 2 times" in (agent.status.error or "")
    assert "on_error answers every request" in (agent.status.error or "")
    publish_policies(store, simple("6/s"))
    assert agent.wait_for_generation(2, 5)
    assert agent.status.error is None


def test_quarantined_last_good_is_reported_while_the_store_is_unreachable(
    store: Store, make: Make, slot: Path, tmp_path: Path
):
    nobody = "etcd://127.0.0.1:9/dead"
    make(nobody).close()
    (theirs,) = (found for found in tmp_path.glob("state/agents/*/id-me") if found != slot)
    shutil.copy(slot / "last-good", theirs / "last-good")
    crash(theirs, 1, live_bundle(store))
    agent = make(nobody)
    assert agent.generation == 0
    assert "crashed (SIGSEGV) with generation 1" in agent.status.problems["quarantine"]


def test_neighbours_generation_is_preferred_to_a_quarantined_one(
    store: Store, store_url: str, make: Make, slot: Path
):
    """Even if the quarantined one has served, since another is usable."""
    shutil.copytree(slot, slot.with_name("id-other"))
    publish_policies(store, simple("6/s"))
    agent = make(store_url)
    assert agent.wait_for_generation(2, 5)
    wait_for(lambda: (slot / "last-good.before").exists(), "generation 2 is on disk")
    agent.close()
    (slot / "last-good.before").unlink()
    serve(slot, 2, live_bundle(store))
    crash(slot, 2, live_bundle(store), times=3)
    again = make(store_url)
    assert again.generation == 1
    wait_for(lambda: again.status.rejected == 2, "the store is heard")
    assert again.generation == 1


def persisted(slot: Path) -> int:
    """Return the number of the generation on disk."""
    header, _, _ = (slot / "last-good").read_bytes().partition(b"\n")
    return int(json.loads(header)["generation"])


def take_and_crash(make: Make, url: str, slot: Path, generation: int) -> None:
    """Make an agent persist a generation, and crash twice with it."""
    with open_store(url) as store:
        publish_policies(store, simple(f"{generation + 4}/s"))
        agent = make(url)
        wait_for(lambda: persisted(slot) == generation, "it is on disk")
        agent.close()
        crash(slot, generation, live_bundle(store))


def test_served_generation_stays_on_disk_after_several_bad_ones(
    store: Store, store_url: str, make: Make, slot: Path
):
    serve(slot, 1, live_bundle(store))
    for generation in (2, 3, 4):
        take_and_crash(make, store_url, slot, generation)
    agent = make(store_url)
    assert agent.check("/", ACME).generation == 1
    wait_for(lambda: agent.status.rejected == 4, "the store is heard")
    assert agent.generation == 1


def test_generation_that_crashed_once_does_not_replace_a_served_one(
    store: Store, store_url: str, make: Make, slot: Path
):
    serve(slot, 1, live_bundle(store))
    take_and_crash(make, store_url, slot, 2)
    Quarantine(slot).close()
    (slot / "quarantine").write_text(
        (slot / "quarantine").read_text().replace('"times": 2', '"times": 1')
    )
    second = live_bundle(store)
    take_and_crash(make, store_url, slot, 3)
    crash(slot, 2, second, times=1)
    assert make(store_url).generation == 1


def test_generation_taken_from_a_neighbour_is_persisted(
    store: Store, store_url: str, make: Make, slot: Path
):
    """The neighbour may persist the next bad generation too."""
    neighbour = slot.with_name("id-other")
    shutil.copytree(slot, neighbour)
    take_and_crash(make, store_url, slot, 2)
    (slot / "last-good.before").unlink()
    agent = make(store_url)
    assert agent.generation == 1
    agent.close()
    shutil.rmtree(neighbour)
    take_and_crash(make, store_url, slot, 3)
    assert make(store_url).generation == 1


# Deaths that do not count ------------------------------------------------------------------------


SIGNALS = ("SIGTERM", "SIGINT", "SIGKILL", "SIGHUP", "SIGQUIT", "SIGABRT", "SIGSEGV")


def take_it(url: str, state: Path) -> None:
    """Run an agent until the live generation is on its disk."""
    with Victim(url, state) as victim:
        victim.until(1)
        wait_for(lambda: list(state.rglob("last-good")), "it is on disk")


@once
@pytest.mark.parametrize("name", SIGNALS)
def test_agents_start_with_the_live_generation_after_repeated_ends(tmp_path: Path, name: str):
    """Also by signals that look like a crash, as a supervisor may send them."""
    url, state = f"sqlite:///{tmp_path}/rates.db", tmp_path / "state"
    with open_store(url) as store:
        publish_policies(store, simple("1000/s"))
    take_it(url, state)
    for _ in range(4 * ROUNDS):
        with Victim(url, state) as victim:
            assert victim.tells() == [1, "ok", None, None]
            victim.process.send_signal(signal.Signals[name])
            victim.dies()
    with Victim(url, state) as victim:
        assert victim.tells() == [1, "ok", None, None]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Store and state directory with a large tree on disk, which takes a while to apply."""
    folder = tmp_path_factory.mktemp("large")
    url = f"sqlite:///{folder}/rates.db"
    limits = {f"limit-{number}": {"rate": "1000/s", "per": "tenant"} for number in range(5)}
    scopes = {f"/s{number}": {"limits": limits} for number in range(3_000)}
    with open_store(url) as store:
        publish_policies(store, policies(**{"/": {"limits": limits}}, **scopes))
    take_it(url, folder / "state")
    return url, folder / "state"


@once
def test_agents_start_with_the_live_generation_after_kills_at_any_moment(large: tuple[str, Path]):
    """Most of them die while they apply the generation."""
    chance, told = random.Random(7), []
    for _ in range(8 * ROUNDS):
        with Victim(*large) as victim:
            killing = threading.Timer(chance.random(), victim.process.kill)
            killing.start()
            while (news := victim.tells()) is not None:
                told.append(news)
            killing.join()
    with Victim(*large) as victim:
        told.append(victim.tells())
    assert told == [[1, "ok", None, None]] * len(told)
