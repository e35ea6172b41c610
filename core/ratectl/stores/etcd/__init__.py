"""The etcd backend, a thin client of our own on gRPC (see docs/adr/0001-etcd-client.md)."""

from __future__ import annotations

from ratectl.errors import UsageError

try:
    from ratectl.stores.etcd.status import MINIMUM_VERSION
    from ratectl.stores.etcd.store import EtcdStore
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in ("grpc", "google"):
        raise
    raise UsageError(
        f"etcd needs packages that are missing here ({error}): pip install grpcio protobuf"
    ) from None

__all__ = ["MINIMUM_VERSION", "EtcdStore"]
