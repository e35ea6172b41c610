"""Benchmarks keep up with the code: every module imports, and the names that they replace exist."""

from __future__ import annotations

import sys
import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine.engines import MakeEngine, each_engine

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in ROOT.glob("bench/**/*.py")
)


@pytest.fixture(autouse=True)
def benches_are_importable() -> Iterator[None]:
    sys.path.insert(0, str(ROOT))
    yield
    sys.path.remove(str(ROOT))


def test_there_are_benches() -> None:
    assert "bench.decisions" in MODULES


@pytest.mark.parametrize("name", MODULES)
def test_each_module_can_be_imported(name: str) -> None:
    import_module(name)


@each_engine
def test_parts_of_a_reload_are_found(make: MakeEngine) -> None:
    engine = make(time.monotonic_ns)
    with import_module("bench.reload").followed(engine) as journal:
        assert journal.slices == []
