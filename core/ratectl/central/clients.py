"""Clients of redis-py for an address: one for threads, one for tasks."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from ratectl.errors import UsageError

if TYPE_CHECKING:
    from ratectl.central.address import ServerAddress

__all__ = ["check_installed", "client_of", "task_client_of"]

_MOST_CONNECTIONS: Final = 64
"""Connections of one client. A decision that waits for one longer than its deadline has failed."""

_TASKS_CONNECT: Final = 2.0
"""Seconds for a connection of an event loop to be made, TLS included."""


def check_installed() -> None:
    """:raises UsageError: redis-py is not installed."""
    try:
        import_module("redis")
    except ImportError:
        raise UsageError(
            "limits across: redis need the package redis: pip install 'ratectl[redis]'"
        ) from None


def client_of(address: ServerAddress, timeout: float) -> Any:
    """Return a client for threads. ``timeout``: seconds to wait for each step of the network."""
    return _client(address, timeout, "redis")


def task_client_of(address: ServerAddress, timeout: float) -> Any:
    """Return a client for the tasks of one event loop. To connect may take longer: no task waits
    for that beyond its own deadline."""
    return _client(address, timeout, "redis.asyncio", max(timeout, _TASKS_CONNECT))


def _client(
    address: ServerAddress, timeout: float, package: str, connect: float | None = None
) -> Any:
    redis = import_module(package)
    given = _arguments(address, timeout, package)
    given["socket_connect_timeout"] = connect or timeout
    if address.kind == "cluster":
        nodes = [
            import_module(f"{package}.cluster").ClusterNode(host, port)
            for host, port in address.hosts
        ]
        return redis.RedisCluster(startup_nodes=nodes, **given, **_tls(address))
    given |= {"db": address.db, "max_connections": _MOST_CONNECTIONS, "timeout": timeout}
    if address.kind == "sentinel":
        return _of_sentinels(address, package, given)
    connection = import_module(f"{package}.connection")
    if address.kind == "unix":
        kind, given["path"] = connection.UnixDomainSocketConnection, address.path
    else:
        kind = connection.SSLConnection if address.tls else connection.Connection
        given["host"], given["port"] = address.hosts[0]
        given |= _tls(address, ssl=False)
    pool = redis.BlockingConnectionPool(connection_class=kind, **given)
    return redis.Redis.from_pool(pool)


def _of_sentinels(address: ServerAddress, package: str, given: dict[str, Any]) -> Any:
    """Return a client of the master that sentinels name. They ask for no password."""
    redis, sentinel = import_module(package), import_module(f"{package}.sentinel")
    for name in ("max_connections", "timeout"):  # its pool does not wait for connections
        del given[name]
    asked = {
        name: given[name]
        for name in ("socket_timeout", "socket_connect_timeout", "retry", "protocol")
    }
    watch = sentinel.Sentinel(
        list(address.hosts), sentinel_kwargs=asked | _tls(address), **given, **_tls(address)
    )
    return watch.master_for(address.path, redis_class=redis.Redis)


def _arguments(address: ServerAddress, timeout: float, package: str) -> dict[str, Any]:
    retry = import_module(f"{package}.retry").Retry
    backoff = import_module("redis.backoff").NoBackoff
    return {
        "username": address.username,
        "password": address.password,
        "socket_timeout": timeout,
        # A decision is not repeated: it may have been made.
        "retry": retry(backoff(), 0),
        "protocol": 2,
    }


def _tls(address: ServerAddress, *, ssl: bool = True) -> dict[str, Any]:
    if not address.tls:
        return {}
    names = {"ca": "ssl_ca_certs", "cert": "ssl_certfile", "key": "ssl_keyfile"}
    files = {names[name]: path for name, path in address.files.items()}
    return files | ({"ssl": True} if ssl else {})
