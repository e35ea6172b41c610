"""gRPC channels to etcd: options, TLS, and targets for several members."""

from __future__ import annotations

import socket
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import grpc

from ratectl.errors import StoreUnavailable
from ratectl.stores.etcd import messages as m
from ratectl.stores.etcd.failures import in_plain_words, text
from ratectl.stores.etcd.rpc import STATUS, Channel, Scope

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratectl.stores.etcd.settings import Settings
    from ratectl.stores.locations import Address

__all__ = ["open_channel", "resolve", "silent_members", "target"]

_MAX_MESSAGE: Final = 64 << 20
_MEMBER_SECONDS: Final = 1.5


def silent_members(settings: Settings, timeout: float, scope: Scope) -> list[str]:
    """Return a sentence for each member that does not answer. All are asked at the same time."""
    name = _server_name(settings)
    answers: dict[Address, str] = {}

    def ask(address: Address, seconds: float) -> None:
        member = replace(settings, addresses=(address,), server_name=name)
        channel = None
        try:
            channel = open_channel(member, target(member, Scope(seconds)), timeout)
            channel.call(STATUS, m.StatusRequest(), (), Scope(seconds), seconds)
        except grpc.RpcError as error:
            answers[address] = in_plain_words(text(error))
        except StoreUnavailable as error:
            answers[address] = error.cause
        finally:
            if channel is not None:
                channel.close()

    seconds = min(_MEMBER_SECONDS, scope.remaining())
    threads = [
        threading.Thread(target=ask, args=(address, seconds), daemon=True)
        for address in settings.addresses
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds + 0.5)
    return [f"member {address} does not answer: {cause}" for address, cause in answers.items()]


def open_channel(settings: Settings, target_name: str, timeout: float) -> Channel:
    """Return a channel to ``target_name``; it connects with the first call."""
    options = _options(settings, timeout)
    if not settings.tls:
        return Channel(grpc.insecure_channel(target_name, options=options))
    credentials = grpc.ssl_channel_credentials(settings.ca, settings.key, settings.cert)
    return Channel(grpc.secure_channel(target_name, credentials, options=options))


def _options(settings: Settings, timeout: float) -> list[tuple[str, int | str]]:
    options: list[tuple[str, int | str]] = [
        # Pings detect a dead or frozen server. etcd refuses more than one in 5 s. The keepalive
        # timeout alone does not detect a stopped process; the http2 ping timeout does.
        ("grpc.keepalive_time_ms", 10_000),
        ("grpc.keepalive_timeout_ms", 3_000),
        ("grpc.http2.ping_timeout_ms", 3_000),
        ("grpc.http2.max_pings_without_data", 0),
        # Reconnect within 3 s after a server returns. A connection attempt that hangs fails
        # before the call's deadline, so that the error names the cause.
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 1_000),
        ("grpc.min_reconnect_backoff_ms", max(500, int(timeout * 750))),
        ("grpc.dns_min_time_between_resolutions_ms", 2_000),
        # A write must never be sent twice: no retries by gRPC, no retry policy from DNS.
        ("grpc.enable_retries", 0),
        ("grpc.service_config_disable_resolution", 1),
        # Use every member that is up. Each store has connections of its own.
        ("grpc.lb_policy_name", "round_robin"),
        ("grpc.use_local_subchannel_pool", 1),
        # HTTP proxies are for the web, not for the store.
        ("grpc.enable_http_proxy", 0),
        ("grpc.max_receive_message_length", _MAX_MESSAGE),
        ("grpc.max_send_message_length", _MAX_MESSAGE),
        ("grpc.primary_user_agent", "ratectl"),
    ]
    if settings.tls and (name := _server_name(settings)):
        options.append(("grpc.ssl_target_name_override", name))
    return options


def _server_name(settings: Settings) -> str | None:
    # A target of several addresses carries no host name to check certificates with.
    several = len(settings.addresses) > 1
    return settings.server_name or (settings.addresses[0].host if several else None)


def target(settings: Settings, scope: Scope) -> str:
    """Return the gRPC target that names all members.

    gRPC resolves one host name itself. It accepts no list of names, so several are resolved here.

    :raises StoreUnavailable: no name can be resolved.
    """
    addresses = settings.addresses
    if len(addresses) == 1 and not addresses[0].is_ip:
        return f"dns:///{addresses[0]}"
    return _join(resolve(addresses, scope))


def resolve(addresses: Sequence[Address], scope: Scope) -> list[tuple[str, int]]:
    """Return IP address and port of every member whose name resolves in time.

    :raises StoreUnavailable: no name does.
    """
    resolved: list[list[tuple[str, int]]] = [[] for _ in addresses]
    errors: list[str] = []

    def look_up(index: int, address: Address) -> None:
        try:
            answers = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        except OSError as error:
            errors.append(f"{address.host}: {error.strerror or error}")
        else:
            resolved[index] = [(str(answer[4][0]), int(answer[4][1])) for answer in answers]

    threads = []
    for index, address in enumerate(addresses):
        if address.is_ip:
            resolved[index] = [(address.host, address.port)]
        else:  # getaddrinfo has no timeout; a thread that takes longer ends by itself
            thread = threading.Thread(target=look_up, args=(index, address), daemon=True)
            thread.start()
            threads.append(thread)
    waiting = Scope(scope.remaining() / 2)  # the other half is for the call itself
    while not waiting.expired() and (running := [t for t in threads if t.is_alive()]):
        running[0].join(min(0.1, waiting.remaining()))
        scope.check()
    if not any(resolved):
        raise StoreUnavailable(
            ",".join(map(str, addresses)), "; ".join(errors) or "host names do not resolve in time"
        )
    return [_preferred(answers, resolved) for answers in resolved if answers]


def _preferred(
    answers: list[tuple[str, int]], members: list[list[tuple[str, int]]]
) -> tuple[str, int]:
    """Return an address of the family that all members have (IPv4 first), else the first."""
    for is_v6 in (False, True):
        if all(any((":" in ip) == is_v6 for ip, _ in member) for member in members if member):
            return next(answer for answer in answers if (":" in answer[0]) == is_v6)
    return answers[0]


def _join(addresses: list[tuple[str, int]]) -> str:
    unique = list(dict.fromkeys(addresses))
    if all(":" not in ip for ip, _ in unique):
        return "ipv4:" + ",".join(f"{ip}:{port}" for ip, port in unique)
    # A target holds one address family: beside IPv6, IPv4 addresses are written in mapped form.
    mapped = ((ip if ":" in ip else f"::ffff:{ip}", port) for ip, port in unique)
    return "ipv6:" + ",".join(f"[{ip}]:{port}" for ip, port in mapped)
