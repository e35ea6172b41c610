"""The kinds of stores: a new backend is a folder beside this file and a line in ``BACKENDS``.

A backend is imported when one of its URLs is opened, so that using SQLite does not load gRPC.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Final

from ratectl.errors import UsageError
from ratectl.runtime.urls import shown
from ratectl.stores.locations import ETCD_FORM, etcd_keys, sqlite_keys

if TYPE_CHECKING:
    from collections.abc import Callable

    from ratectl.stores.base import Security, Store

__all__ = [
    "BACKENDS",
    "Backend",
    "check_form",
    "check_url",
    "in_one_process",
    "is_server",
    "open_store",
    "same_store",
    "security_of",
]


@dataclass(frozen=True, slots=True)
class Backend:
    """One kind of store."""

    schemes: tuple[str, ...]
    form: str
    """Form of its URLs, for messages."""
    keys: Callable[[str], frozenset[str]]
    """Read a URL without a connection; URLs with a common key name one store."""
    module: str
    store: str
    """Name of its subclass of ``Store`` in ``module``."""
    one_process: bool = False
    """True where other processes cannot open the same store."""
    server: bool = False
    """True for a server, which other machines use as well."""

    def load(self) -> type[Store]:
        """Import the backend."""
        store: type[Store] = getattr(import_module(self.module), self.store)
        return store


_SERVER: Final = re.compile(
    r"(?:https?:/*|etcds?:/?)?(?P<hosts>[\w.-]+:\d{1,5})(?:/(?P<environment>[\w.-]*))?"
)
_FILE: Final = re.compile(r"/?(?:[\w.-]+/)*[\w.-]+\.(?:db|sqlite3?)")
BACKENDS: Final = (
    Backend(
        ("sqlite",),
        "sqlite:///path/to/file.db",
        sqlite_keys,
        "ratectl.stores.sqlite",
        "SqliteStore",
    ),
    Backend(
        ("etcd", "etcds"), ETCD_FORM, etcd_keys, "ratectl.stores.etcd", "EtcdStore", server=True
    ),
    Backend(
        ("memory",),
        "memory://name",
        lambda url: frozenset((url,)),
        "ratectl.stores.memory",
        "MemoryStore",
        one_process=True,
    ),
)


def open_store(url: str, *, timeout: float = 4.0) -> Store:
    """Open the store of a URL. ``timeout`` bounds each call, in seconds.

    :raises UsageError: no backend knows the URL; the message names the forms that exist.
    """
    return _backend_of(url).load().from_url(url, timeout=timeout)


def check_url(url: str) -> None:
    """Check that a URL names a store, without connecting.

    :raises UsageError: it does not; the message says what to write.
    """
    open_store(url).close()


def check_form(url: str) -> None:
    """Check that a URL names a store that other processes can open. Imports no backend.

    :raises UsageError: it does not; the message says what to write.
    """
    backend = _backend_of(url)
    if backend.one_process:
        raise UsageError(
            f"store {shown(url)!r} is a store inside one process, for tests: name a "
            "file or a server"
        )
    backend.keys(url)


def same_store(url: str, other: str) -> bool:
    """Return True if two URLs name one file, or one environment of a common member of a cluster.

    :raises UsageError: one of them names no store.
    """
    return not _backend_of(url).keys(url).isdisjoint(_backend_of(other).keys(other))


def is_server(url: str) -> bool:
    """Return True for a store on a server, which other machines use as well."""
    backend = _find(url)
    return backend is not None and backend.server


def security_of(url: str) -> Security:
    """Return how the store of a URL is secured, without connecting.

    :raises UsageError: no backend knows the URL, or one of its settings is wrong.
    """
    return _backend_of(url).load().security(url)


def in_one_process(url: str) -> bool:
    """Return True for a store that no other process can open."""
    backend = _find(url)
    return backend is not None and backend.one_process


def _backend_of(url: str) -> Backend:
    _check_text(url)
    backend = _find(url)
    if backend is None:
        raise UsageError(f"store {shown(url)!r} is not a store URL; {_instead(url)}")
    return backend


def _instead(url: str) -> str:
    """Return what to write in place of a text that is no URL of a store."""
    server = _SERVER.fullmatch(url)
    if server is not None:
        scheme = "etcds" if url.startswith("https:") else "etcd"
        hosts, environment = server["hosts"], server["environment"]
        if environment:
            return f"write {scheme}://{hosts}/{environment}"
        return f"write {scheme}://{hosts}/ENVIRONMENT, like {scheme}://{hosts}/dev"
    if _FILE.fullmatch(url):
        relative = "" if url.startswith("/") else " (a relative path)"
        return f"write sqlite:///{url}{relative}"
    forms = " or ".join(known.form for known in BACKENDS if not known.one_process)
    return f"use {forms}"


def _find(url: str) -> Backend | None:
    scheme, separator, _ = url.partition("://")
    backends = (known for known in BACKENDS if separator and scheme in known.schemes)
    return next(backends, None)


def _check_text(url: str) -> None:
    """Refuse blanks and control characters: they would become part of a path.

    :raises UsageError: there are blanks around the URL, or control characters in it.
    """
    if url != url.strip() or any(ord(character) < 32 or ord(character) == 127 for character in url):
        raise UsageError(
            f"store {shown(url)!r} has blanks or line ends around it, or control characters in it: "
            "take them out"
        )
