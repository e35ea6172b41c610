"""Envoy's side of the sidecar's server: gRPC over HTTP/2."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ratectl.agent.log import log
from ratectl.sidecar.http2 import GrpcConnection, answer_of, run_here
from ratectl.sidecar.loop_server import Endpoint
from ratectl.sidecar.methods import INTERNAL, UNAVAILABLE, CallError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ratectl.agent.serving.tls import Tls
    from ratectl.runtime.address import Address
    from ratectl.sidecar.http2 import Answering
    from ratectl.sidecar.methods import Method, Methods
    from ratectl.sidecar.waiting_calls import WaitingCalls

__all__ = ["rls_endpoint"]


def rls_endpoint(
    methods: Methods, address: Address, tls: Tls | None, may_wait: Callable[[], bool]
) -> Endpoint:
    """Return the endpoint of the Rate Limit Service.

    :param may_wait: returns True if methods that may wait can do so now.
    """
    guarded = {path: _guarded(method) for path, method in methods.by_path.items()}
    waiting = {guarded[path] for path in methods.waiting}

    def speaker(threads: WaitingCalls, sent: Callable[[], None]) -> GrpcConnection:
        def run(method: Method, message: bytes, answering: Answering) -> None:
            if method not in waiting or not may_wait():
                run_here(method, message, answering)
            elif not threads.begin(partial(answer_of, method, message), answering, sent):
                answering(CallError(UNAVAILABLE, "too many calls wait"))

        return GrpcConnection(guarded, run)

    return Endpoint("rls", address, tls, "h2", speaker)


def _guarded(method: Method) -> Method:
    """Return a method whose failures end a call, and not the connection."""

    def guarded(message: bytes) -> bytes:
        try:
            return method(message)
        except CallError:
            raise
        except Exception:  # noqa: BLE001  Envoy decides what a failure means
            log.exception("a call of the sidecar failed")
            raise CallError(INTERNAL, "the limiter failed: see its log") from None

    return guarded
