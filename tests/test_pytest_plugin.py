"""The pytest plugin, in test runs of a project that has ratectl installed."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

POLICIES = "apiVersion: ratectl/v1\nscope: /\nlimits: {spike: {rate: 1/s, burst: 2}}\n"
TESTS = """
import threading

def test_limits(ratectl_agent):
    agent, other = ratectl_agent(), ratectl_agent({policies!r})
    assert [bool(agent.check("/")) for _ in range(3)] == [True, True, False]
    agent.clock.advance(1)
    assert agent.check("/")
    assert agent.clock is other.clock
    assert not any(thread.name.startswith("ratectl") for thread in threading.enumerate())

def test_each_test_has_full_buckets_and_its_own_time(ratectl_agent):
    agent = ratectl_agent()
    assert agent.check("/", cost=2)
    assert agent.clock.now.year == 2030
"""


@pytest.mark.parametrize("setting", ["", "ratectl_policies = 'limits/all.yaml'\n"])
def test_the_fixture_makes_agents(tmp_path: Path, setting: str) -> None:
    (tmp_path / "pyproject.toml").write_text(f"[tool.pytest.ini_options]\n{setting}")
    folder = tmp_path / ("limits" if setting else "policies")
    folder.mkdir()
    (folder / "all.yaml").write_text(POLICIES)
    (tmp_path / "test_limits.py").write_text(TESTS.format(policies=POLICIES))
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    assert "2 passed" in run.stdout


def test_a_project_that_does_not_use_it_loads_no_agent() -> None:
    code = "import sys, ratectl.contrib.pytest_plugin; print('ratectl.agent' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"
