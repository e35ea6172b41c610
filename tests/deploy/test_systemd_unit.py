"""The systemd unit: its command, and the checks of systemd itself."""

from __future__ import annotations

import inspect
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from agent_commands import known_flags
from charts import LAST_SAVE

from ratectl.sidecar import Sidecar

if TYPE_CHECKING:
    from collections.abc import Iterator

UNIT = Path(__file__).parents[2] / "deploy" / "systemd" / "ratectl-agent.service"
MOST_EXPOSED = 15
"""Tenths. systemd calls a service OK up to 4.9; usual ones have 9.6."""


def settings() -> Iterator[tuple[str, str]]:
    """Return the settings of the unit in order."""
    for line in UNIT.read_text("utf-8").splitlines():
        if line and line[0] not in "#[":
            name, _, value = line.partition("=")
            yield name, value


def setting(name: str) -> str:
    """Return the value of a setting that the unit has once."""
    (found,) = (value for each, value in settings() if each == name)
    return found


def analyze(*words: str | Path) -> str:
    """Run systemd-analyze. Without it, skip, or fail if RATECTL_REQUIRE_SYSTEMD=1."""
    program = shutil.which("systemd-analyze")
    if program is None:
        reason = "systemd is not installed"
        if os.environ.get("RATECTL_REQUIRE_SYSTEMD") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    done = subprocess.run(
        [program, *map(str, words)],
        capture_output=True, text=True, timeout=60, check=False,
        env=os.environ | {"SYSTEMD_EMOJI": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def installed(folder: Path, old: str = "", new: str = "") -> Path:
    """Return the path of the unit, whose program is the one of the tests; its text is changed."""
    text = UNIT.read_text("utf-8")
    assert old in text
    program = Path(sys.executable).parent / "ratectl"
    path = folder / UNIT.name
    path.write_text(text.replace("/opt/ratectl/bin/ratectl", str(program)).replace(old, new))
    return path


def test_the_command_exists_and_writes_into_the_folder_of_the_service() -> None:
    program, *words = shlex.split(setting("ExecStart"))
    assert program == "/opt/ratectl/bin/ratectl"
    assert words[:2] == ["agent", "run"]
    given = dict(zip(words[2::2], words[3::2], strict=True))
    assert given.keys() <= known_flags()
    assert given["--state-dir"] == f"%S/{setting('StateDirectory')}"
    for flag in ("--rls", "--metrics"):
        assert given[flag].startswith("127.0.0.1:"), "whoever reaches it can use up limits"


def test_no_fault_stops_it_for_good() -> None:
    """The exit status of wrong arguments is also that of a port in use, and of a damaged file."""
    given = dict(settings())
    assert given["Restart"] == "always"
    assert "RestartPreventExitStatus" not in given
    assert given["StartLimitIntervalSec"] == "0", "no limit of starts"
    assert 1 <= int(given["RestartSec"]) <= 10


def test_calls_that_have_begun_may_end_and_counters_are_saved() -> None:
    drain = inspect.signature(Sidecar.close).parameters["grace"].default
    assert int(setting("TimeoutStopSec")) >= drain + LAST_SAVE


def verified(unit: Path) -> None:
    """Assert that systemd has nothing to say; older ones print unknown settings, and succeed."""
    assert analyze("verify", "--recursive-errors=no", unit) == ""


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    verified(installed(tmp_path))


def test_a_misspelt_setting_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="PrivatTmp"):
        verified(installed(tmp_path, "PrivateTmp=", "PrivatTmp="))


def test_systemd_finds_little_exposure(tmp_path: Path) -> None:
    words = ("security", "--offline=true", "--no-pager", f"--threshold={MOST_EXPOSED}")
    level = re.search(r"exposure level for .*: ([\d.]+)", analyze(*words, installed(tmp_path)))
    assert level is not None
    assert float(level[1]) * 10 <= MOST_EXPOSED
    with pytest.raises(AssertionError):
        analyze(*words, installed(tmp_path, "CapabilityBoundingSet=\n", ""))
