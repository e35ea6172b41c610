"""Rate limits for servers of gRPC, with threads or asyncio.

grpc.server(pool, interceptors=[RateLimitInterceptor(agent, by_method("/api"))])
grpc.aio.server(interceptors=[AioRateLimitInterceptor(agent, by_method("/api"))])
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

import grpc

from ratectl.agent.call_limiter import CallLimiter
from ratectl.contrib.grpc_status import refusal_of
from ratectl.contrib.web.sources import ClientIp, client_ip
from ratectl.errors import UsageError

if TYPE_CHECKING:
    from ratectl.agent import Agent
    from ratectl.agent.call_limiter import Source
    from ratectl.engine.cost import Cost
    from ratectl.engine.decision import Decision

    _Tell = Callable[[Any, Callable[[], None]], None]
    Sources = Mapping[str, Source | ClientIp] | Callable[..., Mapping[str, Any]] | None

__all__ = [
    "AioRateLimitInterceptor",
    "GrpcCall",
    "RateLimitInterceptor",
    "by_method",
    "client_ip",
    "metadata",
]

_KINDS: Final = {
    (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
    (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
    (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
    (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
}
"""Whether requests and responses are streams → the name of such calls, and what makes handlers."""


class GrpcCall:
    """A call, as the functions that users write see it."""

    __slots__ = ("context", "invocation_metadata", "method")

    def __init__(self, details: Any, context: Any) -> None:
        self.method: str = details.method
        """``/package.Service/Method``."""
        self.invocation_metadata: Iterable[tuple[str, str | bytes]] = details.invocation_metadata
        self.context = context
        """gRPC's own object for the call."""

    def headers(self, name: str) -> list[str]:
        """Return the values of a key of the metadata, in their order, without binary ones."""
        wanted = name.lower()
        pairs = self.invocation_metadata or ()
        return [value for key, value in pairs if key == wanted and isinstance(value, str)]

    def header(self, name: str) -> str | None:
        """Return the value of a key of the metadata, several joined; None if it is absent."""
        values = self.headers(name)
        return ", ".join(values) if values else None

    @property
    def peer(self) -> str | None:
        """Address that the connection came from; None for a Unix socket."""
        scheme, _, address = unquote(self.context.peer() or "").partition(":")
        return address if scheme in ("ipv4", "ipv6") else None


def by_method(prefix: str = "/") -> Callable[[GrpcCall], str]:
    """Return a function that gives each call the scope of its method, below a prefix.

    :raises UsageError: the prefix does not begin with a slash.
    """
    if not isinstance(prefix, str) or not prefix.startswith("/"):
        raise UsageError(f"a prefix of scopes begins with a slash, like /api, not {prefix!r}")
    above = prefix.rstrip("/")
    return lambda call: f"{above}/{call.method.removeprefix('/')}"  # clients choose the method


def metadata(name: str) -> Callable[[GrpcCall], str | None]:
    """Return a source of an attribute: the value of a key of the metadata. Clients choose it."""
    if not isinstance(name, str) or not name.strip() or name.lower().endswith("-bin"):
        raise UsageError(f"a key of the metadata is a text like 'x-tenant', not {name!r}")
    return lambda call: call.header(name)


class RateLimitInterceptor(grpc.ServerInterceptor):  # type: ignore[misc]  # gRPC has no types
    """Limits the calls of a ``grpc.server``. Slots are held until the handler has ended."""

    def __init__(
        self,
        agent: Agent,
        scope: str | Callable[[GrpcCall], str],
        attributes: Sources = None,
        cost: Cost | Callable[[GrpcCall], Cost] = 1,
        exempt: Collection[str] | Callable[[GrpcCall], bool] = (),
    ) -> None:
        """Functions take a ``GrpcCall``.

        ``scope``: a text, or a function such as ``by_method("/api")``. ``attributes``: for each a
        fixed text, ``metadata``, ``client_ip`` or a function, or one function that returns all;
        None is left out. ``cost``: that of each call, or a function. ``exempt``: methods or
        services that are not limited, like ``/grpc.health.v1.Health``, or a function.

        :raises UsageError: an argument cannot be used.
        """
        self._limits = _Limits(agent, scope, attributes, cost, exempt)

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        """Return the handler of a call, which asks before it runs."""
        return self._limits.limit(continuation(details), details, _tell_of_call)


class AioRateLimitInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # no types
    """Limits the calls of a ``grpc.aio.server``, like ``RateLimitInterceptor``."""

    def __init__(
        self,
        agent: Agent,
        scope: str | Callable[[GrpcCall], str],
        attributes: Sources = None,
        cost: Cost | Callable[[GrpcCall], Cost] = 1,
        exempt: Collection[str] | Callable[[GrpcCall], bool] = (),
    ) -> None:
        """Take the arguments of ``RateLimitInterceptor``.

        :raises UsageError: an argument cannot be used.
        """
        self._limits = _Limits(agent, scope, attributes, cost, exempt)

    async def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        """Return the handler of a call, which asks before it runs."""
        # With asyncio, gRPC does not tell functions that a call is over: its task does.
        tell = partial(_tell_of_task, asyncio.get_running_loop(), asyncio.current_task())
        return self._limits.limit(await continuation(details), details, tell)


class _Limits(CallLimiter):
    """Limits the handlers of both kinds of servers."""

    _fixed = (str, ClientIp)

    def __init__(self, agent: Agent, scope: Any, attributes: Any, cost: Any, exempt: Any) -> None:
        if isinstance(exempt, str) or not (callable(exempt) or isinstance(exempt, Collection)):
            raise UsageError(
                f"exempt is a list of methods, or a function of the call, not {exempt!r}"
            )
        self._methods = frozenset(() if callable(exempt) else exempt)
        super().__init__(agent, scope, attributes, cost, exempt if callable(exempt) else None)

    def limit(self, handler: Any, details: Any, tell: _Tell) -> Any:
        """Return a handler that asks before it runs; None if there is no such method.

        ``tell``: calls a function when the call is over.
        """
        method = details.method
        if handler is None or {method, method.rpartition("/")[0]} & self._methods:
            return handler
        name, make = _KINDS[handler.request_streaming, handler.response_streaming]
        behavior = getattr(handler, name)
        if inspect.isasyncgenfunction(behavior):
            limited = _async_stream(self, behavior, details)
        elif inspect.iscoroutinefunction(behavior):
            limited = _async_unary(self, behavior, details)  # or it writes a stream to the context
        elif handler.response_streaming:
            limited = _stream(self, behavior, details, tell)
        else:
            limited = _unary(self, behavior, details)
        return make(limited, handler.request_deserializer, handler.response_serializer)

    def _value(self, source: Any, scope: str, args: Any, kwargs: Any) -> object:
        if isinstance(source, ClientIp):
            return source.of(self.agent, scope, *args)
        return super()._value(source, scope, args, kwargs)


# Servers tell coroutines, generators and functions apart, so each is wrapped in its own kind.
# Servers with asyncio run functions in threads.


def _unary(limits: _Limits, behavior: Any, details: Any) -> Any:
    def handle(request: Any, context: Any) -> Any:
        with limits.ask(GrpcCall(details, context)) as decision:
            _abort_unless(decision, context)
            return behavior(request, context)

    return handle


def _stream(limits: _Limits, behavior: Any, details: Any, tell: _Tell) -> Any:
    def handle(request: Any, context: Any) -> Any:
        with limits.ask(GrpcCall(details, context)) as decision:
            _abort_unless(decision, context)
            stream = _Stream(decision)
            tell(context, stream.ended)
            for response in behavior(request, context):
                stream.working = False
                if stream.over:
                    return
                yield response
                stream.working = True

    return handle


class _Stream:
    """A stream of responses that a function yields.

    When a call is cancelled, gRPC may leave the function where it yielded, for ever.
    """

    def __init__(self, decision: Decision) -> None:
        self.working = True
        """True while the function works on a response, not while one is sent."""
        self.over = False
        self._decision = decision

    def ended(self) -> None:
        """Release the slots at the end of the call, unless the function still works."""
        self.over = True
        if not self.working:
            self._decision.release()


def _tell_of_call(context: Any, ended: Callable[[], None]) -> None:
    if not context.add_callback(ended):  # it is over already
        ended()


def _tell_of_task(loop: Any, task: Any, _: Any, ended: Callable[[], None]) -> None:
    loop.call_soon_threadsafe(task.add_done_callback, lambda _: ended())


def _async_unary(limits: _Limits, behavior: Any, details: Any) -> Any:
    async def handle(request: Any, context: Any) -> Any:
        with await limits.ask_in_task(GrpcCall(details, context)) as decision:
            if not decision:
                await context.abort(*refusal_of(decision))
            return await behavior(request, context)

    return handle


def _async_stream(limits: _Limits, behavior: Any, details: Any) -> Any:
    async def handle(request: Any, context: Any) -> Any:
        with await limits.ask_in_task(GrpcCall(details, context)) as decision:
            if not decision:
                await context.abort(*refusal_of(decision))
            async with aclosing(behavior(request, context)) as responses:
                async for response in responses:
                    yield response

    return handle


def _abort_unless(decision: Decision, context: Any) -> None:
    if not decision:
        code, details, trailers = refusal_of(decision)
        context.set_trailing_metadata(trailers)
        context.abort(code, details)
