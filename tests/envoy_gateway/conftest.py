"""Fixtures: a management server, and a sidecar that follows it."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from envoy_gateway.management_server import ManagementServer
from envoy_gateway.place import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Start = Callable[..., Place]


@pytest.fixture
def server() -> Iterator[ManagementServer]:
    with ManagementServer() as server:
        yield server


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/rates.db"


@pytest.fixture
def start(tmp_path: Path, url: str) -> Iterator[Start]:
    """Start a sidecar that follows the server at an address."""
    with ExitStack() as stack:

        def begin(address: str, **options: Any) -> Place:
            place = Place(tmp_path, options.pop("url", url), address, **options)
            stack.callback(place.close)
            return place

        yield begin
