"""Registry of backends: every backend is a store, and URLs select backends."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from ratectl.errors import UsageError
from ratectl.stores import check_url, in_one_process, open_store, security_of
from ratectl.stores.base import Protection, Security, Store
from ratectl.stores.registry import BACKENDS, Backend, same_store

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.schemes[0])
def test_every_backend_is_a_store(backend: Backend) -> None:
    store = backend.load()
    assert issubclass(store, Store)
    assert not getattr(store, "__abstractmethods__", None)


def test_no_two_backends_share_a_scheme() -> None:
    schemes = [scheme for backend in BACKENDS for scheme in backend.schemes]
    assert len(schemes) == len(set(schemes))


def test_error_for_an_unknown_scheme_lists_the_forms_of_urls() -> None:
    for use in (open_store, check_url, security_of):
        with pytest.raises(UsageError) as raised:
            use("redis://x")  # type: ignore[operator]
        for backend in BACKENDS:
            assert (backend.form in str(raised.value)) is not backend.one_process


@pytest.mark.parametrize("url", ["redis://x", "memory", "memory:x", "", "MEMORY://x", "://"])
def test_unknown_url_is_not_in_one_process(url: str) -> None:
    assert not in_one_process(url)


def test_only_memory_is_in_one_process() -> None:
    assert in_one_process("memory://x")
    assert not in_one_process("sqlite:///x.db")
    assert not in_one_process("etcd://host/prod")


SKIPPED, OK, WARNING = "skipped", "ok", "warning"


@pytest.mark.parametrize(
    ("url", "states"),
    [
        ("sqlite:///x.db", (SKIPPED, SKIPPED)),
        ("memory://x", (SKIPPED, SKIPPED)),
        ("etcd://127.0.0.1/prod", (OK, WARNING)),
        ("etcd://[::1]/prod", (OK, WARNING)),
        ("etcd://127.0.0.1,10.0.0.1/prod", (WARNING, WARNING)),
        ("etcds://host/prod", (OK, WARNING)),
    ],
)
def test_security_without_credentials(url: str, states: tuple[str, str]) -> None:
    security = security_of(url)
    assert (security.transport.state, security.access.state) == states


def test_security_with_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATECTL_ETCD_USER", "ada")
    monkeypatch.setenv("RATECTL_ETCD_PASSWORD", "secret")
    assert security_of("etcd://127.0.0.1/prod") == Security(
        Protection("ok", "off, but nothing leaves this machine"), Protection("ok", "user ada")
    )


@pytest.mark.parametrize("url", ["etcd://host", "sqlite://x", "memory://", "redis://x"])
def test_security_of_an_invalid_url_is_an_error(url: str) -> None:
    with pytest.raises(UsageError):
        security_of(url)


def test_backend_is_imported_only_when_its_url_is_opened() -> None:
    code = (
        "import sys; from ratectl.stores import open_store\n"
        "open_store('memory://x').put('a', b'')\n"
        "assert not {'grpc', 'sqlite3'} & set(sys.modules), sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ("etcds://B/prod", True),
        ("etcd://b:2379,c/prod", True),
        ("etcd://b:2380/prod", False),
        ("etcd://b/Prod", False),
        ("sqlite:///prod", False),
    ],
)
def test_urls_of_one_store(other: str, same: bool) -> None:
    assert same_store("etcd://a,b/prod", other) == same


def test_links_lead_to_one_file(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "rates.db")
    assert same_store(f"sqlite:///{tmp_path}/link.db", f"sqlite:///{tmp_path}/./rates.db")
