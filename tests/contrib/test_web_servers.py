"""gunicorn, uvicorn and hypercorn with two workers run sites under load, and get new policies."""

from __future__ import annotations

import http.client
import json
import re
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import http_sf
import pytest

from agent.servers import Service
from contrib.pages import files_of
from contrib.shop_sites import AIOHTTP, FASTAPI, LITESTAR
from etcd_server import wait_for
from ratectl.stores import open_store
from support import once, policies, publish_policies

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [once, pytest.mark.servers]

FILES: Final = files_of("adapters-wsgi.md")

ASYNC: Final = {"fastapi": FASTAPI, "litestar": LITESTAR, "aiohttp": AIOHTTP}

MINE: Final = ("X-Forwarded-For", "203.0.113.9")

FLASK = (
    FILES["shop.py"]
    + """

import os


@app.get("/stream")
def stream():
    return flask.Response(b"x" * 1_000 for _ in range(200))


@app.get("/login")
def login():
    return "in"


@app.get("/fails")
def fails():
    raise RuntimeError("meant")


@app.get("/state")
def state():
    left = agent.check("/shop/stream", {"tenant": "acme"}, cost=0).remaining
    return {"pid": os.getpid(), "left": left, "generation": agent.generation}


app.logger.disabled = True  # of the errors that are meant
wsgi = app
"""
)

DJANGO = """
from django.core.wsgi import get_wsgi_application

wsgi = get_wsgi_application()
"""
SETTINGS = (
    FILES["settings.py"]
    + """
SECRET_KEY = "a test"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "urls"
LOGGING_CONFIG = None
"""
)
URLS = """
import logging, os
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path, re_path
from limits import agent

logging.getLogger("django").disabled = True  # of the errors that are meant
logging.getLogger("django.request").disabled = True


def fails(request):
    raise RuntimeError("meant")


def state(request):
    left = agent.check("/shop/stream", {"tenant": "acme"}, cost=0).remaining
    return JsonResponse({"pid": os.getpid(), "left": left, "generation": agent.generation})


urlpatterns = [
    re_path(r"^items/(?P<id>[0-9]+)$", lambda request, id: HttpResponse(f"item {id}")),
    path("stream", lambda _: StreamingHttpResponse(b"x" * 1_000 for _ in range(200))),
    path("login", lambda _: HttpResponse("in")),
    path("fails", fails),
    path("state", state),
]
"""


def limits(burst: int) -> Any:
    calls = {"rate": "1/min", "burst": burst, "per": "tenant"}
    slots = {"algorithm": "concurrency", "max": 4, "hold": "10min", "per": "tenant"}
    login = {"rate": "1/h", "burst": 1, "per": "ip"}
    return policies(
        **{
            "/shop/items/id": {"limits": {"calls": calls}},
            "/shop/stream": {"limits": {"slots": slots}},
            "/shop/fails": {"limits": {"slots": slots}},
            "/shop/login": {"trusted_proxies": ["127.0.0.0/8"], "limits": {"login": login}},
        }
    )


