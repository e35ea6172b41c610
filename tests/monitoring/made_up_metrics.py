"""A server that exposes every metric of the catalogue with made-up values."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from typing import TYPE_CHECKING, Final, Self

from monitoring_files import LABEL_VALUES
from promql import EXPOSED

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MadeUpMetrics"]

_STARTED: Final = time.time()


def _lines() -> Iterator[str]:
    for name, (metric, labels) in EXPOSED.items():
        if metric is None:
            continue
        if metric.kind in {"counter", "histogram"}:
            value = f"{(time.time() - _STARTED) * 100:.3f}"
        else:
            value = f"{time.time():.3f}" if name.endswith("timestamp_seconds") else "1"
        own = [label for label in ("le", *metric.labels) if label in labels]
        values = [
            sorted(LABEL_VALUES.get((metric.name, label), {"+Inf"} if label == "le" else {"x"}))
            for label in own
        ]
        for chosen in product(*values):
            pairs = ",".join(f'{label}="{text}"' for label, text in zip(own, chosen, strict=True))
            yield f"{name}{{{pairs}}} {value}\n"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = "".join(_lines()).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Log nothing."""


class MadeUpMetrics:
    """The server, on a free loopback port, while the context lasts."""

    def __init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def address(self) -> str:
        """``127.0.0.1:PORT``."""
        return f"127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
