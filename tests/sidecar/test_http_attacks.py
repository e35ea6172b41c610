"""Callers over HTTP that mean harm: each is held or cut off, and others are served meanwhile."""

from __future__ import annotations

import json
import random
import re
import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from etcd_server import wait_for
from ratectl import Agent
from ratectl.sidecar import Sidecar
from ratectl.sidecar.http1 import Answering, HttpConnection
from ratectl.sidecar.replies import MOST_BYTES, MOST_HEADERS, Reply
from sidecar.http_asking import connected, encoded, post

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.usefixtures("loop")

POLICIES = """
apiVersion: ratectl/v1
scope: /shop
limits:
  each: {rate: 1000/s, per: client}
"""
ASKED = {"scope": "/shop", "attributes": {"client": "a"}}
BODY = json.dumps(ASKED).encode()
HEAD = b"POST /v1/check HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.fixture
def sidecar() -> Iterator[Sidecar]:
    with Agent.from_policies(POLICIES) as agent, Sidecar(agent, http="127.0.0.1:0") as sidecar:
        yield sidecar
        assert post(sidecar.http, "/v1/check", ASKED).status == 200


@pytest.fixture
def server(sidecar: Sidecar) -> Any:
    return sidecar._servers[0]


class Caller:
    """A connection whose requests are written by hand."""

    def __init__(self, sidecar: Sidecar) -> None:
        self.socket = connected(sidecar.http)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._read = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def _until(self, end: bytes) -> bytes:
        while end not in self._read:
            found = self.socket.recv(65_536)
            if not found:
                raise EOFError(self._read)
            self._read += found
        part, _, self._read = self._read.partition(end)
        return part

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Return the next answer: status, headers, body."""
        first, *lines = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        length = int(headers.get("content-length", "0"))
        while len(self._read) < length:
            self._read += self.socket.recv(65_536)
        body, self._read = self._read[:length], self._read[length:]
        return int(first.split()[1]), headers, body

    def is_cut(self) -> bool:
        """Return True if the connection ends without another answer."""
        with suppress(ConnectionError):
            return self._read == b"" and self.socket.recv(65_536) == b""
        return True


@pytest.fixture
def caller(sidecar: Sidecar) -> Iterator[Caller]:
    caller = Caller(sidecar)
    with caller.socket:
        yield caller


def look(server: Any, seconds: float) -> None:
    """Let the server look at its connections as if so much time had passed."""
    done = threading.Event()

    def work() -> None:
        server.listeners[0].look(time.monotonic() + seconds)
        done.set()

    server._loop.call_soon_threadsafe(work)
    assert done.wait(20)


# Pages of foreign sites -------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8082", "127.0.0.1.evil", "l", ""])
def test_a_name_of_another_machine_is_refused_on_loopback(caller: Caller, host: str) -> None:
    caller.send(encoded(ASKED).replace(b"localhost", host.encode(), 1))
    status, _, body = caller.answer()
    assert status == 421
    assert "ask 127.0.0.1, [::1] or localhost" in json.loads(body)["detail"]


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:81", "127.0.0.1", "[::1]:9", "a.localhost"]
)
def test_names_of_this_machine(caller: Caller, host: str) -> None:
    caller.send(encoded(ASKED).replace(b"localhost", host.encode(), 1))
    assert caller.answer()[0] == 200


def test_other_machines_may_use_any_name() -> None:
    with Agent.from_policies(POLICIES) as agent, Sidecar(agent, http="0.0.0.0:0") as sidecar:
        caller = Caller(sidecar)
        with caller.socket:
            caller.send(encoded(ASKED).replace(b"localhost", b"limits.example", 1))
            assert caller.answer()[0] == 200


# Framing ----------------------------------------------------------------------------------------


def test_bytes_that_come_one_by_one(caller: Caller) -> None:
    for byte in encoded(ASKED):
        caller.send(bytes([byte]))
    assert caller.answer()[0] == 200


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    parts = [b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks]
    return HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(parts) + end


@pytest.mark.parametrize(
    "request_",
    [
        chunked(BODY),
        chunked(*[bytes([byte]) for byte in BODY]),
        chunked(BODY, end=b"0;last=1\r\nExpires: 0\r\nHost: other\r\n\r\n"),
        HEAD + b"transfer-encoding:Chunked\r\n\r\n%x;a=b\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY),
        b"\r\n\r\n" + encoded(ASKED),
        b"POST http://localhost/v1/check?x=1 HTTP/1.1\r\n" + encoded(ASKED).partition(b"\r\n")[2],
    ],
    ids=["one chunk", "many chunks", "trailers", "extension", "empty lines", "absolute form"],
)
def test_unusual_requests(caller: Caller, request_: bytes) -> None:
    caller.send(request_ * 2)
    assert [caller.answer()[0] for _ in range(2)] == [200, 200]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400),
        (HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n", 400),
        (HEAD + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\n", 400),
        (HEAD + b"Content-Length: 5, 5\r\n\r\n", 400),
        (HEAD + b"Content-Length: -1\r\n\r\n", 400),
        (HEAD + b"Content-Length: +1\r\n\r\n", 400),
        (HEAD + b"Content-Length: 0x1\r\n\r\n", 400),
        (HEAD + b"Content-Length: 1_0\r\n\r\n", 400),
        (HEAD + b"Content-Length: 18446744073709551617\r\n\r\n", 400),
        (HEAD + b"Content-Length : 5\r\n\r\n", 400),
        (HEAD + b"Transfer-Encoding : chunked\r\n\r\n", 400),
        (HEAD + b"Transfer-Encoding: identity\r\n\r\n", 501),
        (HEAD + b"Transfer-Encoding: xchunked\r\n\r\n", 501),
        (HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n", 400),
        (HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (HEAD + b"Transfer-Encoding:\x0bchunked\r\n\r\n", 400),
        (HEAD.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 501),
        (HEAD + b"X: a\r\n Transfer-Encoding: chunked\r\n\r\n", 400),
        (HEAD + b"X: a\rContent-Length: 5\r\n\r\n", 400),
        (HEAD + b"X: a\nContent-Length: 5\r\n\r\n", 400),
        (HEAD + b"X: \0\r\n\r\n", 400),
        (HEAD + b": x\r\n\r\n", 400),
        (chunked(b"a").replace(b"\r\n1\r\n", b"\r\n0x1\r\n"), 400),
        (chunked(b"a").replace(b"\r\n1\r\n", b"\r\n-1\r\n"), 400),
        (chunked(b"a").replace(b"\r\n1\r\n", b"\r\n1\n"), 400),
        (chunked(b"a").replace(b"\r\n1\r\n", b"\r\n11111111111111111\r\n"), 400),
        (chunked(b"a").replace(b"a\r\n", b"ab\r\n"), 400),
        (chunked(b"a", end=b"0\r\nContent-Length: 5\r\n\r\n"), 400),
        (b"POST /v1/check HTTP/1.1\r\n\r\n", 400),
        (HEAD + b"Host: localhost\r\n\r\n", 400),
        (HEAD.replace(b"1.1", b"2.0") + b"\r\n", 505),
        (HEAD.replace(b"1.1", b"1.2") + b"\r\n", 400),
        (b"GET /\r\n\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"\0" * 100, 400),
        (b"GET /\x80 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (HEAD + b"Expect: 200-ok\r\nContent-Length: 5\r\n\r\n", 417),
        (b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
    ],
)
def test_requests_that_are_none_or_that_two_readers_could_read_in_two_ways(
    caller: Caller, request_: bytes, status: int
) -> None:
    """One answer, and what comes afterwards is not looked at."""
    caller.send(request_ + encoded(ASKED))
    found, headers, body = caller.answer()
    assert found == status
    assert headers["connection"] == "close"
    assert json.loads(body)["status"] == status
    assert caller.is_cut()


def test_a_request_before_a_wrong_one_is_answered(caller: Caller) -> None:
    caller.send(encoded(ASKED) + b"rubbish\r\n\r\n")
    assert [caller.answer()[0] for _ in range(2)] == [200, 400]
    assert caller.is_cut()


def test_an_offer_of_another_protocol_is_left_alone(caller: Caller) -> None:
    """Java's client offers HTTP/2 with its first request."""
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    whole = HEAD + offer + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
    parts = chunked(BODY[:9], BODY[9:]).replace(b"\r\n", b"\r\n" + offer, 1)
    get = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + offer + b"\r\n"
    caller.send(whole + parts + get + parts + whole + get)
    assert [caller.answer()[0] for _ in range(6)] == [200] * 6
    for byte in whole + parts:
        caller.send(bytes([byte]))
    assert [caller.answer()[0] for _ in range(2)] == [200] * 2
    caller.send(HEAD + offer + b"Content-Length: 70000\r\n\r\n")
    assert caller.answer()[0] == 413


