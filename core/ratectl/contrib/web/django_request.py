"""A request of Django, with WSGI or ASGI."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

from django.core.handlers.asgi import ASGIRequest

from ratectl.contrib.web.django_routes import template_of
from ratectl.contrib.wsgi import WsgiRequest, escaped

__all__ = ["DjangoRequest"]


class DjangoRequest(WsgiRequest):
    """A request of Django; ``native`` is its ``HttpRequest``."""

    __slots__ = ()

    def __init__(self, request: Any) -> None:
        super().__init__(request.META, request)

    @property
    def method(self) -> str:
        return str(self.native.method)

    @property
    def path(self) -> str:
        return str(self.native.path)

    @property
    def route(self) -> str | None:
        return template_of(self.native)

    def query(self, name: str) -> str | None:
        try:
            return self.native.GET.get(name)  # type: ignore[no-any-return]
        except Exception:  # noqa: BLE001  many fields, for example: no way around a limit
            encoding = "utf-8" if isinstance(self.native, ASGIRequest) else "latin-1"
            text = self._environ.get("QUERY_STRING", "").encode(encoding, "replace")
            return dict(parse_qsl(escaped(text), keep_blank_values=True)).get(name)

    def path_parameter(self, name: str) -> object | None:
        match = self.native.resolver_match
        return None if match is None else match.kwargs.get(name)
