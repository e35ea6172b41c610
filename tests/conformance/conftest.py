"""Every test here runs on every implementation: both stores, each engine."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from conformance.engine_rig import eager_threads, engine, rig  # noqa: F401 - fixtures
from ratectl.stores import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ratectl.stores.base import Store


@pytest.fixture(params=["sqlite", pytest.param("etcd", marks=pytest.mark.etcd)])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh environment."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/rates.db"
    url: str = request.getfixturevalue("etcd_server").store_url(f"store-{uuid.uuid4().hex[:12]}")
    return url


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    with open_store(store_url) as store:
        yield store
