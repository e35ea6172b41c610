"""Settings of an etcd environment: its URL, and the credentials that must not be in a URL.

    etcd://host:port[,host:port]/environment      plaintext
    etcds://host:port[,host:port]/environment     TLS

User, password and certificates come from the environment (``RATECTL_ETCD_*``, see ``VARIABLES``):
URLs appear in process lists, logs and shell histories.
"""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ratectl.errors import UsageError
from ratectl.runtime.files import read_file
from ratectl.runtime.urls import shown
from ratectl.stores.base import Protection, Security

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "DEFAULT_PORT",
    "VARIABLES",
    "Address",
    "Settings",
    "credentials",
    "parse_environment",
]

DEFAULT_PORT: Final = 2379

VARIABLES: Final[Mapping[str, str]] = {
    "RATECTL_ETCD_USER": "user name, where etcd's authentication is enabled",
    "RATECTL_ETCD_PASSWORD": "password of that user",
    "RATECTL_ETCD_PASSWORD_FILE": "file holding the password (instead of RATECTL_ETCD_PASSWORD)",
    "RATECTL_ETCD_CA": "PEM file of the authorities that the server's certificate is checked with",
    "RATECTL_ETCD_CERT": "PEM file of the client certificate",
    "RATECTL_ETCD_KEY": "PEM file of the client certificate's private key",
    "RATECTL_ETCD_SERVER_NAME": "name in the server's certificate, if it is not the URL's host",
}
"""Environment variables and their meanings."""

_FORM: Final = "etcd://host:port[,host:port]/environment"
_TLS_VARIABLES: Final = ("CA", "CERT", "KEY", "SERVER_NAME")
_MAX_BYTES: Final = 1_000_000
"""Largest file that is read for a password, a certificate or a key."""
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_HOST = re.compile(r"[A-Za-z0-9._-]+")


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
class Settings:
    """Address, environment, TLS and credentials of a cluster."""

    url: str
    addresses: tuple[Address, ...]
    environment: str
    tls: bool = False
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    ca: bytes | None = field(default=None, repr=False)
    cert: bytes | None = field(default=None, repr=False)
    key: bytes | None = field(default=None, repr=False)
    server_name: str | None = None

    @property
    def address(self) -> str:
        """All addresses as one text, for messages."""
        return ",".join(map(str, self.addresses))

    def security(self) -> Security:
        """Return how a store with these settings is secured."""
        mutual = ", with a client certificate" if self.cert else ""
        if self.tls:
            transport = Protection("ok", f"on{mutual}")
        elif all(address.is_loopback for address in self.addresses):
            transport = Protection("ok", "off, but nothing leaves this machine")
        else:
            text = "off: anybody on the way can read and change policies"
            transport = Protection("warning", text)
        if self.user:
            return Security(transport, Protection("ok", f"user {self.user}"))
        if self.cert:
            return Security(transport, Protection("ok", "client certificate"))
        text = "none: whoever reaches the store can publish"
        return Security(transport, Protection("warning", text))

    @classmethod
    def from_url(cls, url: str, environ: Mapping[str, str] | None = None) -> Settings:
        """Read a URL and the ``RATECTL_ETCD_*`` variables.

        :raises UsageError: a value is malformed, two contradict, or a file cannot be read.
        """
        scheme, _, rest = url.partition("://")
        place = f"store URL {shown(url)!r}"
        _check(
            scheme in ("etcd", "etcds"), f"{place}: the scheme is not etcd or etcds; use {_FORM}"
        )
        _check(
            "@" not in rest,
            f"{place} must not hold a user or password; set RATECTL_ETCD_USER and "
            "RATECTL_ETCD_PASSWORD or RATECTL_ETCD_PASSWORD_FILE instead",
        )
        hosts, _, environment = rest.partition("/")
        _check(
            bool(environment),
            f"{place} names no environment: write {scheme}://{hosts or 'host:2379'}/ENVIRONMENT, "
            f"like {scheme}://{hosts or 'host:2379'}/dev",
        )
        _check(
            _NAME.fullmatch(environment) is not None,
            f"{place} takes no options, and its environment may hold only letters, digits, '.', "
            f"'_' and '-'; use {_FORM}",
        )
        try:
            addresses = tuple(dict.fromkeys(Address.parse(part) for part in hosts.split(",")))
        except UsageError as error:
            raise UsageError(f"{place}: {error}") from None
        values = {k: v for k, v in (os.environ if environ is None else environ).items() if v}
        user, password = credentials(values)
        tls = scheme == "etcds"
        if not tls:
            for name in _TLS_VARIABLES:
                _check(
                    f"RATECTL_ETCD_{name}" not in values,
                    f"RATECTL_ETCD_{name} is set, but {shown(url)!r} is plaintext; use etcds://",
                )
        ca, cert, key = (_file(values, f"RATECTL_ETCD_{name}") for name in ("CA", "CERT", "KEY"))
        _check((cert is None) == (key is None), "set both RATECTL_ETCD_CERT and RATECTL_ETCD_KEY")
        server_name = values.get("RATECTL_ETCD_SERVER_NAME")
        return cls(url, addresses, environment, tls, user, password, ca, cert, key, server_name)


def credentials(environ: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Return user and password from environment variables: both or neither."""
    values = {k: v for k, v in environ.items() if v}
    user = values.get("RATECTL_ETCD_USER")
    password = values.get("RATECTL_ETCD_PASSWORD")
    if "RATECTL_ETCD_PASSWORD_FILE" in values:
        _check(
            password is None,
            "set RATECTL_ETCD_PASSWORD or RATECTL_ETCD_PASSWORD_FILE, not both",
        )
        content = _read("RATECTL_ETCD_PASSWORD_FILE", values["RATECTL_ETCD_PASSWORD_FILE"])
        password = content.decode("utf-8", "replace").rstrip("\r\n")
    _check(
        (user is None) == (password is None),
        "set RATECTL_ETCD_USER together with RATECTL_ETCD_PASSWORD or RATECTL_ETCD_PASSWORD_FILE",
    )
    return user, password


def parse_environment(name: str) -> str:
    """Return ``name`` if it is a valid name of an environment.

    :raises UsageError: it holds characters other than letters, digits, ``.``, ``_`` and ``-``.
    """
    _check(
        _NAME.fullmatch(name) is not None,
        f"environment {name!r} may hold only letters, digits, '.', '_' and '-'",
    )
    return name


def _file(values: Mapping[str, str], variable: str) -> bytes | None:
    if variable not in values:
        return None
    content = _read(variable, values[variable])
    _check(b"-----BEGIN " in content, f"{variable}: {values[variable]} is not a PEM file")
    return content


def _read(variable: str, path: str) -> bytes:
    try:
        return read_file(path, _MAX_BYTES)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise UsageError(f"{variable}: cannot read {path}: {why}") from error


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise UsageError(message)
