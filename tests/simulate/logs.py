"""Small logs and maps for tests of simulations."""

from __future__ import annotations

import io
from itertools import islice
from typing import TYPE_CHECKING, Any

from ratectl.simulate import Traffic, read_map
from ratectl.traffic import Request, Shape, format_line, generate

if TYPE_CHECKING:
    from ratectl.simulate.calls import Call

HEAD = "apiVersion: ratectl/v1\nkind: TrafficMap\n"
ONE = HEAD + "format: combined\nscope: /web\nattributes: {client: client}\n"
START = 1_767_571_200
"""Monday, 5 January 2026, 00:00 UTC, in seconds."""


def log(*seconds: float, client: str = "198.51.100.7", path: str = "/") -> bytes:
    """Return a combined log of one client, with requests at seconds after the start."""
    attributes = {
        "client": client,
        "method": "GET",
        "path": path,
        "status": "200",
        "agent": "Hare/1",
    }
    lines = [format_line(Request(int((START + at) * 10**9), attributes, 512)) for at in seconds]
    return "".join(line + "\n" for line in lines).encode()


def generated(count: int, seed: int = 7, rate: float = 5.0) -> bytes:
    """Return a combined log of generated traffic."""
    requests = islice(generate(seed, Shape(rate=rate)), count)
    return "".join(format_line(request) + "\n" for request in requests).encode()


def traffic(data: bytes, made: str = ONE, **options: Any) -> Traffic:
    return Traffic(io.BytesIO(data), read_map(made.encode(), "map.yaml"), **options)


def calls(replayed: Traffic) -> list[Call]:
    return [call for batch in replayed.batches() for call in batch]
