"""Envoy's side of the sidecar's server: gRPC over HTTP/2."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ratectl.sidecar.http2 import Answering
from ratectl.sidecar.listener import Endpoint
from ratectl.sidecar.methods import answer_of
from ratectl.sidecar.statuses import UNAVAILABLE, CallError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ratectl.agent.serving.tls import Tls
    from ratectl.runtime.address import Address
    from ratectl.sidecar.http2 import GrpcConnection, MakeConnection
    from ratectl.sidecar.methods import Answer, Method, Methods
    from ratectl.sidecar.waiting_calls import WaitingCalls

__all__ = ["rls_endpoint"]


def rls_endpoint(
    methods: Methods,
    address: Address,
    tls: Tls | None,
    may_wait: Callable[[], bool],
    make: MakeConnection,
) -> Endpoint:
    """Return the endpoint of the Rate Limit Service.

    :param may_wait: returns True if methods that may wait can do so now.
    :param make: type of connections.
    """
    waiting = {methods.by_path[path] for path in methods.waiting}

    def speaker(threads: WaitingCalls, sent: Callable[[], None]) -> GrpcConnection:
        def later(
            method: Method, message: bytes, connection: GrpcConnection, stream: int
        ) -> Answer | None:
            if method not in waiting:
                return answer_of(method, message)
            answering = Answering(connection, stream)
            if threads.begin(partial(answer_of, method, message), answering, sent):
                return None
            return CallError(UNAVAILABLE, "too many calls wait")

        return make(methods.by_path, methods.streams, later, may_wait)

    return Endpoint("rls", address, tls, "h2", speaker)
