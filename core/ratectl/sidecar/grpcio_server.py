"""A server of the sidecar's methods by grpcio: its threads answer."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import grpc

from ratectl.agent.serving.certificate import FileCertificate
from ratectl.errors import UsageError
from ratectl.runtime.address import Address
from ratectl.sidecar.methods import (
    MOST_BYTES,
    MOST_HEADERS,
    MOST_MESSAGES,
    MOST_STREAMS,
    TOO_MANY_MESSAGES,
    answer_of,
)
from ratectl.sidecar.statuses import RESOURCE_EXHAUSTED, CallError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratectl.agent.serving.tls import Tls
    from ratectl.sidecar.methods import Method, Methods

__all__ = ["MOST_STREAMED", "GrpcioServer"]

_THREADS: Final = 4
MOST_STREAMED: Final = 4
"""Open calls with many messages. Each has a thread of its own, which waits for the next message.
One would be too few: clients begin a call before the server has seen the end of the last one."""
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MOST_BYTES),
    ("grpc.max_metadata_size", MOST_HEADERS),
    ("grpc.max_concurrent_streams", MOST_STREAMS),
    ("grpc.so_reuseport", 0),  # another process on the port is an error
)
_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}


class GrpcioServer:
    """Listens until it is closed."""

    def __init__(self, methods: Methods, address: Address, tls: Tls | None) -> None:
        """Listen.

        :raises UsageError: the address or a certificate cannot be used.
        """
        credentials = None if tls is None else _credentials(tls)
        address.listen().close()  # says what is wrong; grpcio does not
        self._server = grpc.server(
            ThreadPoolExecutor(_THREADS + MOST_STREAMED, "ratectl-rls"),
            handlers=[_Handlers(methods)],
            options=_OPTIONS,
        )
        before = os.umask(0o177)  # for a Unix socket
        try:
            if credentials is None:
                port = self._server.add_insecure_port(str(address))
            else:
                port = self._server.add_secure_port(str(address), credentials)
        except RuntimeError:
            raise UsageError(f"cannot listen on {address}") from None
        finally:
            os.umask(before)
        self.address = address if address.path else Address(address.host, port)
        self._server.start()
        self._ended: threading.Event | None = None

    def end(self, grace: float) -> None:
        """Take no more calls, and end when those that are being answered have ended, in at most
        ``grace`` seconds. Returns at once.
        """
        self._ended = self._server.stop(grace)

    def wait(self) -> None:
        """Wait for the end."""
        if self._ended is not None:
            self._ended.wait()

    def in_child(self) -> None:
        """Do nothing: gRPC leaves the address to the parent."""


def _credentials(tls: Tls) -> Any:
    """Return credentials whose certificate is that of the files when a connection begins."""
    certificate = FileCertificate(tls, "--rls", "h2")

    def read() -> Any:
        files = (tls.key, tls.certificate, tls.client_ca)
        key, chain, authority = (each and Path(each).read_bytes() for each in files)
        return grpc.ssl_server_certificate_configuration([(key, chain)], authority)

    def newest() -> Any:
        return read() if certificate.has_changed() else None

    return grpc.dynamic_ssl_server_credentials(read(), newest, tls.client_ca is not None)


class _Handlers(grpc.GenericRpcHandler):  # type: ignore[misc]  # gRPC has no types
    def __init__(self, methods: Methods) -> None:
        streamed = threading.Semaphore(MOST_STREAMED)
        self._handlers = {
            path: grpc.stream_stream_rpc_method_handler(partial(_answer_each, method, streamed))
            if path in methods.streams
            else grpc.unary_unary_rpc_method_handler(partial(_answer, method))
            for path, method in methods.by_path.items()
        }

    def service(self, details: Any) -> Any:
        return self._handlers.get(details.method)


def _answer(method: Method, data: bytes, context: Any) -> bytes:
    answer = answer_of(method, data)
    if isinstance(answer, CallError):
        _abort(context, answer)
    return answer


def _abort(context: Any, error: CallError) -> NoReturn:
    context.abort(_CODES[error.code], str(error))
    raise AssertionError("abort raises")


def _answer_each(
    method: Method, streamed: threading.Semaphore, messages: Iterator[bytes], context: Any
) -> Iterator[bytes]:
    if not streamed.acquire(blocking=False):
        problem = f"{MOST_STREAMED} calls of this method are open"
        _abort(context, CallError(RESOURCE_EXHAUSTED, problem))
    try:
        for number, data in enumerate(messages):
            if number == MOST_MESSAGES:
                _abort(context, TOO_MANY_MESSAGES)
            yield _answer(method, data, context)
    finally:
        streamed.release()
