"""Files are written whole, together, and keep their mode and owner."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest

from other_user import NOBODY, as_user, open_folder, require_root
from ratectl.runtime.whole_files import write_together, write_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OTHER = 65533
T = TypeVar("T")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder of an ordinary user."""
    with open_folder() as path:
        _give(path, NOBODY)
        yield path


def _give(path: Path, user: int) -> None:
    if os.geteuid() == 0:
        os.chown(path, user, user)


def as_ordinary_user(body: Callable[[], T]) -> T:
    return as_user(NOBODY, body) if os.geteuid() == 0 else body()


def refused(files: dict[Path, bytes]) -> tuple[str, str]:
    """Return the file that an ordinary user cannot write, and what the error notes."""

    def write() -> tuple[str, str]:
        with pytest.raises(PermissionError) as error:
            write_together(files)
        return error.value.filename, "; ".join(error.value.__notes__)

    return as_ordinary_user(write)


def test_files_are_written_together(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"1")
    one.chmod(0o640)
    write_together({one: b"one", two: b"two"})
    assert (one.read_bytes(), two.read_bytes()) == (b"one", b"two")
    assert stat.S_IMODE(one.stat().st_mode) == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_file_without_write_permission_keeps_all_files_as_they_are(folder: Path) -> None:
    one, two = folder / "one", folder / "two"
    for path in (one, two):
        path.write_bytes(b"1")
        _give(path, NOBODY)
    two.chmod(0o444)
    name, notes = refused({one: b"one", two: b"two"})
    assert name == str(two)
    assert "run ratectl as its owner" in notes
    assert "no file was changed" in notes
    assert (one.read_bytes(), two.read_bytes()) == (b"1", b"1")
    assert sorted(path.name for path in folder.iterdir()) == ["one", "two"]


def test_file_of_another_owner_is_refused_or_keeps_its_owner(folder: Path) -> None:
    require_root()
    file = folder / "file"
    file.write_bytes(b"1")
    file.chmod(0o666)
    _give(file, OTHER)
    name, notes = refused({file: b"2"})
    assert (name, f"belongs to user {OTHER}" in notes) == (str(file), True)
    assert file.read_bytes() == b"1"
    write_whole(file, b"2")
    status = file.stat()
    assert (file.read_bytes(), status.st_uid, status.st_gid) == (b"2", OTHER, OTHER)
    assert stat.S_IMODE(status.st_mode) == 0o666


# Devices and pipes ------------------------------------------------------------------------------


def test_device_is_written_and_stays_a_device(tmp_path: Path) -> None:
    """As root, a file in its place would break the system: ``--out /dev/null``."""
    if os.geteuid() == 0:
        null = tmp_path / "null"
        try:
            os.mknod(null, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        except PermissionError:
            pytest.skip("this container makes no devices")
    else:
        null = Path("/dev/null")
    write_whole(null, b"data")
    assert stat.S_ISCHR(null.lstat().st_mode)


def test_pipe_gets_the_data(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    link = tmp_path / "link"
    link.symlink_to(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_whole(link, b"data")
        assert os.read(reader, 10) == b"data"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.lstat().st_mode)


def test_device_without_room_is_an_error(tmp_path: Path) -> None:
    if not Path("/dev/full").is_char_device():
        pytest.skip("needs /dev/full")
    with pytest.raises(OSError, match="No space left"):
        write_whole(Path("/dev/full"), b"data")
