"""The file of counters: damaged, foreign and unwritable ones are told, and decisions go on."""

from __future__ import annotations

import errno
import json
import os
import stat
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ratectl.agent.counter_file as counter_file
from agent.restart_support import SECOND, SECRET, World
from engine.engines import ENGINES
from ratectl.agent.counter_file import CounterFile, Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LIMIT: Final = {"/": {"limits": {"l": {"rate": "1/day", "burst": 5, "per": "tenant"}}}}
ACME: Final = {"tenant": "acme"}
ZETA: Final = {"tenant": "zeta"}

SNAPSHOT: Final[dict[str, Any]] = {
    "engine": "pure", "environment": "prod", "generation": 1, "bundle": f"{1:064x}",
    "started": "2030-01-01T00:00:00+00:00", "handled": None,
}  # fmt: skip


@pytest.fixture(params=sorted(ENGINES))
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    """An agent that has 3 of 5 tokens left for one key."""
    world = World(ENGINES[request.param], tmp_path, LIMIT)
    world.process.ask("/", ACME, 2)
    world.process.kept.save()
    return world


def file_of(world: World) -> Path:
    return world.folder / "counters"


def starts_at_zero(world: World) -> str:
    """Begin another process; return the problem that it tells, as its buckets are full."""
    process = world.begin()
    assert (process.left(ACME), process.left(ZETA)) == (5, 5)
    assert process.problem is not None
    return process.problem


def test_file_is_for_its_owner_alone(world: World) -> None:
    before = os.umask(0)
    try:
        world.process.kept.save()
    finally:
        os.umask(before)
    assert stat.S_IMODE(file_of(world).stat().st_mode) == 0o600
    assert [path.name for path in world.folder.iterdir()] == ["counters"]


def swapped_lines(data: bytes) -> bytes:
    first, second, *rest = data.splitlines(keepends=True)
    return b"".join([second, first, *rest])


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"",
        lambda _: b"\n",
        lambda _: b"\0" * 10_000,
        lambda _: b"[" * 1_000_000,
        lambda data: data[:-1],
        lambda data: data[1:],
        lambda data: data * 2,
        lambda data: data + b"\n",
        lambda data: data + b"[]\n",
        lambda data: b"".join(data.splitlines(keepends=True)[:-1]),
        lambda data: b"".join(data.splitlines(keepends=True)[1:]),
        lambda data: data.splitlines(keepends=True)[-1],
        lambda data: data.upper(),
        swapped_lines,
    ],
)
def test_damaged_file_is_told(world: World, damage: Callable[[bytes], bytes]) -> None:
    file_of(world).write_bytes(damage(file_of(world).read_bytes()))
    assert "damaged" in starts_at_zero(world)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_changed_bytes_are_found(world: World, data: st.DataObject) -> None:
    world.process.kept.save()
    intact = file_of(world).read_bytes()
    at = data.draw(st.integers(0, len(intact) - 1))
    piece = data.draw(st.binary(max_size=8))
    changed = intact[:at] + piece + intact[at + data.draw(st.integers(0, 8)) :]
    file_of(world).write_bytes(changed)
    if changed == intact:
        assert world.begin().left(ACME) == 3
    else:
        starts_at_zero(world)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
            lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner),
            max_leaves=20,
        ),
        max_size=6,
    ),
    st.booleans(),
)
def test_strange_lines_under_an_intact_seal_are_told(
    world: World, values: list[Any], in_place: bool
) -> None:
    """An attacker with the secret may write any line: the agent starts, and obeys its limits."""
    group = ["/", "l", False, [], ["tenant"], "requests"]
    rule = "TokenBucket(7, 604800000000000, 5)"
    lines = [[group, rule, None, [], values] if in_place else value for value in values]
    sealed(world, lines)
    process = world.begin()
    admitted = sum(bool(process.ask("/", ACME)) for _ in range(10))
    assert admitted <= 5


