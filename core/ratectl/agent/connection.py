"""The one connection to a store that all threads of an agent use."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from ratectl.stores import open_store

if TYPE_CHECKING:
    from ratectl.stores.base import Store

__all__ = ["Connection"]


class Connection:
    """Opened when it is first needed. A forked child needs another."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._store: Store | None = None

    def open(self) -> Store:
        """The store.

        :raises StoreError: it cannot be opened.
        """
        with self._lock:
            if self._store is None:
                self._store = open_store(self._url)
            return self._store

    def close(self) -> None:
        """Release it, after all threads have ended."""
        with self._lock:
            if self._store is not None:
                self._store.close()
                self._store = None
