"""Locations that the URLs of stores name: read without a connection, and without a backend."""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from typing import Final

from ratectl.errors import UsageError
from ratectl.runtime.urls import holds_password, shown

__all__ = [
    "DEFAULT_PORT", "ETCD_FORM", "Address", "EtcdLocation", "etcd_keys", "etcd_location",
    "sqlite_keys", "sqlite_path",
]  # fmt: skip

DEFAULT_PORT: Final = 2379
ETCD_FORM: Final = "etcd://host:port[,host:port]/environment"

_NAME: Final = re.compile(r"[A-Za-z0-9._-]+")
_HOST: Final = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Address:
    """Host (a name or an IP address, without brackets) and port."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def is_ip(self) -> bool:
        """True if the host is an IP address."""
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return False
        return True

    @property
    def is_loopback(self) -> bool:
        """True if the traffic stays on this machine."""
        if self.is_ip:
            return ipaddress.ip_address(self.host).is_loopback
        return self.host == "localhost"

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read ``host``, ``host:port``, ``1.2.3.4:port`` or ``[::1]:port``.

        :raises UsageError: it is none of these. The text is not quoted: it may be a password.
        """
        host, port = text, ""
        if text.startswith("["):
            host, _, rest = text[1:].partition("]")
            _check(not rest or rest.startswith(":"), "an address is not [host]:port")
            port = rest[1:]
            _check(Address(host, 0).is_ip, "what stands in brackets is not an IPv6 address")
        else:
            _check(text.count(":") < 2, f"write an IPv6 address in brackets: [::1]:{DEFAULT_PORT}")
            host, _, port = text.partition(":")
            _check(_HOST.fullmatch(host) is not None, "an address is not host:port")
        number = int(port) if port.isdecimal() and port.isascii() else 0 if port else DEFAULT_PORT
        _check(0 < number < 65536, "a port is not a number from 1 to 65535")
        return cls(host, number)


@dataclass(frozen=True, slots=True)
class EtcdLocation:
    """Cluster and environment that a URL names."""

    addresses: tuple[Address, ...]
    environment: str
    tls: bool


def etcd_location(url: str) -> EtcdLocation:
    """Read ``etcd://host:port[,host:port]/environment`` (``etcds://``: TLS).

    :raises UsageError: the URL has another form.
    """
    scheme, _, rest = url.partition("://")
    place = f"store URL {shown(url)!r}"
    _check(
        scheme in ("etcd", "etcds"), f"{place}: the scheme is not etcd or etcds; use {ETCD_FORM}"
    )
    _check(
        "@" not in rest,
        f"{place} must not hold a user or password; set RATECTL_ETCD_USER and "
        "RATECTL_ETCD_PASSWORD or RATECTL_ETCD_PASSWORD_FILE instead",
    )
    hosts, _, environment = rest.partition("/")
    cluster = shown(f"{scheme}://{hosts or f'host:{DEFAULT_PORT}'}")
    _check(
        bool(environment),
        f"{place} names no environment: write {cluster}/ENVIRONMENT, like {cluster}/dev",
    )
    _check(
        _NAME.fullmatch(environment) is not None,
        f"{place} takes no options, and its environment may hold only letters, digits, '.', "
        f"'_' and '-'; use {ETCD_FORM}",
    )
    try:
        addresses = tuple(dict.fromkeys(Address.parse(part) for part in hosts.split(",")))
    except UsageError as error:
        raise UsageError(f"{place}: {error}") from None
    return EtcdLocation(addresses, environment, scheme == "etcds")


def etcd_keys(url: str) -> frozenset[str]:
    """Return a text for each member of the cluster; URLs with a common one are the same store."""
    location = etcd_location(url)
    hosts = (str(address).lower() for address in location.addresses)
    return frozenset(f"{host}/{location.environment}" for host in hosts)


def sqlite_path(url: str) -> str:
    """Read ``sqlite:///relative/path.db`` or ``sqlite:////absolute/path.db``; return the path.

    :raises UsageError: another form, or a database in memory.
    """
    scheme, _, rest = url.partition("://")
    url = shown(url)
    hint = "write sqlite:///relative/path.db or sqlite:////absolute/path.db"
    if scheme == "sqlite" and re.fullmatch(r"[\w.-]+(?:/[\w.-]+)*", rest):
        hint = f"write sqlite:///{rest} (a relative path)"
    if scheme != "sqlite" or not rest.startswith("/"):
        raise UsageError(f"store {url!r} does not name a file: {hint}")
    path = rest[1:]
    if holds_password(path):
        raise UsageError(f"store {url!r}: a file has no user or password: {hint}")
    if not path or path == ":memory:":
        raise UsageError(f"store {url!r}: several processes share a store, so it is a file: {hint}")
    if path.endswith("/") or "\0" in path or "?" in path:
        raise UsageError(f"store {url!r} does not name a file (options are not known): {hint}")
    if path.startswith("~"):
        raise UsageError(f"store {url!r}: ~ is not expanded: {hint}")
    return path


def sqlite_keys(url: str) -> frozenset[str]:
    """Return the path of the file without links, alone."""
    return frozenset((os.path.realpath(sqlite_path(url)),))


def _check(holds: bool, message: str) -> None:
    if not holds:
        raise UsageError(message)
