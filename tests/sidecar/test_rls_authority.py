"""Calls whose authority is the name of a cluster that HTTP/2 does not allow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h2.config
import h2.connection
import h2.events
import pytest

from ratectl.sidecar import http2
from sidecar.servers import ON_THE_LOOP, connection

if TYPE_CHECKING:
    from collections.abc import Iterator

REFUSED = "a call with invalid headers was refused"


@pytest.fixture(autouse=True)
def untold() -> Iterator[None]:
    """The warning has not been told in this process."""
    http2.tell_of_headers.cache_clear()
    yield
    http2.tell_of_headers.cache_clear()


def events(server: str, *authorities: str) -> list[h2.events.Event]:
    """Return the events of a client that makes one call with each authority."""
    lenient = h2.config.H2Configuration(validate_outbound_headers=False)
    client = h2.connection.H2Connection(lenient)
    client.initiate_connection()
    for number, authority in enumerate(authorities):
        headers = {":method": "POST", ":scheme": "http", ":path": "/x", ":authority": authority}
        client.send_headers(
            2 * number + 1, [*headers.items(), ("content-type", "application/grpc")]
        )
        client.send_data(2 * number + 1, b"\0\0\0\0\0", end_stream=True)
    fed = connection(server, {"/x": lambda message: message})
    fed.feed(client.data_to_send())
    return client.receive_data(fed.to_send())


@pytest.mark.parametrize("server", ON_THE_LOOP)
@pytest.mark.parametrize("authority", ["outbound|8081||ratectl.infra", "extension/infra/ratectl"])
def test_a_refused_authority_is_told_once(
    authority: str, server: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Envoy would let all requests pass, and nobody would know why."""
    ended = events(server, authority, "ratectl:8081", authority)
    assert [each.stream_id for each in ended if isinstance(each, h2.events.StreamReset)] == [1, 5]
    assert [each.stream_id for each in ended if isinstance(each, h2.events.StreamEnded)] == [3]
    (told,) = caplog.messages
    assert told.startswith(REFUSED)
    assert "write `authority` in envoy_grpc" in told


@pytest.mark.parametrize("server", ON_THE_LOOP)
@pytest.mark.parametrize("authority", ["ratectl:8081", "[::1]:8081", "ratectl", "a_b.c"])
def test_usual_authorities_are_answered(
    authority: str, server: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert any(isinstance(each, h2.events.StreamEnded) for each in events(server, authority))
    assert caplog.messages == []
