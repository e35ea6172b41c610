"""The stream to a management server: responses, each answered by one request."""

from __future__ import annotations

import os
import queue
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import grpc

from ratectl.runtime.files import read_file
from ratectl.stores.etcd.failures import in_plain_words, text
from ratectl.xds.messages import METHOD, decode_response, encode_request

if TYPE_CHECKING:
    from ratectl.agent.serving.tls import Tls
    from ratectl.xds.messages import DiscoveryResponse

__all__ = ["Server", "Stream", "StreamEnded"]

_MOST_BYTES: Final = 16 * 1024 * 1024
_MOST_PEM: Final = 1_000_000

_OPTIONS: Final = [
    # A server in Go ends connections that ping more than once in five minutes.
    ("grpc.keepalive_time_ms", 330_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.enable_retries", 0),
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", _MOST_BYTES),
    ("grpc.primary_user_agent", "ratectl"),
]


class StreamEnded(Exception):
    """Raised when a stream has ended, or cannot begin; the text says why."""


@dataclass(frozen=True, slots=True)
class Server:
    """A management server."""

    address: str
    """``host:port``."""
    node: str
    """Name under which it knows this client."""
    tls: Tls | None = None
    """Certificate and key of this client, and the authority of the server. Read for each
    connection, so that renewed ones are used."""

    def open(self) -> Stream:
        """Open a stream, and ask for the configuration.

        :raises StreamEnded: the certificates cannot be read.
        """
        return Stream(self._channel(), self.node)

    def check(self) -> None:
        """:raises StreamEnded: the certificates cannot be read."""
        self._credentials()

    def _channel(self) -> grpc.Channel:
        credentials = self._credentials()
        if credentials is None:
            return grpc.insecure_channel(self.address, options=_OPTIONS)
        return grpc.secure_channel(self.address, credentials, options=_OPTIONS)

    def _credentials(self) -> grpc.ChannelCredentials | None:
        tls = self.tls
        if tls is None:
            return None
        certificate, key = _pem(tls.certificate), _pem(tls.key)
        authority = None if tls.client_ca is None else _pem(tls.client_ca)
        return grpc.ssl_channel_credentials(authority, key, certificate)


def _pem(path: str | os.PathLike[str]) -> bytes:
    try:
        return read_file(path, _MOST_PEM)
    except OSError as error:
        raise StreamEnded(f"cannot read {os.fspath(path)}: {error.strerror}") from None


class Stream:
    """One stream. A thread reads it; of responses that wait, the newest one counts.

    ``close`` may be called from any thread, repeatedly.
    """

    def __init__(self, channel: grpc.Channel, node: str) -> None:
        self._channel = channel
        self._node = node
        self._version = ""
        """Version of the last response on this stream that was accepted."""
        self._requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        # It names no version, so the server sends what it has: after a restart of the server, the
        # same version may have other contents.
        self._requests.put(encode_request(node))
        self._call: Any = channel.stream_stream(METHOD)(iter(self._requests.get, None))
        self._changed = threading.Condition()
        self._newest: bytes | None = None
        self._ended: str | None = None
        reader = threading.Thread(target=self._read, name="ratectl-xds-stream", daemon=True)
        reader.start()

    def _read(self) -> None:
        try:
            for data in self._call:
                with self._changed:
                    self._newest = data
                    self._changed.notify_all()
            reason = "the server has ended the stream"
        except grpc.RpcError as error:
            reason = in_plain_words(text(error))
        self._end(reason)

    def _end(self, reason: str) -> None:
        with self._changed:
            self._ended = self._ended or reason
            self._changed.notify_all()

    def receive(self, seconds: float | None) -> DiscoveryResponse | None:
        """Return the next response; None if there is none within ``seconds``.

        :raises StreamEnded: there will be none.
        :raises google.protobuf.message.DecodeError: the server sends something else.
        """
        with self._changed:
            self._changed.wait_for(self._has_news, seconds)
            data, self._newest = self._newest, None
            if data is None and self._ended is not None:
                raise StreamEnded(self._ended)
        return None if data is None else decode_response(data)

    def _has_news(self) -> bool:
        return self._newest is not None or self._ended is not None

    def accept(self, response: DiscoveryResponse) -> None:
        """Tell the server that a response is in use."""
        self._version = response.version_info
        self._answer(response, None)

    def refuse(self, response: DiscoveryResponse, reason: str) -> None:
        """Tell the server that a response is not used, and why."""
        self._answer(response, reason)

    def _answer(self, response: DiscoveryResponse, refusal: str | None) -> None:
        self._requests.put(
            encode_request(self._node, version=self._version, nonce=response.nonce, refusal=refusal)
        )

    def close(self) -> None:
        """End the stream."""
        self._end("it was closed")
        self._requests.put(None)
        self._call.cancel()
        self._channel.close()
