"""A management server for rate limits, after the documents of xDS and the behaviour of the one in
Envoy Gateway: a cache of one snapshot for each node, state of the world.

It answers a request at once unless the request names the version of the snapshot: also a refusal,
so a client that refuses at once is sent the same again and again.
"""

from __future__ import annotations

import queue
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import grpc
from envoy.service.discovery.v3.ads_pb2_grpc import (
    AggregatedDiscoveryServiceServicer,
    add_AggregatedDiscoveryServiceServicer_to_server,
)
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest, DiscoveryResponse
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.any_pb2 import Any as AnyMessage
from grpc_tools import protoc

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["NODE", "TYPE", "ManagementServer", "config", "limit", "packed"]

TYPE = "type.googleapis.com/ratelimit.config.ratelimit.v3.RateLimitConfig"
NODE = "envoy-ratelimit"


@cache
def _class() -> Any:
    """Return the class of configurations, made by protobuf's own compiler."""
    folder = Path(__file__).parent
    with tempfile.TemporaryDirectory() as out:
        found = f"{out}/found"
        assert protoc.main(["protoc", f"-I{folder}", f"-o{found}", "rls_conf.proto"]) == 0
        read = descriptor_pb2.FileDescriptorSet.FromString(Path(found).read_bytes())
    pool = descriptor_pool.DescriptorPool()
    pool.Add(read.file[0])
    name = TYPE.partition("/")[2]
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


def packed(fields: dict[str, Any]) -> AnyMessage:
    """Return a configuration as a resource; units are in capitals."""
    message = json_format.ParseDict(fields, _class()())
    return AnyMessage(type_url=TYPE, value=message.SerializeToString())


def limit(key: str, rate: str, value: str = "", **fields: Any) -> dict[str, Any]:
    """Return a descriptor with a rate like ``2/DAY``."""
    count, unit = rate.split("/")
    found: dict[str, Any] = {"key": key, **fields}
    if value:
        found["value"] = value
    found["rate_limit"] = {"requests_per_unit": int(count), "unit": unit}
    return found


def config(domain: str, *below: dict[str, Any], route: str = "first-route") -> dict[str, Any]:
    """Return a configuration as Envoy Gateway writes it: a route, and the limits of its rules."""
    top = {"key": route, "value": route, "descriptors": list(below)}
    return {"name": domain, "domain": domain, "descriptors": [top]}


class _Cache(AggregatedDiscoveryServiceServicer):
    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.snapshot: DiscoveryResponse | None = None
        self.requests: list[DiscoveryRequest] = []
        self.streams = 0
        self.is_closed = False
        self._nonce = 0

    def StreamAggregatedResources(  # noqa: N802  gRPC's name
        self, requests: Iterator[DiscoveryRequest], context: grpc.ServicerContext
    ) -> Iterator[Any]:
        waiting: queue.SimpleQueue[DiscoveryRequest | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, args=(requests, waiting), daemon=True).start()
        with self.changed:
            self.streams += 1
        context.add_callback(lambda: waiting.put(None))
        while (request := waiting.get()) is not None:
            response = self._response(request, context)
            if response is None:
                return
            yield response

    def _read(self, requests: Iterator[DiscoveryRequest], waiting: queue.SimpleQueue[Any]) -> None:
        try:
            for request in requests:
                with self.changed:
                    self.requests.append(request)
                    self.changed.notify_all()
                waiting.put(request)
        except grpc.RpcError:
            pass
        waiting.put(None)

    def _response(self, request: DiscoveryRequest, context: grpc.ServicerContext) -> Any:
        with self.changed:
            while not self._is_news(request):
                if self.is_closed or not context.is_active():
                    return None
                self.changed.wait(0.1)
            assert self.snapshot is not None
            self._nonce += 1
            found = DiscoveryResponse()
            found.CopyFrom(self.snapshot)
            found.nonce = str(self._nonce)
            return found

    def _is_news(self, request: DiscoveryRequest) -> bool:
        snapshot = self.snapshot
        if snapshot is None or request.node.id != NODE or request.type_url != TYPE:
            return False
        return request.version_info != snapshot.version_info or not request.response_nonce


class ManagementServer:
    """A running server on a free port."""

    def __init__(self, *, tls: Any = None, at: str = "127.0.0.1:0") -> None:
        """``tls``: credentials of gRPC. ``at``: where to listen."""
        self._cache = _Cache()
        self._pool = ThreadPoolExecutor(16)
        self._server = grpc.server(self._pool, options=[("grpc.so_reuseport", 0)])
        add_AggregatedDiscoveryServiceServicer_to_server(self._cache, self._server)
        port = (
            self._server.add_insecure_port(at)
            if tls is None
            else self._server.add_secure_port(at, tls)
        )
        self.address = f"{'127.0.0.1' if tls is None else 'localhost'}:{port}"
        self._server.start()

    def put(self, version: int | str, *resources: AnyMessage, kind: str = TYPE) -> None:
        """Send another snapshot from now on."""
        with self._cache.changed:
            self._cache.snapshot = DiscoveryResponse(
                version_info=str(version), resources=resources, type_url=kind
            )
            self._cache.changed.notify_all()

    @property
    def requests(self) -> Sequence[DiscoveryRequest]:
        """Requests of all clients, in order."""
        with self._cache.changed:
            return tuple(self._cache.requests)

    @property
    def streams(self) -> int:
        """Number of streams that were opened."""
        return self._cache.streams

    def accepted(self, version: int | str) -> bool:
        """Return True if a client has accepted this version."""
        return any(
            each.response_nonce and each.version_info == str(version) for each in self.requests
        )

    @property
    def refusals(self) -> list[str]:
        """Why clients have refused."""
        return [
            each.error_detail.message for each in self.requests if each.HasField("error_detail")
        ]

    def close(self) -> None:
        """End. Safe to repeat."""
        self._cache.is_closed = True
        self._server.stop(0).wait()
        self._pool.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
