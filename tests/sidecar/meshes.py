"""Envoy between a client and a service, with the configuration of the documentation."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
import yaml

from envoy_server import EnvoyServer
from etcd_server import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["DOCS", "Config", "Mesh", "mesh", "virtual_host"]

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
