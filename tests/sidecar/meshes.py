"""Envoy between a client and a service, with the configuration of the documentation."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import contextmanager
from copy import deepcopy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import httpx
import yaml

from envoy_server import EnvoyServer
from etcd_server import free_port, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["DOCS", "Config", "Load", "Mesh", "mesh", "virtual_host", "with_second"]

Config = dict[str, Any]

DOCS = Path(__file__).parents[2] / "docs" / "envoy"


class _Shop(BaseHTTPRequestHandler):
    """Answers with some of the headers of the request."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        for name in ("x-tokens", "x-refund"):
            if name in self.headers:
                self.send_header(name, self.headers[name])
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *arguments: Any) -> None:
        pass


def virtual_host(config: Config) -> Config:
    """Return the virtual host of a configuration of Envoy."""
    (manager,) = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"]
    host: Config
    (host,) = manager["typed_config"]["route_config"]["virtual_hosts"]
    return host


class Mesh(NamedTuple):
    envoy: EnvoyServer
    url: str
    rls: int

    def get(self, client: str, path: str = "/cart", **headers: str) -> httpx.Response:
        """Send a request; ``headers`` have ``_`` for ``-``."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx.get(f"{self.url}{path}", headers={"x-client": client, **named}, timeout=30)

    def statuses(self, client: str, count: int) -> list[int]:
        return [self.get(client).status_code for _ in range(count)]


class Load:
    """Requests without a pause, from two threads."""

    def __init__(self, run: Mesh) -> None:
        self._run = run
        self._ends = threading.Event()
        self.statuses: Counter[int] = Counter()
        self._threads = [threading.Thread(target=self._ask) for _ in range(2)]

    def _ask(self) -> None:
        with httpx.Client(timeout=30) as client:
            while not self._ends.is_set():
                answer = client.get(f"{self._run.url}/cart", headers={"x-client": "a"})
                self.statuses[answer.status_code] += 1

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def more(self, count: int) -> None:
        """Wait for so many more answers."""
        wanted = self.statuses.total() + count
        wait_for(lambda: self.statuses.total() >= wanted, "answers", 60)

    def __str__(self) -> str:
        counts = ", ".join(f"{count} × {status}" for status, count in sorted(self.statuses.items()))
        return f"{self.statuses.total()} requests: {counts}"

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        for thread in self._threads:
            thread.join()


def with_second(port: int, config: Config) -> Config:
    """Give the cluster of the sidecar a second address."""
    clusters = config["static_resources"]["clusters"]
    (cluster,) = (each for each in clusters if each["name"] == "ratectl")
    (group,) = cluster["load_assignment"]["endpoints"]
    other = deepcopy(group["lb_endpoints"][0])
    other["endpoint"]["address"]["socket_address"]["port_value"] = port
    group["lb_endpoints"].append(other)
    return config


@contextmanager
def mesh(
    folder: Path, configure: Callable[[Config], Config] = dict, **changes: str
) -> Iterator[Mesh]:
    """Run Envoy and a service behind it, without a sidecar.

    ``changes``: texts of the configuration, and others in their places. ``configure``: changes the
    whole.
    """
    rls, front = free_port(), free_port()
    shop = ThreadingHTTPServer(("127.0.0.1", 0), _Shop)
    threading.Thread(target=shop.serve_forever, daemon=True).start()
    text = (DOCS / "envoy.yaml").read_text()
    changed = {
        "8000}": f"{shop.server_port}}}",
        "8081}": f"{rls}}}",
        "10000}": f"{front}}}",
        "/dev/stdout": f"{folder}/access.log",
        **({} if "timeout: 0.1s" in changes else {"timeout: 0.1s": "timeout: 10s"}),
        **changes,
    }
    for old, new in changed.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    envoy = EnvoyServer(configure(yaml.safe_load(text)), folder)
    try:
        yield Mesh(envoy, f"http://127.0.0.1:{front}", rls)
    finally:
        envoy.stop()
        shop.shutdown()
        shop.server_close()