def test_many_offers_at_once(caller: Caller) -> None:
    get = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    caller.send(get * 2_000)
    for _ in range(2_000):
        assert caller.answer()[0] == 200


# Sizes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_",
    [
        HEAD + b"X: " + b"y" * MOST_HEADERS,
        HEAD + b"X: " + b"y" * MOST_HEADERS + b"\r\n\r\n",
        HEAD + b"X: y\r\n" * 200,
        b"GET /" + b"y" * MOST_HEADERS,
        HEAD + b"Y" * MOST_HEADERS,
        chunked(BODY, end=b"0\r\n" + b"X: y\r\n" * 200),
        chunked(BODY, end=b"0\r\nX: " + b"y" * MOST_HEADERS + b"\r\n\r\n"),
    ],
    ids=["value", "whole value", "many", "path", "name", "trailers", "long trailer"],
)
def test_a_header_that_is_too_large(caller: Caller, request_: bytes) -> None:
    with suppress(ConnectionError):
        caller.send(request_)
    assert caller.answer()[0] == 431
    assert caller.is_cut()


@pytest.mark.parametrize(
    "request_",
    [
        HEAD + b"Content-Length: %d\r\n\r\n" % (MOST_BYTES + 1),
        HEAD + b"Content-Length: 9999999999\r\nExpect: 100-continue\r\n\r\n",
        chunked(b"x" * MOST_BYTES, b"x"),
        chunked(end=b"1;" + b"x" * 400_000),
        chunked(*[b" "] * 60_000, end=b""),
    ],
    ids=["length", "expectation", "chunks", "extension", "tiny chunks"],
)
def test_a_body_that_is_too_large(caller: Caller, request_: bytes) -> None:
    caller.send(request_)
    status, headers, body = caller.answer()
    assert (status, headers["connection"]) == (413, "close")
    assert json.loads(body)["detail"] == f"a body has {MOST_BYTES} bytes at most"


