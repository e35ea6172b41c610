"""Counters that outlive a process: their limits, and what they leave out."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

import pytest

from agent.restart_support import SECOND, START, World
from engine.engines import ENGINES
from ratectl.engine.keeping import Interrupted

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agent.restart_support import Documents

    Begin = Callable[..., World]

ACME: Final = {"tenant": "acme"}
ZETA: Final = {"tenant": "zeta"}


def limits(**limit: Any) -> Documents:
    return {"/": {"limits": {"l": {"per": "tenant", **limit}}}}


SPIKE: Final = limits(rate="1/min", burst=5)


@pytest.fixture(params=sorted(ENGINES))
def begin(request: pytest.FixtureRequest, tmp_path: Path) -> Begin:
    return lambda documents=SPIKE, **parts: World(
        ENGINES[request.param], tmp_path, documents, **parts
    )


# Time -------------------------------------------------------------------------------------------


def test_time_between_two_processes_refills(begin: Begin) -> None:
    world = begin()
    world.process.ask("/", ACME, 5)
    assert world.restart(down=119).left(ACME) == 1
    world.wait(1)
    assert world.process.left(ACME) == 2


def test_old_file_is_harmless(begin: Begin) -> None:
    world = begin()
    world.process.ask("/", ACME, 5)
    process = world.restart(down=20 * 365 * 86_400)
    assert (process.left(ACME), process.problem) == (5, None)


def test_quota_goes_on_until_its_calendar_window_is_over(begin: Begin) -> None:
    world = begin(limits(algorithm="quota", rate="9/day"))
    world.process.ask("/", ACME, 7)
    assert world.restart(down=86_399).left(ACME) == 2
    assert world.restart(down=1).left(ACME) == 9


def test_clock_that_was_set_back_is_told(begin: Begin) -> None:
    world = begin()
    world.process.ask("/", ACME, 5)
    process = world.restart(down=10, set_by=-11 * SECOND)
    assert process.left(ACME) == 5
    assert "it is from the future, by 0:00:01: the clock was set back" in (process.problem or "")
    process.kept.save()
    assert process.problem is None


def test_clock_that_is_set_back_before_the_end_is_told(begin: Begin) -> None:
    world = begin()
    world.process.ask("/", ACME, 5)
    world.process.time.set_by = -20 * SECOND
    world.process.wall.refresh()
    process = world.restart(down=10, set_by=-20 * SECOND)
    assert "it is from the future" in (process.problem or "")
    assert world.restart(down=11, set_by=-20 * SECOND).problem is None


FOR_A_MINUTE = {
    "scope": "/",
    "reason": "r",
    "until": "2030-01-01T00:01:00Z",
    "limits": {"l": {"rate": "1/s", "burst": 100}},
}
"""An exception that ends a minute after the begin."""


def test_exception_that_ends_meanwhile_refills_until_its_end(begin: Begin) -> None:
    world = begin(limits(rate="1/h", burst=100), exceptions=[FOR_A_MINUTE])
    world.process.ask("/", ACME, 100)
    assert world.restart(down=600).left(ACME) == 60


def test_exception_that_ended_unnoticed_ends_before_the_save(begin: Begin) -> None:
    world = begin(limits(rate="1/h", burst=100), exceptions=[FOR_A_MINUTE])
    world.process.ask("/", ACME, 100)
    world.wait(61)
    process = world.restart()
    assert process.left(ACME) == 61
    assert process.problem is None


# Limits -----------------------------------------------------------------------------------------


def test_slots_are_free_after_a_restart(begin: Begin) -> None:
    """The requests that held them have ended with the process."""
    world = begin(limits(algorithm="concurrency", max=2))
    held = [world.process.ask("/", ACME) for _ in range(3)]
    assert [bool(decision) for decision in held] == [True, True, False]
    assert world.restart().left(ACME) == 2


def test_debt_is_paid_after_a_restart(begin: Begin) -> None:
    world = begin()
    world.process.ask("/", ACME).settle(7)
    refused = world.restart().ask("/", ACME)
    assert refused.retry_after_ns == 3 * 60 * SECOND


def test_debt_counts_in_another_bucket_as_long_as_it_lasts(begin: Begin) -> None:
    world = begin()
    world.process.ask("/pay", ACME).settle(50)
    world.restart()
    world.published.add({**SPIKE, "/pay": SPIKE["/"]})
    world.process.adopt()
    world.wait(20 * 60)
    world.process.engine.usage()  # forgets publications of which nothing counts any more
    assert world.process.ask("/pay", ACME).retry_after_ns == 26 * 60 * SECOND


def test_refund_after_a_restart_is_what_it_would_have_been(begin: Begin) -> None:
    world = begin(limits(rate="1/h", burst=10))
    world.process.ask("/", ACME, 6)
    decision = world.restart().ask("/", ACME, 3)
    world.wait(2 * 3_600)
    decision.settle(0)  # the bucket was never more than half full, so all comes back
    assert world.process.left(ACME) == 6


def test_requests_that_were_refused_of_a_shadow_limit_count_on(begin: Begin) -> None:
    world = begin(limits(rate="1/h", burst=2, mode="shadow"))
    for _ in range(2):
        assert world.process.ask("/", ACME).reason == "ok"
    assert world.restart().ask("/", ACME).reason == "shadow"


def test_limit_across_the_cluster_that_one_process_counts_goes_on(begin: Begin) -> None:
    world = begin({"/": {"limits": {"l": {"rate": "1/h", "burst": 4, "across": "cluster"}}}})
    world.process.ask("/", {}, 3)
    assert world.restart().left({}) == 1


@pytest.mark.parametrize("key", ["", "x" * 10_000, "\ud800", "snow \u2603", "(absent)"])
def test_every_key_is_found_again(begin: Begin, key: str) -> None:
    world = begin({"/": {"limits": {"l": {"rate": "1/h", "burst": 4, "per": ["tenant", "to"]}}}})
    for attributes in ({"tenant": key}, {"to": key}, {"tenant": key, "to": key}, {}):
        world.process.ask("/", attributes, len(attributes) + 1)
    process = world.restart()
    left = [process.left(of) for of in ({"tenant": key}, {"to": key}, {}, {"tenant": f"{key}2"})]
    assert left == [2, 2, 3, 4]


def test_full_buckets_are_not_written(begin: Begin) -> None:
    world = begin()
    world.process.ask("/", ACME, 2)
    world.process.kept.save()
    size = (world.folder / "counters").stat().st_size
    world.wait(121)
    world.process.ask("/", ZETA, 0)
    world.process.kept.save()
    assert (world.folder / "counters").stat().st_size < size


def test_keys_without_room_share_their_bucket_after_a_restart(begin: Begin) -> None:
    world = begin()
    world.process = world.begin(max_buckets=1)
    world.process.ask("/", ACME, 3)
    world.process.ask("/", ZETA, 4)
    process = world.restart(max_buckets=1)
    assert (process.left(ACME), process.left(ZETA)) == (2, 1)


def test_smaller_table_admits_no_more(begin: Begin) -> None:
    world = begin()
    used = {str(number): number % 5 + 1 for number in range(600)}
    for tenant, cost in used.items():
        world.process.ask("/", {"tenant": tenant}, cost)
    process = world.restart(max_buckets=20)
    left = {tenant: process.left({"tenant": tenant}) for tenant in used}
    assert all(left[tenant] <= 5 - cost for tenant, cost in used.items())
    assert len([tenant for tenant, cost in used.items() if left[tenant] == 5 - cost]) >= 20


def test_full_bucket_of_its_own_stays_beside_shared_ones(begin: Begin) -> None:
    world = begin()
    world.process = world.begin(max_buckets=1)
    world.process.ask("/", ACME, 1)
    world.process.ask("/", ZETA, 4)
    world.wait(60)
    process = world.restart(max_buckets=1)
    assert (process.left(ACME), process.left(ZETA)) == (5, 2)


def test_bucket_that_the_file_has_twice_is_restored_once(begin: Begin) -> None:
    """A bucket may be evicted and come back while others are written."""
    world = begin()
    world.process.ask("/", ACME, 3)
    (part,) = world.process.engine.kept()
    later = world.begin()
    for _ in range(2):
        assert later.engine.restore(part, 0) == 1
    assert later.left(ACME) == 2
    assert later.engine.usage().buckets == 1


def test_many_restarts_change_nothing(begin: Begin) -> None:
    world = begin(limits(algorithm="sliding-window", rate="500/h"))
    for number in range(40):
        world.process.ask("/", ACME, 5)
        world.wait(7 + number)
    for _ in range(30):
        world.restart()
    assert world.process.left(ACME) == 300
    world.wait(3_600)
    assert world.process.left(ACME) == 500


# Generations ------------------------------------------------------------------------------------


def test_generation_that_was_published_meanwhile_follows(begin: Begin) -> None:
    world = begin()
    world.process.ask("/", ACME, 4)
    world.published.add(limits(rate="1/min", burst=100))
    process = world.restart()
    assert (process.left(ACME), process.left(ZETA)) == (1, 5)
    assert process.engine.generation == 2


def test_limit_that_is_gone_is_dropped(begin: Begin) -> None:
    world = begin()
    world.process.ask("/", ACME, 4)
    world.published.add({"/": {"limits": {"other": {"rate": "1/s", "burst": 3}}}})
    process = world.restart()
    assert (process.left(ACME), process.problem) == (3, None)


def test_requests_that_move_meanwhile_carry_over_what_they_left(begin: Begin) -> None:
    world = begin()
    world.process.ask("/pay", ACME, 4)
    world.published.add({**SPIKE, "/pay": SPIKE["/"]})
    process = world.restart()
    assert process.left(ACME, "/pay") == 1


def test_generation_that_is_not_on_disk_is_told(begin: Begin) -> None:
    world = begin()
    world.process.ask("/", ACME, 4)
    world.process.kept.save()
    world.published.add(SPIKE)
    del world.published.all[0]
    process = world.begin()
    assert process.left(ACME) == 5
    assert "not on disk" in (process.problem or "")


def test_limit_that_a_new_version_reads_otherwise_starts_at_zero(
    begin: Begin, caplog: pytest.LogCaptureFixture
) -> None:
    world = begin()
    world.process.ask("/", ACME, 4)
    world.process.kept.save()
    good, _ = world.published.all[0]
    world.published.add(limits(rate="1/min", burst=7))
    world.published.all[:] = [(good, world.published.all[1][1])]
    assert world.begin().left(ACME) == 7
    assert "1 counters start at zero: their limits have other parameters now" in caplog.text


def test_publication_during_a_save_interrupts_it(begin: Begin) -> None:
    world = begin()
    process = world.process
    for number in range(100):
        process.ask("/", {"tenant": str(number)})
    parts = process.engine.kept()
    next(parts)
    world.published.add(limits(rate="1/h"))
    process.adopt()
    with pytest.raises(Interrupted):
        list(parts)


def test_nothing_is_saved_while_a_generation_is_being_adopted(begin: Begin) -> None:
    """The engine enforces it already, and the agent has not taken note of it yet."""
    world = begin()
    process = world.process
    process.ask("/", ACME, 4)
    process.kept.save()
    before = (world.folder / "counters").read_bytes()
    world.published.add(limits(rate="1/h", burst=2))
    old = process.good
    process.adopt()
    process.good, new = old, process.good
    process.kept.save()
    assert (world.folder / "counters").read_bytes() == before
    process.good = new
    process.kept.save()
    assert (world.folder / "counters").read_bytes() != before


def test_saves_that_are_always_interrupted_are_told(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = begin().process

    def interrupted(**_: object) -> None:
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(process.engine, "kept", interrupted)
        for _ in range(5):
            process.kept.save()
        assert process.problem is None
        process.kept.save()
        assert process.problem == "counters are not saved: the limits change all the time"
    process.kept.save()
    assert process.problem is None


def test_stop_ends_a_save_and_the_last_one_is_whole(begin: Begin) -> None:
    world = begin()
    world.process.ask("/", ACME, 3)
    world.process.kept.stop()
    world.process.kept.save(last=False)
    assert not (world.folder / "counters").exists()
    assert world.restart().left(ACME) == 2


def test_thread_saves_until_it_is_stopped(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ratectl.agent.kept_counters._SECONDS", 0.01)
    world = begin()
    world.process.ask("/", ACME, 3)
    thread = threading.Thread(target=world.process.kept.run)
    thread.start()
    for _ in range(1_000):
        if (world.folder / "counters").exists():
            break
        threading.Event().wait(0.01)
    world.process.kept.stop()
    thread.join(10)
    assert world.begin().left(ACME) == 2


# The start --------------------------------------------------------------------------------------


def test_process_that_has_not_started_does_not_overwrite_the_file(begin: Begin) -> None:
    world = begin()
    world.process.ask("/", ACME, 4)
    world.process.kept.save()
    later = world.begin()
    later.kept._started = False
    later.kept.save()
    assert world.begin().left(ACME) == 1


def test_boot_of_the_machine_does_not_matter(begin: Begin) -> None:
    world = begin()
    world.process.ask("/", ACME, 4)
    for booted in (START - 10**18, world.now[0], START - 1):
        assert world.restart(booted=booted).left(ACME) == 1
