"""Keys, and what tests of signatures do to stores with them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ratectl.generations import read_live
from ratectl.policy.bundle import digest
from ratectl.records import (
    BUNDLES,
    ENVIRONMENT,
    MANIFESTS,
    Environment,
    Head,
    Manifest,
)
from ratectl.signing import Signer, generate_key
from ratectl.stores.base import Delete, Put
from support import simple

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import ratectl
    from ratectl.stores.base import Store

    Make = Callable[..., ratectl.Agent]

ACME = {"tenant": "acme"}
GOOD, EVIL = simple("1/day", burst=2), simple("1000/s", burst=100_000)


class Keys:
    """A key pair, in files."""

    def __init__(self, folder: Path, name: str) -> None:
        self.public = folder / f"{name}.pub"
        private = folder / f"{name}.key"
        generate_key(private, self.public)
        self.signer = Signer.load(private)


def head_of(store: Store) -> Head:
    head = read_live(store).head
    assert head is not None
    return head


def environment_of(store: Store) -> str:
    item = store.get(ENVIRONMENT)
    assert item is not None
    return Environment.decode(item.value).id


def upload(store: Store, data: bytes, sha256: str | None = None) -> str:
    """Put bytes where a bundle of this hash would be."""
    sha256 = sha256 or digest(data)
    manifest = Manifest(size=len(data), chunks=1, wanted="2026-01-01T00:00:00.000Z")
    puts = [
        Put(f"{BUNDLES}{sha256}/00000", data),
        Put(MANIFESTS + sha256, manifest.encode()),
    ]
    others = [Delete(each.key) for each in store.list(f"{BUNDLES}{sha256}/").items[1:]]
    store.txn((), [*puts, *others])
    return sha256


def signed(store: Store, head: Head, signer: Signer, environment: str | None = None) -> Head:
    environment = environment or environment_of(store)
    return replace(head, signature=signer.sign("head", environment, head.signed_part()))
