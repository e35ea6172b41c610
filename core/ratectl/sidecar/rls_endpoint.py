"""Envoy's side of the sidecar's server: gRPC over HTTP/2."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ratectl.sidecar.http2 import Answering, GrpcConnection
from ratectl.sidecar.loop_server import Endpoint
from ratectl.sidecar.methods import UNAVAILABLE, CallError, answer_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from ratectl.agent.serving.tls import Tls
    from ratectl.runtime.address import Address
    from ratectl.sidecar.methods import Answer, Method, Methods
    from ratectl.sidecar.waiting_calls import WaitingCalls

__all__ = ["rls_endpoint"]


def rls_endpoint(
    methods: Methods, address: Address, tls: Tls | None, may_wait: Callable[[], bool]
) -> Endpoint:
    """Return the endpoint of the Rate Limit Service.

    :param may_wait: returns True if methods that may wait can do so now.
    """
    waiting = {methods.by_path[path] for path in methods.waiting}

    def speaker(threads: WaitingCalls, sent: Callable[[], None]) -> GrpcConnection:
        def run(
            method: Method, message: bytes, connection: GrpcConnection, stream: int
        ) -> Answer | None:
            if method not in waiting or not may_wait():
                return answer_of(method, message)
            answering = Answering(connection, stream)
            if threads.begin(partial(answer_of, method, message), answering, sent):
                return None
            return CallError(UNAVAILABLE, "too many calls wait")

        return GrpcConnection(methods.by_path, run, methods.streams)

    return Endpoint("rls", address, tls, "h2", speaker)
