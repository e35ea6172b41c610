"""Connections of the sidecar from the moment they are accepted: handshakes, and too few files."""

from __future__ import annotations

import resource
import signal
import socket
import ssl
import threading
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from etcd_server import wait_for
from ratectl import Agent, Tls
from ratectl.sidecar import Sidecar
from sidecar.http_asking import ask, connected
from support import once

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ratectl.sidecar.listener import Listener

pytestmark = [once, pytest.mark.usefixtures("loop")]

POLICIES = "apiVersion: ratectl/v1\nscope: /\nlimits: {each: {rate: 5/s}}\n"
ASKED = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def agent() -> Iterator[Agent]:
    with Agent.from_policies(POLICIES) as agent:
        yield agent


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def encrypted(agent: Agent, authority: trustme.CA, tmp_path: Path) -> Iterator[Sidecar]:
    certificate, key = tmp_path / "http.pem", tmp_path / "http.key"
    issued = authority.issue_cert("localhost")
    issued.private_key_pem.write_to_path(key)
    issued.cert_chain_pems[0].write_to_path(certificate)
    with Sidecar(agent, http="127.0.0.1:0", http_tls=Tls(certificate, key)) as sidecar:
        yield sidecar


def listener(sidecar: Sidecar) -> Listener:
    found: Listener = sidecar._servers[0].listeners[0]  # type: ignore[union-attr]
    return found


def in_handshakes(sidecar: Sidecar, count: int, running: ExitStack) -> list[socket.socket]:
    """Return connections whose callers say nothing."""
    opened = [running.enter_context(connected(sidecar.http)) for _ in range(count)]
    connections = listener(sidecar).connections
    wait_for(
        lambda: sum(not each.beginning.done() for each in connections) == count, "the handshakes"
    )
    return opened


@contextmanager
def signalled(handler: Callable[..., object]) -> Iterator[None]:
    """Run ``handler`` by a signal, a moment after the body has begun."""
    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def is_answered(client: socket.socket) -> bool:
    client.sendall(ASKED)
    return client.recv(1_000).startswith(b"HTTP/1.1 200")


def has_ended(client: socket.socket) -> bool:
    with suppress(ConnectionError):
        return not client.recv(1_000)
    return True


def test_of_too_many_handshakes_the_oldest_makes_room(
    encrypted: Sidecar, authority: trustme.CA
) -> None:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    listener(encrypted)._most = 4

    def new(running: ExitStack) -> socket.socket:
        plain = running.enter_context(connected(encrypted.http))
        return running.enter_context(context.wrap_socket(plain, server_hostname="localhost"))

    with ExitStack() as running:
        first = new(running)
        assert is_answered(first)
        oldest, second, third = in_handshakes(encrypted, 3, running)
        newest = new(running)
        assert has_ended(oldest)
        running.enter_context(connected(encrypted.http))
        assert has_ended(second)
        third.settimeout(0)
        with pytest.raises(BlockingIOError):
            third.recv(1)  # it is open
        assert is_answered(newest), "it has asked nothing yet, but others are older"
        assert is_answered(first)


def test_a_burst_of_handshakes_keeps_the_bound(encrypted: Sidecar) -> None:
    listener(encrypted)._most = 20
    with ExitStack() as running:
        opened = [running.enter_context(connected(encrypted.http)) for _ in range(200)]
        assert all(has_ended(each) for each in opened[:180])
        assert len(listener(encrypted).connections) == 20


def test_the_end_is_asked_for_in_the_thread_of_the_loop(
    agent: Agent, caplog: pytest.LogCaptureFixture
) -> None:
    """As by a finalizer, which may run in any thread."""
    sidecar = Sidecar(agent, http="127.0.0.1:0")
    with connected(sidecar.http) as client:
        assert is_answered(client)
        server: Any = sidecar._servers[0]
        server._loop.call_soon_threadsafe(sidecar.close)
        assert has_ended(client)
        sidecar.close()
        assert not server._thread.is_alive()
    assert not caplog.records, "it did not wait for itself"


def test_the_end_is_asked_for_again_by_a_signal(agent: Agent) -> None:
    sidecar = Sidecar(agent, http="127.0.0.1:0")
    with connected(sidecar.http) as client:
        client.sendall(ASKED[:-1])  # the end waits for the rest
        wait_for(lambda: any(each.speaker.calls for each in listener(sidecar).connections), "it")
        with signalled(lambda *_: sidecar.close(0)):
            sidecar.close(1)
        assert has_ended(client)


