"""Tests of each server of HTTP/2 are tests of a loop as well: what is spoken does not know it."""

from __future__ import annotations

import pytest

from sidecar.servers import use_loop


@pytest.fixture(autouse=True)
def loop_of_server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers by ngh2 use asyncio's own loop, all others uvloop's."""
    callspec = getattr(request.node, "callspec", None)
    if callspec is not None and "ngh2" in callspec.params.values():
        use_loop("asyncio", monkeypatch)
