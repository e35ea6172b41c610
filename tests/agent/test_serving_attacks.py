"""Endpoints of an agent against hostile clients: silent, slow, and with garbage."""

from __future__ import annotations

import socket
from contextlib import closing, suppress
from typing import TYPE_CHECKING

import pytest

from etcd_server import wait_for
from ratectl import Agent
from ratectl.agent.serving.server import Answer, Endpoint, Server
from ratectl.runtime.address import Address, parse_address
from support import once
from unix_http import ask

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = once


@pytest.fixture
def agent() -> Iterator[Agent]:
    with Agent.from_policies({"apiVersion": "ratectl/v1", "scope": "/"}) as agent:
        yield agent


def connected(address: Address | None) -> socket.socket:
    assert address is not None
    return socket.create_connection((address.host, address.port), 10)


def test_silent_connections_are_ended(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ratectl.agent.serving.server._LONGEST_SILENCE", 0.5)
    served = agent.serve(metrics="127.0.0.1:0")
    silent = [connected(served.metrics) for _ in range(3)]
    for one in silent:
        with one:
            assert one.recv(1) == b""
    assert ask(served.metrics, "/healthz")[0] == 200


def test_request_that_is_sent_slowly_is_ended(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each line comes in time, and the request does not."""
    monkeypatch.setattr("ratectl.agent.serving.server._LONGEST_SILENCE", 0.5)
    served = agent.serve(metrics="127.0.0.1:0")
    with connected(served.metrics) as slow:
        slow.sendall(b"GET /healthz HTTP/1.0\r\n")
        slow.settimeout(0.1)

        def ended() -> bool:
            try:
                slow.sendall(b"a: b\r\n")
                return slow.recv(1) == b""
            except TimeoutError:
                return False
            except ConnectionError:
                return True

        wait_for(ended, "the connection is ended", 10)


def test_answer_that_is_read_slowly_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ratectl.agent.serving.server._LONGEST", 0.5)
    size = 50_000_000
    address = parse_address("127.0.0.1:0")
    pages = {"/": lambda _: Answer(b"x" * size)}
    with (
        closing(Server(Endpoint(pages), address, address.listen(), None)) as server,
        connected(server.address) as slow,
    ):
        slow.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert slow.recv(1) == b"H"
        wait_for(lambda: not server._open, "the connection is ended", 10)
        left = 0
        with suppress(ConnectionError):
            while more := slow.recv(1 << 20):
                left += len(more)
    assert left < size


def test_silent_connections_make_room_for_a_probe(agent: Agent) -> None:
    served = agent.serve(metrics="127.0.0.1:0")
    silent = [connected(served.metrics) for _ in range(70)]
    for _ in range(3):
        assert ask(served.metrics, "/healthz")[0] == 200
    for one in silent:
        one.close()


@pytest.mark.parametrize(
    "garbage",
    [b"\x00" * 1_000, b"GET\r\n\r\n", b"GET /metrics HTTP/9\r\n\r\n", b"G" * 70_000 + b"\r\n",
     b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 300 + b"\r\n",
     b"GET http://[ HTTP/1.0\r\n\r\n", b"\x16\x03\x01\x02\x00"],
)  # fmt: skip
def test_garbage_harms_nobody(agent: Agent, garbage: bytes) -> None:
    served = agent.serve(metrics="127.0.0.1:0")
    assert served.metrics is not None
    with socket.create_connection((served.metrics.host, served.metrics.port), 10) as raw:
        raw.sendall(garbage)
        raw.shutdown(socket.SHUT_WR)
        while raw.recv(65_536):
            pass
    assert ask(served.metrics, "/healthz")[0] == 200


def test_many_query_fields_are_an_answer(agent: Agent) -> None:
    served = agent.serve(admin="127.0.0.1:0")
    assert ask(served.admin, "/v1/usage?" + "&".join(["a=b"] * 1_000))[0] == 400