def test_an_interrupted_end_goes_on(agent: Agent) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    sidecar = Sidecar(agent, http="127.0.0.1:0")
    with connected(sidecar.http) as client:
        client.sendall(ASKED[:-1])
        with signalled(interrupt), pytest.raises(KeyboardInterrupt):
            sidecar.close(1)
        assert has_ended(client)
        sidecar.close()


def test_a_handshake_is_given_up_by_the_end(encrypted: Sidecar) -> None:
    with ExitStack() as running:
        (waiting,) = in_handshakes(encrypted, 1, running)
        closing = threading.Thread(target=encrypted.close, args=(30,))
        closing.start()
        closing.join(8)
        assert not closing.is_alive(), "the end does not wait for a handshake"
        assert has_ended(waiting)


def test_a_child_keeps_no_handshake_open(
    encrypted: Sidecar, fork_and_wait: Callable[[], None]
) -> None:
    with ExitStack() as running:
        (waiting,) = in_handshakes(encrypted, 1, running)
        fork_and_wait()
        encrypted.close(0)
        assert has_ended(waiting)


def test_connections_wait_while_there_are_too_few_files(
    agent: Agent, caplog: pytest.LogCaptureFixture
) -> None:
    few, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Sidecar(agent, http="127.0.0.1:0") as sidecar, socket.socket() as client:
        assert ask(sidecar.http, "GET", "/healthz").body == b"ok\n"
        client.settimeout(20)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (client.fileno() + 1, most))
            client.connect((sidecar.http.host, sidecar.http.port))
            wait_for(lambda: "no connection can be accepted" in caplog.text, "the warning")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (few, most))
        assert is_answered(client)
    told = caplog.text.count(f"{sidecar.http}: no connection can be accepted: [Errno 24]")
    assert 1 <= told <= 3, "it waits a second before it tries again"


def test_an_end_while_there_are_too_few_files(agent: Agent) -> None:
    few, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Sidecar(agent, http="127.0.0.1:0") as sidecar, socket.socket() as client:
        assert ask(sidecar.http, "GET", "/healthz").body == b"ok\n"
        client.settimeout(20)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (client.fileno() + 1, most))
            client.connect((sidecar.http.host, sidecar.http.port))
            sidecar.close(0)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (few, most))
        assert has_ended(client)
    listener(sidecar)._accept_again()  # as was planned: nothing happens


def test_connections_are_those_of_the_loop(agent: Agent, loop: str) -> None:
    with Sidecar(agent, http="127.0.0.1:0") as sidecar, connected(sidecar.http) as client:
        assert is_answered(client)
        server: Any = sidecar._servers[0]
        assert type(server._loop).__module__.partition(".")[0] == loop
        (connection,) = listener(sidecar).connections
        opened = connection.socket
        assert opened.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), "half-open peers end"
        assert opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY), "answers do not wait"


def test_many_connections_at_once_are_within_the_bound(agent: Agent) -> None:
    """None is counted twice while it begins, and none that is in use makes room."""
    with Sidecar(agent, http="127.0.0.1:0") as sidecar, ExitStack() as running:
        listener(sidecar)._most = 60
        clients = [running.enter_context(connected(sidecar.http)) for _ in range(60)]
        assert all(is_answered(client) for client in clients)
        assert len(listener(sidecar).connections) == 60


def test_connections_that_wait_at_the_end_are_answered(agent: Agent) -> None:
    with Sidecar(agent, http="127.0.0.1:0") as sidecar, ExitStack() as running:
        server: Any = sidecar._servers[0]
        is_busy, may_go_on = threading.Event(), threading.Event()

        def be_busy() -> None:
            is_busy.set()
            may_go_on.wait(20)

        server._loop.call_soon_threadsafe(be_busy)
        assert is_busy.wait(20)
        clients = [running.enter_context(connected(sidecar.http)) for _ in range(99)]
        for client in clients:
            client.sendall(ASKED)
        server.end(20)
        may_go_on.set()
        for client in clients:
            assert client.recv(1_000).startswith(b"HTTP/1.1 200")
            assert has_ended(client)


def test_both_servers_begin_to_end_at_once(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the end takes as long as the slower one, not as both."""
    sidecar = Sidecar(agent, "127.0.0.1:0", server="grpcio", http="127.0.0.1:0")
    order: list[str] = []

    def recorded(name: str, do: Callable[..., None]) -> Callable[..., None]:
        def told(*given: Any) -> None:
            order.append(name)
            do(*given)

        return told

    for each in sidecar._servers:
        for name in ("end", "wait"):
            monkeypatch.setattr(each, name, recorded(name, getattr(each, name)))
    sidecar.close()
    assert order == ["end", "end", "wait", "wait"]
