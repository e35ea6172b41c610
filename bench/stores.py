"""Stores for measurements: a SQLite file, and a real etcd if it is installed."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from etcd_server import EtcdServer, find_etcd

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Places", "places"]


class Places(NamedTuple):
    """Stores and state directory of a measurement."""

    urls: dict[str, str]
    """URL of a new store of each kind, by name."""
    state_dir: str
    """State directory of agents."""


@contextmanager
def places() -> Iterator[Places]:
    """Yield new stores, which are removed afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        server = EtcdServer.start() if find_etcd() else None
        urls = {"SQLite": f"sqlite:///{folder}/rates.db"}
        if server is None:
            print("  (no etcd installed: SQLite only)")
        else:
            urls["etcd"] = server.store_url("bench")
        try:
            yield Places(urls, f"{folder}/state")
        finally:
            if server is not None:
                server.stop()
