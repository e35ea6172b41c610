"""Fixtures of the stores' own tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file for a SQLite store; it is not there yet."""
    return tmp_path / "store.db"
