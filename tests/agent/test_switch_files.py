"""Files of the kill switch: what an agent finds in place of one, and what it keeps itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ratectl.agent.state import AgentState
from ratectl.agent.switches import FileSwitches, Switchboard
from ratectl.engine import engine_type
from ratectl.errors import BundleError
from ratectl.panic import load_switches, switch_file


def open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_what_is_no_regular_file_is_refused_and_closed(tmp_path: Path, kind: str):
    """Docker makes a folder where a file that is to be mounted is not there."""
    path = switch_file(tmp_path)
    path.mkdir() if kind == "folder" else os.mkfifo(path)
    before = open_files()
    for _ in range(3):
        with pytest.raises(BundleError, match="it is no regular file"):
            load_switches(path)
    assert open_files() == before


def test_a_folder_in_place_of_the_file_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    switch_file(tmp_path).mkdir()
    state = AgentState()
    file = FileSwitches(tmp_path, Switchboard(engine_type()(), state), state)
    held = []
    for _ in range(3):
        file.look()
        held.append(os.open(tmp_path, os.O_RDONLY))  # other descriptors come and go meanwhile
    for each in held:
        os.close(each)
    assert len(caplog.records) == 1
    assert "no regular file" in state.now.problems["panic-file"]
