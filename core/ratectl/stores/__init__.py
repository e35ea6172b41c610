"""Stores: the one place that knows which backends exist.

``open_store`` turns a URL into a :class:`~ratectl.stores.base.Store`; backends are imported only
when asked for, so that using SQLite does not load gRPC.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratectl.errors import UsageError
from ratectl.runtime.urls import shown

if TYPE_CHECKING:
    from ratectl.stores.base import Store

__all__ = ["check_url", "open_store"]


def check_url(url: str) -> None:
    """Whether ``url`` names a store, without connecting.

    :raises UsageError: it does not; the message says what to write.
    """
    open_store(url).close()


def open_store(url: str, *, timeout: float = 4.0) -> Store:
    """Open ``sqlite:///path`` or ``etcd://host:port[,host:port]/environment``.

    ``timeout`` bounds each call, in seconds.

    :raises UsageError: the URL is not one of these forms.
    """
    _check_text(url)
    scheme, separator, _ = url.partition("://")
    if separator and scheme == "sqlite":
        from ratectl.stores.sqlite import SqliteStore

        return SqliteStore.from_url(url, timeout=timeout)
    if separator and scheme in ("etcd", "etcds"):
        from ratectl.stores.etcd import EtcdStore

        return EtcdStore.from_url(url, timeout=timeout)
    raise UsageError(
        f"store {shown(url)!r} is not a store URL; use sqlite:///path/to/file.db "
        "or etcd://host:port[,host:port]/environment"
    )


def _check_text(url: str) -> None:
    """Refuse what a file or a shell added: it would become a part of a path.

    :raises UsageError: there are blanks around the URL, or control characters in it.
    """
    if url != url.strip() or any(ord(each) < 32 or ord(each) == 127 for each in url):
        raise UsageError(
            f"store {shown(url)!r} has blanks or line ends around it, or control characters in it: "
            "take them out"
        )
