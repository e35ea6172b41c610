"""Management servers that send what they should not, or are not who they should be."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import trustme
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryResponse
from google.protobuf.any_pb2 import Any as AnyMessage

from envoy_gateway.management_server import TYPE, ManagementServer, config, limit, packed
from envoy_gateway.place import begun
from envoy_gateway.test_following import policy
from etcd_server import wait_for
from ratectl import Tls
from ratectl.publishing.propose import propose
from ratectl.publishing.sets import SetChoice
from ratectl.stores import open_store
from ratectl.xds.messages import METHOD
from support import once

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from envoy_gateway.conftest import Start

pytestmark = once

GOOD = packed(config("http", limit("rule", "2/DAY", "rule")))
ASKED = "http", ("first-route", "first-route"), ("rule", "rule")


def nested(depth: int) -> dict[str, Any]:
    below = limit("last", "1/DAY")
    for number in range(depth):
        below = {"key": f"k{number}", "value": "v", "descriptors": [below]}
    return {"name": "http", "domain": "http", "descriptors": [below]}


WRONG: dict[str, tuple[list[AnyMessage], str]] = {
    "no message": ([AnyMessage(type_url=TYPE, value=b"\xff\xff\xff")], "a resource cannot be read"),
    "another type": (
        [AnyMessage(type_url="type.googleapis.com/envoy.config.cluster.v3.Cluster")],
        "a resource has the type 'type.googleapis.com/envoy.config.cluster.v3.Cluster'",
    ),
    "a name twice": ([GOOD, GOOD], "two resources have the name 'http'"),
    "a domain twice": (
        [GOOD, packed({**config("http", limit("a", "1/DAY")), "name": "other"})],
        "the domain http is declared twice",
    ),
    "no domain": ([packed({"name": "x"})], "domain"),
    "no key": ([packed({"name": "x", "domain": "x", "descriptors": [{"value": "a"}]})], "key"),
    "an entry twice": (
        [packed(config("http", limit("a", "1/DAY"), limit("a", "2/DAY")))],
        "the entry a is declared twice",
    ),
    "no unit": (
        [packed(config("http", {"key": "a", "rate_limit": {"requests_per_unit": 1}}))],
        "the limit has no unit",
    ),
    "an unknown unit": (
        [packed(config("http", {"key": "a", "rate_limit": {"unit": 99}}))],
        "there is no unit '99'",
    ),
    "too deep": ([packed(nested(60))], "nested"),
    "a key of a megabyte": ([packed(config("http", limit("a" * 10**6, "1/DAY")))], "at most 4096"),
    "a control character": (
        [packed(config("http", limit("a", "1/DAY", "\x01")))],
        "the character U+0001 is not allowed",
    ),
    "too many": (
        [packed(config("http", *(limit(f"key-{number}", "1/DAY") for number in range(20_000))))],
        "more than",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_resource_is_refused(name: str, server: ManagementServer, start: Start) -> None:
    resources, words = WRONG[name]
    place = begun(start, server, GOOD)
    server.put(2, *resources)
    assert words in place.wait_for_problem("version 2")
    wait_for(lambda: server.refusals, "it is told")
    assert words in server.refusals[0]
    assert len(server.refusals[0]) < 2_000
    assert place.admits(*ASKED) == 2


def test_a_response_of_another_type_is_refused(server: ManagementServer, start: Start) -> None:
    place = start(server.address)
    server.put(1, GOOD, kind="type.googleapis.com/envoy.config.cluster.v3.Cluster")
    assert "were not asked for" in place.wait_for_problem("version 1")


def test_odd_texts_are_kept(server: ManagementServer, start: Start) -> None:
    """A header may hold quotes, signs of YAML, line ends and other scripts."""
    texts = ['"', "'", "a: b", "# no", "{x}", "[", "*x", "&x", "!x", "%", "\t", "a\nb", "ß→日"]
    texts += ["null", "true", "1e3", "2026-11-30", "-", "---", " ", "\U0010ffff"]
    place = begun(
        start, server, packed(config("http", *(limit("odd", "1/DAY", text) for text in texts)))
    )
    for text in texts:
        assert place.admits("http", ("first-route", "first-route"), ("odd", text)) == 1, repr(text)


# Servers that speak otherwise ---------------------------------------------------------------------


class Raw:
    """A server whose first stream sends these bytes, or ends; the next ones send what is right."""

    def __init__(self, first: bytes | None) -> None:
        self._first = first
        self.streams = 0
        self._open: list[threading.Event] = []

    def __call__(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        next(requests)
        self.streams += 1
        if self.streams > 1:
            good = DiscoveryResponse(version_info="2", resources=[GOOD], type_url=TYPE, nonce="n")
            yield good.SerializeToString()
        elif self._first is None:
            return
        else:
            yield self._first
        ended = threading.Event()
        self._open.append(ended)
        context.add_callback(ended.set)
        ended.wait(60)

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Yield the address."""
        service, _, method = METHOD.lstrip("/").partition("/")
        handler = grpc.method_handlers_generic_handler(
            service, {method: grpc.stream_stream_rpc_method_handler(self)}
        )
        pool = ThreadPoolExecutor(8)
        options = [("grpc.max_send_message_length", 1 << 26)]
        server = grpc.server(pool, handlers=[handler], options=options)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            for ended in self._open:
                ended.set()
            server.stop(0).wait()
            pool.shutdown()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\xff\xff\xff\xff", "Error parsing message"),
        (b"\x0a\x01\xff", "Error parsing message"),  # no UTF-8
        (DiscoveryResponse(version_info="x" * (17 << 20)).SerializeToString(), "larger than max"),
        (None, "the server has ended the stream"),
    ],
    ids=["no message", "no text", "17 MiB", "the end"],
)
def test_a_stream_that_breaks_is_opened_again(data: bytes | None, words: str, start: Start) -> None:
    with Raw(data).serving() as address:
        place = start(address)
        assert "is not reached" in place.wait_for_problem(words)
        place.wait_until_well()
        assert place.admits(*ASKED) == 2


