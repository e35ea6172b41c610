"""Sites of Django for tests: some views behind the middleware."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from django.http import HttpResponse
from django.test import override_settings
from django.urls import path

from ratectl.contrib.web import header

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "AS_ACME",
    "ITEM",
    "OURS",
    "PASSING",
    "SLOW",
    "TENANT",
    "async_text",
    "limited_site",
    "text",
]

OURS = "ratectl.contrib.django.RateLimitMiddleware"
AS_ACME = {"x-tenant": "acme"}
TENANT: dict[str, Any] = {"tenant": header("x-tenant")}


@contextmanager
def limited_site(agent: Any, *urls: Any, middleware: Any = (OURS,), **words: Any) -> Iterator[None]:
    with override_settings(
        RATECTL={"agent": agent, **words}, ROOT_URLCONF=tuple(urls), MIDDLEWARE=list(middleware)
    ):
        yield


def text(request: Any, *groups: Any, **words: Any) -> HttpResponse:
    return HttpResponse("text")


async def async_text(request: Any, **words: Any) -> HttpResponse:
    return HttpResponse("text")


def passing(get_response: Any) -> Any:
    return lambda request: get_response(request)


PASSING = f"{__name__}.passing"
"""Sync middleware that changes nothing."""
ITEM = path("items/<int:id>/", text)
SLOW: dict[str, Any] = {"scope": "/slow", "attributes": TENANT}
