"""The etcd backend, a thin client of our own on gRPC (see docs/adr/0001-etcd-client.md)."""

from __future__ import annotations

from ratectl.stores.etcd.status import MINIMUM_VERSION
from ratectl.stores.etcd.store import EtcdStore

__all__ = ["MINIMUM_VERSION", "EtcdStore"]
