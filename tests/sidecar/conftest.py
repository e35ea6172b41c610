"""Loops that tests of the sidecar run on, and forked children."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def _use(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if loop == "asyncio":
        monkeypatch.setitem(sys.modules, "uvloop", None)  # as where it is not installed


@pytest.fixture(params=["uvloop", "asyncio"])
def loop(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of the loop that sidecars use."""
    name: str = request.param
    _use(name, monkeypatch)
    return name


@pytest.fixture(autouse=True)
def _loop_of_server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have servers by ngh2 use asyncio's own loop: each server is tested on one of the loops."""
    callspec = getattr(request.node, "callspec", None)
    if callspec is not None and "ngh2" in callspec.params.values():
        _use("asyncio", monkeypatch)


@pytest.fixture
def fork_and_wait() -> Iterator[Callable[[], None]]:
    """Fork children that wait until the test has ended."""
    children: list[tuple[int, int]] = []

    def fork() -> None:
        read, write = os.pipe()
        child = os.fork()
        if not child:
            os.close(write)
            os.read(read, 1)
            os._exit(0)
        os.close(read)
        children.append((child, write))

    yield fork
    for _, write in children:
        os.close(write)
    for child, _ in children:
        assert os.waitpid(child, 0)[1] == 0
