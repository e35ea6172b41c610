"""Fixtures of tests that run on every store or every engine."""

from __future__ import annotations

import uuid

import pytest

from conformance.engine_rig import eager_threads, engine, rig  # noqa: F401 - fixtures


@pytest.fixture(params=["sqlite", "memory", pytest.param("etcd", marks=pytest.mark.etcd)])
def store_url(request: pytest.FixtureRequest) -> str:
    """Return the URL of a new environment, in each kind of store."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    if request.param == "sqlite":
        return f"sqlite:///{request.getfixturevalue('tmp_path')}/rates.db"
    if request.param == "memory":
        return f"memory://{name}"
    url: str = request.getfixturevalue("etcd_server").store_url(name)
    return url
