"""Addresses of the server: URLs of one server, of sentinels, or of a cluster."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from ratectl.central.keys import PREFIX
from ratectl.errors import UsageError
from ratectl.runtime.urls import shown

__all__ = ["ServerAddress"]

_FORMS: Final = (
    "redis://HOST:6379/0, rediss:// for TLS, unix:///path/to.sock, "
    "redis+sentinel://HOST:26379,HOST2:26379/MASTER or redis+cluster://HOST:6379,HOST2:6379"
)
_KINDS: Final = {
    "redis": ("single", False, 6379),
    "rediss": ("single", True, 6379),
    "unix": ("unix", False, 0),
    "redis+sentinel": ("sentinel", False, 26379),
    "rediss+sentinel": ("sentinel", True, 26379),
    "redis+cluster": ("cluster", False, 6379),
    "rediss+cluster": ("cluster", True, 6379),
}
"""Kind, TLS and default port of each scheme."""
_PARAMETERS: Final = ("prefix", "db", "ca", "cert", "key")


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Address of the server, with a user and a password. Its text shows no secret."""

    kind: str
    """``single``, ``unix``, ``sentinel`` or ``cluster``."""
    hosts: tuple[tuple[str, int], ...]
    path: str
    """Socket, or the name of the master that sentinels watch."""
    db: int
    tls: bool
    username: str | None
    password: str | None = field(repr=False)
    prefix: str | None
    """Prefix of all names; None: that of the environment."""
    files: dict[str, str] = field(default_factory=dict)
    """PEM files of TLS: ``ca``, ``cert`` and ``key``."""
    text: str = ""
    """The URL without secrets."""

    @classmethod
    def of(cls, url: object, source: str = "redis") -> ServerAddress:
        """Read a URL. ``source``: the argument or the variable that it stands in, for messages.

        :raises UsageError: it is none of these forms; the message shows no secret.
        """
        if not isinstance(url, str) or not url.strip():
            raise UsageError(f"{source} is the URL of a Valkey or Redis server: {_FORMS}")
        try:
            return _read(url)
        except ValueError as error:
            # Errors of the standard library may quote a part of the password.
            reason = error if isinstance(error, _Wrong) else "it is no URL"
            raise UsageError(
                f"{source} {shown(url)!r} cannot be used: {reason}: write {_FORMS}"
            ) from None

    def hidden(self, text: str) -> str:
        """Return a text, such as an error of the client, without this address's password."""
        return text.replace(self.password, "…") if self.password else text


class _Wrong(ValueError):
    """Raised with the reason why a URL cannot be used; the text has no part of the URL."""


def _read(url: str) -> ServerAddress:
    scheme, mark, rest = url.partition("://")
    if not mark or scheme.lower() not in _KINDS:
        raise _Wrong("its scheme is not known")
    kind, tls, port = _KINDS[scheme.lower()]
    netloc, _, _ = rest.partition("?")[0].partition("/")
    user, at, places = netloc.rpartition("@")
    username, colon, password = user.partition(":")
    # The hosts are read here: a list of them is no URL for the standard library.
    parts = urlsplit(f"{scheme}://{rest[len(netloc) :]}")
    if parts.fragment:
        raise _Wrong("it has a fragment")
    query = _query(parts.query)
    path = unquote(parts.path)
    hosts = () if kind == "unix" else tuple(_host(place, port) for place in places.split(","))
    if kind == "single" and len(hosts) > 1:
        raise _Wrong("one server has one host: several are for sentinels or a cluster")
    name, db = _name_and_db(kind, path, query.get("db"))
    return ServerAddress(
        kind, hosts, name, db, tls,
        unquote(username) or None if at else None,
        unquote(password) if at and colon else None,
        _prefix(query.get("prefix")),
        _files(query, tls=tls),
        shown(url),
    )  # fmt: skip


def _query(text: str) -> dict[str, str]:
    pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text))
    query = dict(pairs)
    unknown = [name for name in query if name not in _PARAMETERS]
    if unknown or len(query) != len(pairs):
        raise _Wrong(f"its parameters are {', '.join(_PARAMETERS)}, each once")
    return query


def _host(text: str, default: int) -> tuple[str, int]:
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        port = port.removeprefix(":")
    else:
        host, _, port = text.partition(":")
    is_port = port.isascii() and port.isdigit() and 0 < int(port) < 65_536
    if not host or set(host) & set("# ") or (port and not is_port):
        raise _Wrong("a host or a port is missing or wrong")
    return host, int(port or default)


def _name_and_db(kind: str, path: str, db: str | None) -> tuple[str, int]:
    """Return the socket or the master's name, and the number of the database."""
    name = ""
    if kind == "unix":
        if not path.startswith("/") or "\0" in path:
            raise _Wrong("the path of a socket begins with /")
        name = path
    else:
        name, _, number = path.removeprefix("/").partition("/")
        if kind != "sentinel":
            name, number = "", path.removeprefix("/")
        elif not name:
            raise _Wrong("the name of the master is missing")
        if number and db:
            raise _Wrong("the database is named twice")
        db = db or number
    if db and not (db.isascii() and db.isdigit() and len(db) < 6):
        raise _Wrong("the database is a number")
    if kind == "cluster" and int(db or 0):
        raise _Wrong("a cluster has only database 0")
    return name, int(db or 0)


def _prefix(text: str | None) -> str | None:
    if text is not None and not PREFIX.fullmatch(text):
        raise _Wrong("a prefix is 1 to 100 letters, digits, '.', '_', ':', '/' and '-'")
    return text


def _files(query: dict[str, str], *, tls: bool) -> dict[str, str]:
    files = {name: path for name, path in query.items() if name in ("ca", "cert", "key")}
    if files and not tls:
        raise _Wrong("files of certificates are for TLS")
    if ("cert" in files) != ("key" in files):
        raise _Wrong("cert and key belong together")
    return files
