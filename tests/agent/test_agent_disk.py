"""State of an agent on disk: its id, and the last generation that it enforced."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest

from etcd_server import wait_for
from ratectl.agent.last_good import LastGood, take_slot
from ratectl.errors import BundleError
from ratectl.policy.bundle import digest
from ratectl.records import Head
from ratectl.stores import open_store
from support import publish_policies, simple

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import ratectl

    Make = Callable[..., ratectl.Agent]

ACME = {"tenant": "acme"}
DEAD = "etcd://127.0.0.1:9/dead"
"""The discard port: nothing listens there."""


def good(generation: int = 3) -> LastGood:
    data = b"bytes of a bundle"
    head = Head(sequence=7, generation=generation, bundle=digest(data))
    return LastGood(generation, "environment", head.bundle, head, data)


def last_good_file(tmp_path: Path) -> Path:
    (found,) = (tmp_path / "state").rglob("last-good")
    return found


def seeded(tmp_path: Path, make_agent: Make, url: str, **options: object) -> str:
    """Run an agent on a live store once; returns its id."""
    with open_store(url) as store:
        publish_policies(store, simple("1/day", burst=2))
    agent = make_agent(url, **options)
    assert agent.wait_ready(5)
    wait_for(lambda: list((tmp_path / "state").rglob("last-good")), "last-good on disk")
    agent.close()
    return agent.id


def test_starts_from_last_good_when_the_store_is_gone(tmp_path: Path, make_agent: Make):
    url = f"sqlite:///{tmp_path}/rates.db"
    first_id = seeded(tmp_path, make_agent, url)
    (tmp_path / "rates.db").unlink()
    (tmp_path / "rates.db").mkdir()  # a connection finds no store there
    agent = make_agent(url, ready_timeout=0)
    assert agent.check("/", ACME).generation == 1
    assert agent.status.source == "last-good"
    assert agent.id == first_id
    wait_for(lambda: agent.status.error, "the outage is reported")
    assert not agent.status.connected


def test_without_store_and_last_good_on_error_answers(make_agent: Make):
    agent = make_agent(DEAD, ready_timeout=0, on_error="deny")
    decision = agent.check("/", ACME)
    assert (decision.allowed, decision.reason, decision.generation) == (False, "error", 0)
    assert agent.status.error, "also before anything is known"
    wait_for(lambda: "127.0.0.1:9" in (agent.status.error or ""), "the outage is reported", 8)


@pytest.mark.parametrize(
    "damage",
    [
        *("truncate", "flip", "header", "empty", "not even text"),
        *("infinite", "deep", "environment"),
    ],
)
def test_a_corrupt_last_good_is_refused_and_reported(tmp_path: Path, make_agent: Make, damage: str):
    url = f"sqlite:///{tmp_path}/rates.db"
    seeded(tmp_path, make_agent, url)
    path = last_good_file(tmp_path)
    data = path.read_bytes()
    damaged = {
        "infinite": data.replace(b'"generation": 1', b'"generation": Infinity'),
        "deep": b"[" * 100_000,
        "environment": re.sub(rb'"environment": "[^"]*"', b'"environment": 5', data),
        "truncate": data[:-5],
        "flip": data[:-5] + bytes([data[-5] ^ 1]) + data[-4:],
        "header": b'{"format": 1}\n' + data,
        "empty": b"",
        "not even text": b"\xff\xfe\x00",
    }
    path.write_bytes(damaged[damage])
    (tmp_path / "rates.db").unlink()
    agent = make_agent(url, ready_timeout=0)
    assert agent.generation == 0
    assert "last-good" in (agent.status.error or "")
    assert agent.check("/", ACME).reason == "error"


def test_a_corrupt_last_good_is_replaced_by_the_store(tmp_path: Path, make_agent: Make):
    url = f"sqlite:///{tmp_path}/rates.db"
    seeded(tmp_path, make_agent, url)
    last_good_file(tmp_path).write_bytes(b"junk")
    agent = make_agent(url)
    assert agent.wait_ready(5)
    wait_for(lambda: last_good_file(tmp_path).read_bytes() != b"junk", "a new last-good")
    wait_for(lambda: agent.status.error is None, "the damage is repaired and no longer reported")


def test_process_without_last_good_uses_its_neighbours(tmp_path: Path, make_agent: Make):
    url = f"sqlite:///{tmp_path}/rates.db"
    seeded(tmp_path, make_agent, url, id="old")
    (tmp_path / "rates.db").unlink()
    agent = make_agent(url, id="new", ready_timeout=0)
    assert agent.generation == 1


def test_unwritable_disk_is_reported_and_does_not_stop_the_agent(tmp_path: Path, make_agent: Make):
    url = f"sqlite:///{tmp_path}/rates.db"
    with open_store(url) as store:
        publish_policies(store, simple("1/day", burst=2))
    blocker = tmp_path / "a-file"
    blocker.write_text("not a directory")
    agent = make_agent(url, state_dir=blocker)
    assert agent.wait_ready(5)
    assert agent.check("/", ACME)
    assert "cannot keep state" in (agent.status.error or "")


def test_slots_are_exclusive_while_held_and_keep_their_id(tmp_path: Path):
    one, two = take_slot(tmp_path, "store", None), take_slot(tmp_path, "store", None)
    assert one.folder != two.folder
    assert one.id != two.id
    one.release()
    again = take_slot(tmp_path, "store", None)
    assert (again.folder, again.id) == (one.folder, one.id)
    elsewhere = take_slot(tmp_path, "another store", None)
    assert elsewhere.folder is not None
    assert elsewhere.folder.parent != again.folder.parent
    for slot in (two, again, elsewhere):
        slot.release()


def test_agent_that_cannot_start_releases_its_slot(
    tmp_path: Path, make_agent: Make, monkeypatch: pytest.MonkeyPatch
):
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    url = f"sqlite:///{tmp_path}/rates.db"
    monkeypatch.setattr("ratectl.agent.adoption.Adoption.start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_agent(url, id="me")
    monkeypatch.undo()
    assert make_agent(url, id="me", ready_timeout=0).id == "me"


def test_save_is_atomic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    slot = take_slot(tmp_path, "store", "me")
    slot.save(good(3))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        slot.save(good(4))
    monkeypatch.undo()
    loaded = slot.load()
    assert loaded == good(3)
    slot.release()


def test_unreadable_own_file_is_an_error_not_a_reason_to_use_a_neighbours(tmp_path: Path):
    slot, neighbour = take_slot(tmp_path, "store", "me"), take_slot(tmp_path, "store", "other")
    neighbour.save(good())
    assert slot.load() == good()
    assert slot.folder is not None
    (slot.folder / "last-good").write_bytes(b"junk")
    with pytest.raises(BundleError, match="cannot be used"):
        slot.load()
    slot.release()
    neighbour.release()
