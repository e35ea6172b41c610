"""A request of any web framework, as the functions that users write see it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["HttpRequest", "first_of", "last_of"]


class HttpRequest(ABC):
    """A request. ``native`` is the framework's own object."""

    __slots__ = ()

    native: Any

    @property
    @abstractmethod
    def method(self) -> str:
        """``GET``, ``POST``, … For a websocket: ``GET``."""

    @property
    @abstractmethod
    def path(self) -> str:
        """Path of the URL, decoded, without the query."""

    @property
    @abstractmethod
    def route(self) -> str | None:
        """Template of the route, as the framework writes it: ``/items/{id}``. None if none fits."""

    @property
    @abstractmethod
    def peer(self) -> str | None:
        """Address that the connection came from; None for a Unix socket."""

    @abstractmethod
    def headers(self, name: str) -> list[str]:
        """Return the values of a header, in their order. The name's case does not matter."""

    def header(self, name: str) -> str | None:
        """Return the value of a header, as HTTP joins several; None if it is absent."""
        values = self.headers(name)
        return ", ".join(values) if values else None

    @abstractmethod
    def query(self, name: str) -> str | None:
        """Return the value of a parameter of the query; None if it is absent.

        Of several values it is the one that the framework itself gives to an application.
        """

    @abstractmethod
    def path_parameter(self, name: str) -> object | None:
        """Return the value of a parameter of the route; None if it is absent."""


def first_of(query: str, name: str) -> str | None:
    """Return the first value of a parameter of a query string; None if it is absent.

    It never raises, however many fields a client sends: the server bounds the length of a URL.
    """
    return next(_values(query.split("&"), name), None)


def last_of(query: str, name: str) -> str | None:
    """Return the last value of a parameter, which Starlette gives to an application."""
    return next(_values(reversed(query.split("&")), name), None)


def _values(fields: Iterable[str], name: str) -> Iterator[str]:
    for field in fields:
        key, _, value = field.partition("=")
        if unquote_plus(key) == name:
            yield unquote_plus(value)
