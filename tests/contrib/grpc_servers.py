"""Real gRPC servers with limits: with threads, and with asyncio in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from concurrent import futures
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc

from ratectl.contrib.grpc import AioRateLimitInterceptor, RateLimitInterceptor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from ratectl import Agent

__all__ = ["KINDS", "Calls", "served"]

KINDS = ["threads", "asyncio", "functions", "writers"]
"""Handlers: functions in threads; coroutines; functions, or coroutines that write, in asyncio."""

_METHODS = {
    "UnaryUnary": ("unary_unary", grpc.unary_unary_rpc_method_handler),
    "UnaryStream": ("unary_stream", grpc.unary_stream_rpc_method_handler),
    "StreamUnary": ("stream_unary", grpc.stream_unary_rpc_method_handler),
    "StreamStream": ("stream_stream", grpc.stream_stream_rpc_method_handler),
}


class Functions:
    """Handlers that echo requests. The request ``fail`` raises, ``wait`` waits."""

    def __init__(self) -> None:
        self.waits = threading.Event()
        """Set once a handler has the request ``wait``."""
        self.go_on = threading.Event()

    def one(self, request: bytes) -> bytes:
        if request == b"fail":
            raise KeyError("an error of the application")
        if request == b"wait":
            self.waits.set()
            assert self.go_on.wait(20)
        return request

    def unary_unary(self, request: bytes, context: Any) -> bytes:
        return self.one(request)

    def unary_stream(self, request: bytes, context: Any) -> Iterator[bytes]:
        for part in request.split():
            yield self.one(part)

    def stream_unary(self, requests: Iterator[bytes], context: Any) -> bytes:
        return b" ".join(self.one(request) for request in requests)

    def stream_stream(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        for request in requests:
            yield self.one(request)


class Coroutines(Functions):
    """Methods of a service that are coroutines."""

    async def answer(self, request: bytes) -> bytes:
        while request == b"wait" and not self.go_on.is_set():
            self.waits.set()
            await asyncio.sleep(0.01)
        return self.one(request)

    async def unary_unary(self, request: bytes, context: Any) -> bytes:  # type: ignore[override]
        return await self.answer(request)

    async def unary_stream(self, request: bytes, context: Any) -> AsyncIterator[bytes]:  # type: ignore[override]
        for part in request.split():
            yield await self.answer(part)

    async def stream_unary(self, requests: Any, context: Any) -> bytes:  # type: ignore[override]
        return b" ".join([await self.answer(request) async for request in requests])

    async def stream_stream(self, requests: Any, context: Any) -> AsyncIterator[bytes]:  # type: ignore[override]
        async for request in requests:
            yield await self.answer(request)


class Writers(Coroutines):
    """Methods of a service that read requests from the context and write responses to it."""

    async def unary_stream(self, request: bytes, context: Any) -> None:  # type: ignore[override]
        for part in request.split():
            await context.write(await self.answer(part))

    async def stream_stream(self, requests: Any, context: Any) -> None:  # type: ignore[override]
        while (request := await context.read()) is not grpc.aio.EOF:
            await context.write(await self.answer(request))


class Calls:
    """A client of such a server. Requests are texts."""

    def __init__(self, channel: grpc.Channel, handlers: Functions) -> None:
        self.channel = channel
        self.handlers = handlers

    def start(self, method: str, *requests: str, **options: Any) -> Any:
        """Start a call: a future of one response, or an iterator of responses."""
        name, _ = _METHODS[method]
        call = getattr(self.channel, name)(f"/shop.Cart/{method}")
        sent: Any = (request.encode() for request in requests)
        if name.startswith("unary"):
            sent = " ".join(requests).encode()
        start = call if name.endswith("stream") else call.future
        return start(sent, timeout=20, **options)

    def call(self, method: str, *requests: str, **options: Any) -> str:
        """Return the responses of a call, joined."""
        started = self.start(method, *requests, **options)
        responses = [started.result()] if not method.endswith("Stream") else list(started)
        return b" ".join(responses).decode()


@contextmanager
def served(
    agent: Agent, kind: str, scope: Any, *args: Any, address: str = "127.0.0.1:0", **options: Any
) -> Iterator[Calls]:
    """Run a server with limits, and yield a client of it."""
    if kind == "threads":
        interceptor: Any = RateLimitInterceptor(agent, scope, *args, **options)
    else:
        interceptor = AioRateLimitInterceptor(agent, scope, *args, **options)
    make = {"asyncio": Coroutines, "writers": Writers}.get(kind, Functions)
    handlers = make()
    methods = {name: each(getattr(handlers, key)) for name, (key, each) in _METHODS.items()}
    generic = grpc.method_handlers_generic_handler("shop.Cart", methods)
    run = _in_threads if kind == "threads" else _in_asyncio
    with run(generic, interceptor, address) as target, grpc.insecure_channel(target) as channel:
        try:
            yield Calls(channel, handlers)
        finally:
            handlers.go_on.set()


@contextmanager
def _in_threads(generic: Any, interceptor: Any, address: str) -> Iterator[str]:
    with futures.ThreadPoolExecutor(8) as pool:
        server = grpc.server(pool, handlers=[generic], interceptors=[interceptor])
        port = server.add_insecure_port(address)
        server.start()
        try:
            yield _target(address, port)
        finally:
            server.stop(0).wait()


@contextmanager
def _in_asyncio(generic: Any, interceptor: Any, address: str) -> Iterator[str]:
    ready: futures.Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, int]] = futures.Future()

    async def serve() -> None:
        with futures.ThreadPoolExecutor(8) as pool:
            server = grpc.aio.server(pool, handlers=[generic], interceptors=[interceptor])
            port = server.add_insecure_port(address)
            await server.start()
            stop = asyncio.Event()
            ready.set_result((asyncio.get_running_loop(), stop, port))
            await stop.wait()
            await server.stop(0)
            for _ in range(4):  # gRPC leaves threads of cancelled streams waiting for these
                await asyncio.sleep(0.02)
                for task in asyncio.all_tasks() - {asyncio.current_task()}:
                    task.cancel()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    loop, stop, port = ready.result(20)
    try:
        yield _target(address, port)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)


def _target(address: str, port: int) -> str:
    return address if address.startswith("unix:") else f"{address.rpartition(':')[0]}:{port}"