def test_a_caller_that_goes_on_to_send_can_read_the_answer(server: Any, caller: Caller) -> None:
    caller.send(HEAD + b"Content-Length: 9999999\r\n\r\n")
    (connection,) = wait_for(lambda: list(server.listeners[0].connections), "the connection")
    wait_for(lambda: connection.speaker.is_mute, "the answer")
    for _ in range(10):
        caller.send(b"x" * 100_000)
    assert caller.answer()[0] == 413


def test_the_largest_body(caller: Caller) -> None:
    caller.send(encoded(BODY.ljust(MOST_BYTES)))
    assert caller.answer()[0] == 200


def test_a_caller_that_waits_for_leave_to_send(caller: Caller) -> None:
    head, _, body = encoded(ASKED).partition(b"\r\n\r\n")
    for _ in range(2):
        caller.send(head + b"\r\nExpect: 100-Continue\r\n\r\n")
        assert caller.answer()[0] == 100
        caller.send(body)
        assert caller.answer()[0] == 200
    caller.send(head.replace(b"1.1", b"1.0") + b"\r\nExpect: 100-continue\r\n\r\n" + body)
    assert caller.answer()[0] == 200, "HTTP/1.0 knows no such answer"


# Connections ------------------------------------------------------------------------------------


def test_many_requests_at_once_are_answered_in_order(caller: Caller) -> None:
    paths = [random.choice(["/healthz", "/readyz", "/none"]) for _ in range(3_000)]
    sent = b"".join(b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % path.encode() for path in paths)
    sending = threading.Thread(target=caller.send, args=[sent])
    sending.start()
    kinds = {b"ok\n": "/healthz", b"gen": "/readyz", b'{"t': "/none"}
    assert [kinds[caller.answer()[2][:3]] for _ in paths] == paths
    sending.join()


@pytest.mark.parametrize("path", [b"/v1/openapi.json", b"/healthz"])
def test_a_caller_that_does_not_read(server: Any, caller: Caller, path: bytes) -> None:
    """Its answers are bounded, and it is cut off after a while."""
    flood = b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % path * 1_000
    caller.socket.settimeout(0.5)
    with suppress(OSError):
        for _ in range(1_000):
            caller.send(flood)
            for connection in list(server.listeners[0].connections):
                assert connection._transport.get_write_buffer_size() < 2_000_000
    look(server, 0)
    look(server, 91)
    wait_for(lambda: not server.listeners[0].connections, "the end")


def test_requests_that_arrive_slowly_are_cut_off(server: Any, caller: Caller) -> None:
    caller.send(encoded(ASKED))
    assert caller.answer()[0] == 200
    look(server, 0)
    for part in (b"POST /v1", b"/check HTTP/1.1\r\n", b"Host: a\r\nX"):
        caller.send(part)
        wait_for(lambda: all(c.speaker._raw for c in server.listeners[0].connections), "a byte")
        look(server, 0)
        look(server, 5)
    look(server, 11)
    assert caller.is_cut()