def sealed(world: World, lines: list[Any], **changes: Any) -> None:
    """Write a file with any lines, and an intact seal."""
    described = {**SNAPSHOT, "engine": world.process.engine.name, "offset": 0}
    snapshot = Snapshot(**{**described, "time": world.now[0], "latest": world.now[0], **changes})
    CounterFile(file_of(world), SECRET).write(lines, snapshot)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"environment": "test"}, "it is of the environment test, and not of prod"),
        ({"environment": None}, "it is of the environment None, and not of prod"),
        ({"engine": "rust"}, "its keys are those of the rust engine"),
        ({"bundle": "f" * 64}, "not on disk"),
        ({"latest": 1 << 62}, "it is from the future, by "),
        ({"started": "yesterday"}, "Invalid isoformat string"),
        ({"time": "now"}, "cannot be used"),
        ({"offset": 1 << 200}, None),
    ],
)
def test_foreign_file_is_told(world: World, changes: Any, problem: str | None) -> None:
    sealed(world, [], **changes)
    told = world.begin().problem
    assert (told is None) if problem is None else (told is not None and problem in told)
    assert world.begin().left(ACME) == 5


def test_file_of_another_version_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counter_file, "_FORMAT", 2)
    world.process.kept.save()
    monkeypatch.undo()
    assert "another version of ratectl has written it" in starts_at_zero(world)


def test_file_of_another_secret_is_told(world: World) -> None:
    process = world.begin(secret=b"x" * 16)
    assert process.left(ACME) == 5
    assert "was written under another secret" in (process.problem or "")


def test_huge_file_is_not_read(world: World) -> None:
    with file_of(world).open("r+b") as file:
        file.truncate(5 << 30)
    assert "it has more than 4 GiB" in starts_at_zero(world)


def test_larger_file_than_is_read_is_not_written(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = file_of(world).read_bytes()
    monkeypatch.setattr(counter_file, "_MOST_BYTES", 100)
    world.process.kept.save()
    assert "it would have more than" in (world.process.problem or "")
    assert file_of(world).read_bytes() == before


@pytest.mark.parametrize("what", ["link", "folder", "pipe"])
def test_only_a_regular_file_is_read(world: World, what: str, tmp_path: Path) -> None:
    path = file_of(world)
    moved = path.rename(tmp_path / "elsewhere")
    if what == "link":
        path.symlink_to(moved)
    elif what == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    starts_at_zero(world)


@pytest.mark.parametrize("name", ["counters", "counters.new"])
def test_link_is_replaced_and_not_followed(world: World, name: str, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (world.folder / name).unlink(missing_ok=True)
    (world.folder / name).symlink_to(victim)
    world.process.kept.save()
    assert victim.read_text() == "mine"
    assert world.begin().left(ACME) == 3
    assert not file_of(world).is_symlink()


def test_what_a_killed_process_left_is_replaced(world: World) -> None:
    (world.folder / "counters.new").write_bytes(b"half of a")
    assert world.restart().left(ACME) == 3
    assert not (world.folder / "counters.new").exists()


@pytest.mark.parametrize("failing", ["fsync", "open", "replace"])
def test_disk_that_fails_is_told_once_and_decisions_go_on(
    world: World, failing: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = file_of(world).read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    process = world.process
    with monkeypatch.context() as patch:
        patch.setattr(os, failing, full)
        process.kept.save()
        process.kept.save()
        assert process.ask("/", ACME)
    assert "No space left on device" in (process.problem or "")
    assert len(caplog.records) == 1
    assert file_of(world).read_bytes() == before
    assert [path.name for path in world.folder.iterdir()] == ["counters"]
    process.kept.save()
    assert process.problem is None
    assert world.begin().left(ACME) == 2


def test_folder_that_is_gone_is_told(world: World) -> None:
    file_of(world).unlink()
    world.folder.rmdir()
    world.process.kept.save()
    assert "No such file or directory" in (world.process.problem or "")
    assert world.process.left(ACME) == 3


def test_lines_are_json_that_people_can_read(world: World) -> None:
    part, description, seal = file_of(world).read_text().splitlines()
    assert json.loads(part)[0] == ["/", "l", False, [], ["tenant"], "requests"]
    assert json.loads(description)["time"] // SECOND == 1_893_456_000
    assert len(seal) == 128