def test_a_server_that_sends_each_version_once(start: Start, url: str, tmp_path: Path) -> None:
    """A refusal brings no second response, so the follower tries again by itself."""
    scope = "/http/first-route_first-route/rule_rule"
    good = DiscoveryResponse(version_info="1", resources=[GOOD], type_url=TYPE, nonce="n")
    with open_store(url) as store, Raw(good.SerializeToString()).serving() as address:
        propose(store, policy(tmp_path, scope), choice=SetChoice("team")).apply()
        place = start(address)
        place.wait_for_problem("version 1")
        moved = propose(store, policy(tmp_path, "/own"), choice=SetChoice("team", prune=True))
        moved.apply({each.guard: "moved" for each in moved.objections})
        place.wait_until_well()
        assert place.admits(*ASKED) == 2


def test_an_empty_response_is_refused(start: Start) -> None:
    with Raw(b"").serving() as address:
        place = start(address)
        assert "resources of type '' were not asked for" in place.wait_for_problem("is refused")


def test_something_that_is_no_server_of_grpc(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        place = start(f"127.0.0.1:{listener.getsockname()[1]}")
        for _ in range(2):
            connection, _ = listener.accept()
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            connection.close()
        assert "is not reached" in place.wait_for_problem("is not reached")


# TLS ----------------------------------------------------------------------------------------------


class Files:
    """Certificate and key of a client, and the authority of the server."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self.tls = Tls(folder / "tls.crt", folder / "tls.key", folder / "ca.crt")
        self.authority.cert_pem.write_to_path(folder / "ca.crt")
        self.issue(self.authority)

    def issue(self, authority: trustme.CA) -> None:
        issued = authority.issue_cert("envoy-ratelimit")
        issued.private_key_pem.write_to_path(self.tls.key)
        issued.cert_chain_pems[0].write_to_path(self.tls.certificate)

    def server(self, authority: trustme.CA | None = None) -> Any:
        """Return credentials of a server that asks its clients for certificates."""
        own = (authority or self.authority).issue_cert("localhost")
        pair = own.private_key_pem.bytes(), own.cert_chain_pems[0].bytes()
        return grpc.ssl_server_credentials([pair], self.authority.cert_pem.bytes(), True)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_mutual_tls(files: Files, start: Start) -> None:
    with ManagementServer(tls=files.server()) as server:
        server.put(1, GOOD)
        place = start(server.address, tls=files.tls)
        wait_for(lambda: server.accepted(1), "it is accepted")
        assert place.admits(*ASKED) == 2


def test_a_server_that_another_authority_has_signed_is_not_believed(
    files: Files, start: Start
) -> None:
    with ManagementServer(tls=files.server(trustme.CA())) as server:
        server.put(1, GOOD)
        place = start(server.address, tls=files.tls)
        place.wait_for_problem("is not reached")
        assert not server.requests


def test_renewed_certificates_are_used(files: Files, start: Start) -> None:
    files.issue(trustme.CA())  # of an authority that the server does not know
    with ManagementServer(tls=files.server()) as server:
        server.put(1, GOOD)
        place = start(server.address, tls=files.tls)
        place.wait_for_problem("is not reached")
        files.issue(files.authority)
        wait_for(lambda: server.accepted(1), "it is accepted", 20)
        place.wait_until_well()


def test_certificates_that_are_gone_are_told(files: Files, start: Start, tmp_path: Path) -> None:
    with ManagementServer(tls=files.server()) as server:
        server.put(1, GOOD)
        place = start(server.address, tls=files.tls)
        wait_for(lambda: server.accepted(1), "it is accepted")
        (tmp_path / "tls.key").unlink()
    place.wait_for_problem(f"cannot read {tmp_path}/tls.key: No such file or directory")