class Shop(Service):
    """A service with the code of the page and views for the test."""

    framework = "flask"
    noise = "Traceback|ERROR|CRITICAL|failed"
    """Words that the server's log must not have."""

    def serve(self) -> Any:
        return self.gunicorn("--workers", "2", "--threads", "4")

    def save(self, stamp: int, app: str = "") -> None:
        files = {"service.py": FLASK}
        if self.framework in ASYNC:
            files = {"service.py": ASYNC[self.framework]}
        if self.framework == "django":
            files = {"service.py": DJANGO, "settings.py": SETTINGS, "urls.py": URLS}
            files["limits.py"] = FILES["limits.py"]
            self.env["DJANGO_SETTINGS_MODULE"] = "settings"
        for name, code in files.items():
            (self.folder / name).write_text(code)
        self.env["XDG_STATE_HOME"] = str(self.state)

    def get(self, url: str, *headers: tuple[str, str], leave: bool = False) -> Any:
        """Return the response and its body; ``leave``: go away after the first part of it."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
        try:
            connection.putrequest("GET", url)
            for name, value in (("X-Tenant", "acme"), *headers):
                connection.putheader(name, value)
            connection.endheaders()
            response = connection.getresponse()
            return response, response.read(10 if leave else None)
        finally:
            connection.close()

    def states(self) -> list[dict[str, Any]]:
        """Return the states of both workers."""

        def seen() -> list[dict[str, Any]] | None:
            for _ in range(20):
                state = json.loads(self.get("/state")[1])
                found[state["pid"]] = state
            return list(found.values()) if len(found) == 2 else None

        found: dict[int, dict[str, Any]] = {}
        return wait_for(seen, "both workers", 20)

    def answers(self) -> bool:
        try:
            return self.get("/state")[0].status == 200
        except OSError:
            return False


class DjangoShop(Shop):
    framework = "django"


class FastApiShop(Shop):
    framework = "fastapi"
    noise = "CRITICAL|failed"  # uvicorn logs the errors that are meant

    def serve(self) -> Any:
        return self.uvicorn("--workers", "2", "--lifespan", "on", "--no-access-log")


class LitestarShop(FastApiShop):
    framework = "litestar"


class HypercornShop(FastApiShop):
    noise = "CRITICAL|failed"

    def serve(self) -> Any:
        return self.hypercorn("--workers", "2")


class AiohttpShop(Shop):
    framework = "aiohttp"
    noise = "CRITICAL|failed"  # aiohttp logs the errors that are meant

    def serve(self) -> Any:
        return self.gunicorn("--workers", "2", "--worker-class", "aiohttp.GunicornWebWorker")


SHOPS: Final = {
    "flask on gunicorn": Shop,
    "django on gunicorn": DjangoShop,
    "fastapi on uvicorn": FastApiShop,
    "litestar on uvicorn": LitestarShop,
    "fastapi on hypercorn": HypercornShop,
    "aiohttp on gunicorn": AiohttpShop,
}


@pytest.fixture(params=SHOPS.values(), ids=SHOPS)
def shop(tmp_path: Path, request: pytest.FixtureRequest) -> Shop:
    made: Shop = request.param(tmp_path / "shop", "")
    return made


class Load:
    """Clients that ask until they are told to stop."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._stopped = threading.Event()
        self.statuses: set[int] = set()
        self.sizes: set[int] = set()
        """Sizes of the bucket, as refusals told them."""

    @contextmanager
    def running(self) -> Iterator[None]:
        with ThreadPoolExecutor(4) as pool:
            clients = [pool.submit(self._ask, number) for number in range(4)]
            try:
                yield
            finally:
                self._stopped.set()
            for client in clients:
                client.result(60)

    def _ask(self, turn: int) -> None:
        while not self._stopped.is_set():
            turn += 1
            assert self._shop.get("/stream", leave=turn % 2 == 0)[0].status in (200, 429)
            assert self._shop.get("/fails")[0].status in (500, 429)
            response, _ = self._shop.get("/items/7")
            self.statuses.add(response.status)
            if response.status == 429:
                self.sizes.add(size_in(response))


def size_in(refusal: Any) -> int:
    """Assert that a refusal has the right headers; return the size of the bucket."""
    assert int(refusal.headers["Retry-After"]) in range(1, 61)
    ((name, policy),) = parsed(refusal, "RateLimit-Policy")
    ((limit, state),) = parsed(refusal, "RateLimit")
    assert (name, limit, state["r"]) == ("calls", "calls", 0)
    size: int = policy["q"]
    return size


def parsed(response: Any, name: str) -> Any:
    assert len(response.headers.get_all(name)) == 1
    return http_sf.parse(response.headers[name].encode(), tltype="list")


@pytest.fixture
def url(shop: Shop) -> str:
    url = f"sqlite:///{shop.folder}/rates.db"
    with open_store(url) as store:
        publish_policies(store, limits(2))
    return url


def test_new_policies_under_load(shop: Shop, url: str) -> None:
    load = Load(shop)
    with shop.serve() as master:
        wait_for(shop.answers, "an answer", 20)
        assert {state["generation"] for state in shop.states()} == {1}
        with load.running():
            wait_for(lambda: load.sizes == {2}, "a refusal", 20)
            with open_store(url) as store:
                publish_policies(store, limits(3))
            wait_for(lambda: load.sizes == {2, 3}, "a refusal by the new policies", 20)
        # A worker notices at its next write that a client has gone.
        wait_for(lambda: [state["left"] for state in shop.states()] == [4, 4], "all slots", 20)
        assert {state["generation"] for state in shop.states()} == {2}
        assert load.statuses == {200, 429}
        # Proxies may write their header several times. Each worker admits one such request.
        headers = [(("X-Forwarded-For", f"198.51.100.{n}"), MINE) for n in range(8)]
        logins = [shop.get("/login", *each)[0].status for each in headers]
        assert logins.count(200) <= 2
        assert set(logins) == {200, 429}
        master.send_signal(signal.SIGTERM)
    log = (shop.folder / "log").read_text()
    assert master.returncode == 0
    assert not re.search(shop.noise, log), log
