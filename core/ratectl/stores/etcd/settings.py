"""Settings of an etcd environment: its URL, and the credentials that must not be in a URL.

    etcd://host:port[,host:port]/environment      plaintext
    etcds://host:port[,host:port]/environment     TLS

User, password and certificates come from the environment (``RATECTL_ETCD_*``, see ``VARIABLES``):
URLs appear in process lists, logs and shell histories.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ratectl.errors import UsageError
from ratectl.runtime.files import read_file
from ratectl.runtime.urls import shown
from ratectl.stores.base import Protection, Security
from ratectl.stores.locations import Address, etcd_location

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "VARIABLES",
    "Settings",
    "credentials",
    "parse_environment",
]

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

_TLS_VARIABLES: Final = ("CA", "CERT", "KEY", "SERVER_NAME")
_PASSWORD_FILE: Final = "RATECTL_ETCD_PASSWORD_FILE"  # noqa: S105  the name of a variable
_FILES: Final = {
    _PASSWORD_FILE: "password",
    "RATECTL_ETCD_CA": "ca",
    "RATECTL_ETCD_CERT": "cert",
    "RATECTL_ETCD_KEY": "key",
}
"""Fields of the settings, by the variables that name their files."""
_MAX_BYTES: Final = 1_000_000
"""Largest file that is read for a password, a certificate or a key."""
_NAME = re.compile(r"[A-Za-z0-9._-]+")


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
    files: Mapping[str, str] = field(default_factory=dict)
    """Files that can be read again, by variable: what a pipe holds can be read once."""

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
        location = etcd_location(url)
        values = {k: v for k, v in (os.environ if environ is None else environ).items() if v}
        user, password = credentials(values)
        server_name = values.get("RATECTL_ETCD_SERVER_NAME")
        if not location.tls:
            for name in _TLS_VARIABLES:
                _check(
                    f"RATECTL_ETCD_{name}" not in values,
                    f"RATECTL_ETCD_{name} is set, but {shown(url)!r} is plaintext; use etcds://",
                )
        files = {variable: values[variable] for variable in _FILES if variable in values}
        pems = _contents({name: path for name, path in files.items() if name != _PASSWORD_FILE})
        _check(
            ("cert" in pems) == ("key" in pems), "set both RATECTL_ETCD_CERT and RATECTL_ETCD_KEY"
        )
        return cls(
            url,
            location.addresses,
            location.environment,
            location.tls,
            user,
            password,
            server_name=server_name,
            files={name: path for name, path in files.items() if Path(path).is_file()},
            **pems,
        )

    def read_again(self) -> Settings:
        """Return the settings with what their files hold now: certificates are renewed.

        :raises UsageError: a file cannot be read, or is not what its variable says.
        """
        return replace(self, **_contents(self.files))


def credentials(environ: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Return user and password from environment variables: both or neither.

    A line end behind them is no part of them: files from which Secrets are made have one.
    """
    values = {k: v for k, v in environ.items() if v}
    user, password = (
        values[name].rstrip("\r\n") if name in values else None
        for name in ("RATECTL_ETCD_USER", "RATECTL_ETCD_PASSWORD")
    )
    if _PASSWORD_FILE in values:
        _check(
            password is None,
            "set RATECTL_ETCD_PASSWORD or RATECTL_ETCD_PASSWORD_FILE, not both",
        )
        password = _password(values[_PASSWORD_FILE])
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


def _contents(files: Mapping[str, str]) -> dict[str, Any]:
    """Return fields of the settings, from files by variable."""
    return {
        _FILES[name]: _password(path) if name == _PASSWORD_FILE else _pem(name, path)
        for name, path in files.items()
    }


def _password(path: str) -> str:
    content = _read(_PASSWORD_FILE, path)
    return content.decode("utf-8", "replace").rstrip("\r\n")


def _pem(variable: str, path: str) -> bytes:
    content = _read(variable, path)
    _check(b"-----BEGIN " in content, f"{variable}: {path} is not a PEM file")
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
