"""Files are written whole, together, and keep their mode and owner."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ratectl.runtime.whole_files import write_together, write_whole

if TYPE_CHECKING:
    from collections.abc import Iterator

OTHER = 65533
USER = 65534


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder of an ordinary user; the test runs as that user."""
    # Not tmp_path: pytest does not let other users enter it.
    with tempfile.TemporaryDirectory() as name:
        if os.geteuid() != 0:
            yield Path(name)
            return
        os.chown(name, USER, USER)
        os.setegid(USER)
        os.seteuid(USER)
        try:
            yield Path(name)
        finally:
            os.seteuid(0)
            os.setegid(0)


def test_files_are_written_together(folder: Path) -> None:
    one, two = folder / "one", folder / "two"
    one.write_bytes(b"1")
    one.chmod(0o640)
    write_together({one: b"one", two: b"two"})
    assert (one.read_bytes(), two.read_bytes()) == (b"one", b"two")
    assert stat.S_IMODE(one.stat().st_mode) == 0o640
    assert sorted(path.name for path in folder.iterdir()) == ["one", "two"]


def test_file_without_write_permission_keeps_all_files_as_they_are(folder: Path) -> None:
    one, two = folder / "one", folder / "two"
    one.write_bytes(b"1")
    two.write_bytes(b"2")
    two.chmod(0o444)
    with pytest.raises(PermissionError) as refused:
        write_together({one: b"one", two: b"two"})
    assert refused.value.filename == str(two)
    notes = "; ".join(refused.value.__notes__)
    assert "run ratectl as its owner" in notes
    assert "no file was changed" in notes
    assert (one.read_bytes(), two.read_bytes()) == (b"1", b"2")
    assert sorted(path.name for path in folder.iterdir()) == ["one", "two"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of other users")
def test_file_of_another_owner_is_refused_or_keeps_its_owner(folder: Path) -> None:
    file = folder / "file"
    file.write_bytes(b"1")
    file.chmod(0o666)
    os.seteuid(0)
    os.chown(file, OTHER, OTHER)
    os.seteuid(USER)
    with pytest.raises(PermissionError):
        write_whole(file, b"2")
    assert file.read_bytes() == b"1"
    os.seteuid(0)
    write_whole(file, b"2")
    status = file.stat()
    assert (file.read_bytes(), status.st_uid, status.st_gid) == (b"2", OTHER, OTHER)
    assert stat.S_IMODE(status.st_mode) == 0o666