def test_a_body_that_never_comes_is_cut_off(server: Any, caller: Caller) -> None:
    caller.send(HEAD + b"Content-Length: 10\r\n\r\n")
    wait_for(lambda: any(c.speaker.calls for c in server.listeners[0].connections), "a request")
    look(server, 0)
    look(server, 11)
    assert caller.is_cut()


def test_the_beginning_of_a_second_request_is_cut_off(server: Any, caller: Caller) -> None:
    caller.send(encoded(ASKED) + b"POST /v1")
    assert caller.answer()[0] == 200
    look(server, 0)
    look(server, 11)
    assert caller.is_cut()


def test_an_idle_connection_is_closed_after_two_minutes(server: Any, caller: Caller) -> None:
    caller.send(encoded(ASKED))
    assert caller.answer()[0] == 200
    look(server, 0)
    look(server, 119)
    caller.send(encoded(ASKED))
    assert caller.answer()[0] == 200
    look(server, 119)
    look(server, 240)
    assert caller.is_cut()


def test_a_caller_that_stays_after_the_last_answer_is_closed(server: Any, caller: Caller) -> None:
    caller.send(
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" + b"more" * 1_000
    )
    assert caller.answer()[1]["connection"] == "close"
    assert caller.is_cut()
    look(server, 0)
    look(server, 3)
    wait_for(lambda: not server.listeners[0].connections, "the end")


def test_a_slow_reader_of_the_last_answer_has_its_time(server: Any, caller: Caller) -> None:
    caller.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert caller.answer()[0] == 200
    (connection,) = server.listeners[0].connections
    server._loop.call_soon_threadsafe(connection.pause_writing)
    look(server, 0)
    look(server, 60)
    assert server.listeners[0].connections
    look(server, 91)
    wait_for(lambda: not server.listeners[0].connections, "the end")


def test_the_last_answer_ends_a_connection_whose_caller_sends_no_more() -> None:
    asked: list[Answering] = []
    connection = HttpConnection(lambda _, answering: asked.append(answering))
    connection.feed(encoded(ASKED) * 2)
    assert connection.end_of_input()
    for number in range(2):
        assert not connection.is_over
        asked[number](Reply(200, b"{}"))
    assert connection.is_over
    assert not connection.is_mute
    assert connection.to_send().count(b"HTTP/1.1 200") == 2


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_a_caller_that_has_sent_all(sidecar: Sidecar, server: Any, version: bytes) -> None:
    caller = Caller(sidecar)
    with caller.socket:
        caller.send(encoded(ASKED).replace(b"1.1", version))
        caller.socket.shutdown(socket.SHUT_WR)
        assert caller.answer()[0] == 200
        assert caller.is_cut()


def test_http_1_0_has_one_request_for_each_connection(caller: Caller) -> None:
    caller.send(b"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert caller.answer()[1]["connection"] == "close"
    assert caller.is_cut()


def test_an_answer_to_head_has_no_body(caller: Caller) -> None:
    caller.send(
        b"HEAD /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    )
    head = caller._until(b"\r\n\r\n")
    assert b"content-length: 3" in head
    assert caller.answer()[2] == b"ok\n"


def test_beyond_the_bound_the_oldest_silent_connection_makes_room(
    sidecar: Sidecar, server: Any
) -> None:
    server.listeners[0]._most = 3
    good = Caller(sidecar)
    good.send(encoded(ASKED))
    assert good.answer()[0] == 200
    silent = Caller(sidecar)
    wait_for(lambda: len(server.listeners[0].connections) == 2, "the connections")
    others = [Caller(sidecar) for _ in range(2)]
    assert silent.is_cut()
    for one in (good, *others):
        one.send(encoded(ASKED))
        assert one.answer()[0] == 200
        one.socket.close()
    silent.socket.close()


def test_damaged_requests(sidecar: Sidecar) -> None:
    """Any damage gets answers of HTTP, or waits for more, and breaks nothing for others."""
    chance = random.Random(4)
    whole = encoded(ASKED) + chunked(BODY[:9], BODY[9:])
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            place = chance.randrange(len(data))
            if chance.random() < 0.5:
                data[place] = chance.choice(b"\r\n\0 :;0159aFx,\xff")
            else:
                del data[place : place + chance.randint(1, 9)]
        caller = Caller(sidecar)
        with caller.socket:
            caller.send(bytes(data))
            caller.socket.shutdown(socket.SHUT_WR)
            with suppress(ConnectionError, EOFError):
                while True:
                    status, _, body = caller.answer()
                    assert status in (200, 400, 404, 405, 411, 413, 415, 417, 421, 431, 501, 505)
                    assert json.loads(body)
        assert re.fullmatch(rb"", caller._read)
