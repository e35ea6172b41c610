"""`make soak` runs what the usual run does scaled down."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

import pytest

from soak import SOAK, scaled

ROOT: Final = Path(__file__).parents[1]


def test_every_scaled_test_is_soaked() -> None:
    ask = ["make", "-s", "--eval", "told:;@echo $(SOAKED_TESTS)", "told"]
    told = subprocess.run(ask, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    soaked = [ROOT / name for name in told.split()]
    assert [path for path in soaked if not path.exists()] == []
    left = [
        path
        for path in (ROOT / "tests").rglob("test_*.py")
        if "\nfrom soak import" in path.read_text("utf-8")
        and path != Path(__file__)
        and not any(path == each or path.is_relative_to(each) for each in soaked)
    ]
    assert left == [], "add them to SOAKED_TESTS in the Makefile"


@pytest.mark.skipif(SOAK, reason="the usual run")
def test_the_usual_run_is_the_short_one() -> None:
    assert scaled(1, 10) == 1
