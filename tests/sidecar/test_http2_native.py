"""The connection in C: what only it can do wrong."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from typing import TYPE_CHECKING, Any

import h2.config
import h2.connection
import h2.events
import pytest
from hyperframe.frame import SettingsFrame

from ratectl import Agent
from ratectl.errors import UsageError
from ratectl.sidecar import Sidecar, sidecar
from ratectl.sidecar.service import METHOD
from sidecar.servers import connection, needed
from sidecar.test_rls_attacks import HEADERS, MESSAGE, PREFACE, data, headers
from support import once

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = once

POLICIES = "apiVersion: ratectl/v1\nscope: /\nlimits: {each: {rate: 5/s}}\n"
CALL = headers(1).serialize() + data(1, MESSAGE).serialize()
BEGINNING = PREFACE + SettingsFrame(0).serialize()


@pytest.fixture
def begun() -> Callable[..., Any]:
    """Return a function that begins a connection with a function for its calls."""

    def begin(later: Callable[..., Any] | None = None) -> Any:
        made = connection("libnghttp2", {METHOD: bytes}, later=later)
        made.feed(BEGINNING)
        return made

    return begin


def test_a_call_cannot_enter_its_own_connection(begun: Callable[..., Any]) -> None:
    """libnghttp2 is not made to be entered twice."""
    tried = []

    def run(_method: object, message: bytes, own: Any, _stream: int) -> bytes:
        for entering in (lambda: own.feed(b""), own.to_send):
            with pytest.raises(RuntimeError, match="the connection is in use"):
                entering()
            tried.append(entering)
        return message

    made = begun(run)
    made.feed(CALL)
    assert len(tried) == 2
    assert MESSAGE[5:] in made.to_send()


@pytest.mark.parametrize("is_later", [False, True])
def test_an_interrupted_call_ends_the_connection(is_later: bool) -> None:
    def interrupted(*_: object) -> bytes:
        raise KeyboardInterrupt

    later = interrupted if is_later else None
    made = connection("libnghttp2", {METHOD: interrupted}, later=later)
    made.feed(BEGINNING)
    with pytest.raises(KeyboardInterrupt):
        made.feed(CALL)
    assert made.is_over
    assert made.to_send() == b""
    made.feed(CALL)
    made.drain()
    made.answer(1, b"late")
    assert not made.is_open(1)


@pytest.mark.parametrize("answer", [3, "text", [b"x"]])
@pytest.mark.parametrize("is_later", [False, True])
def test_an_answer_is_bytes(answer: Any, is_later: bool) -> None:
    later = (lambda *_: answer) if is_later else None
    made = connection("libnghttp2", {METHOD: lambda _: answer}, later=later)
    made.feed(BEGINNING)
    with pytest.raises(TypeError):
        made.feed(CALL)


def test_an_answer_may_come_later_and_once(begun: Callable[..., Any]) -> None:
    made = begun(lambda *_: None)
    made.feed(CALL)
    made.to_send()
    assert (made.calls, made.is_open(1), made.is_open(3)) == (1, True, False)
    made.answer(1, b"first")
    made.answer(1, b"second")
    made.answer(3, b"of no call")
    sent = made.to_send()
    assert b"first" in sent
    assert b"second" not in sent
    assert (made.calls, made.ended, made.is_open(1)) == (0, 1, False)
    made.answer(1, b"third")
    assert made.to_send() == b""


@pytest.mark.parametrize("size", [0, 1, 16_379, 16_384, 70_000, 300_000])
def test_answers_of_any_size_arrive_as_the_windows_allow(size: int) -> None:
    answer = bytes(range(256)) * (size // 256 + 1)
    made = connection("libnghttp2", {METHOD: lambda _: answer[:size]})
    client = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    client.initiate_connection()
    client.send_headers(1, HEADERS)
    client.send_data(1, MESSAGE, end_stream=True)
    found, ended = b"", False
    for _ in range(100):
        made.feed(client.data_to_send())
        for event in client.receive_data(made.to_send()):
            if isinstance(event, h2.events.DataReceived):
                found += event.data
                client.acknowledge_received_data(event.flow_controlled_length, 1)
            ended = ended or isinstance(event, h2.events.StreamEnded)
    assert ended
    assert found == b"\0" + size.to_bytes(4, "big") + answer[:size]
    assert (made.calls, made.ended) == (0, 1)


def test_memory_that_is_short_ends_the_connection(begun: Callable[..., Any]) -> None:
    """nghttp2 gives its bytes away once: what follows would mean nothing to the peer."""
    testing = pytest.importorskip("_testcapi")
    failed = 0
    for number in range(10):
        made = begun()
        made.feed(CALL)
        sent = b""
        testing.set_nomemory(number, number + 1)
        try:
            sent = made.to_send()
        except MemoryError:
            failed += 1
        finally:
            testing.remove_mem_hooks()
        assert MESSAGE[5:] in sent or made.is_over
    assert failed


def test_connections_are_collected_with_their_calls(begun: Callable[..., Any]) -> None:
    class Run:
        own: Any = None

        def __call__(self, *_: object) -> None:
            return None

        def method(self, message: bytes) -> bytes:
            return message

    run = Run()
    run.own = connection("libnghttp2", {METHOD: run.method}, later=run)
    run.own.feed(BEGINNING + CALL)
    run.own.feed(headers(3).serialize() + data(3, b"\0" * 9, end=False).serialize())
    assert run.own.calls == 2
    gone = weakref.ref(run)
    del run
    gc.collect()
    assert gone() is None


def test_a_connection_whose_open_call_is_its_own_method_is_collected() -> None:
    needed("libnghttp2")
    from ratectl.sidecar import _http2

    class Own(_http2.Connection):
        pass

    methods: dict[bytes, Any] = {}
    made = Own(methods, None, bool, 1_000, 1_000, 10, 1_000)
    methods[METHOD.encode()] = made.feed
    made.feed(BEGINNING + headers(1).serialize())
    assert made.calls == 1
    del made, methods
    gc.collect()  # it clears weak references also of what it cannot free
    assert not [each for each in gc.get_objects() if type(each) is Own]


WITHOUT_END = """
import resource, sys
from sidecar.damaging import connection

def used():
    for seed in range(1_500):
        connection(seed, "libnghttp2")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

used()
before = used()
print(used() - before)
"""


def test_memory_does_not_grow() -> None:
    needed("libnghttp2")
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path}\n{WITHOUT_END}"]
    grown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert int(grown) < 1_000, "kilobytes"


@pytest.mark.parametrize("arguments", [(1,), (1, [b"x"]), (1, (b"x",)), (1, ((b"x", "y"),))])
def test_fields_are_pairs_of_bytes(begun: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    made = begun(lambda *_: None)
    made.feed(CALL)
    for send in (made.send_headers, made.end_messages):
        with pytest.raises(TypeError):
            send(*arguments)
    assert made.is_open(1)


@pytest.mark.parametrize("number", [0, -1, 2**31, 2**32 + 1])
def test_numbers_of_no_stream(begun: Callable[..., Any], number: int) -> None:
    made = begun(lambda *_: None)
    made.feed(CALL)
    assert made.is_open(1)
    assert not made.is_open(number)
    made.begin_messages(number)
    with pytest.raises(OverflowError):
        made.is_open(2**64)


def test_paths_have_a_bound() -> None:
    with pytest.raises(ValueError, match="a path has 127 bytes at most"):
        connection("libnghttp2", {"/" + "x" * 127: bytes})


# The choice ---------------------------------------------------------------------------------------


@pytest.fixture
def without_library(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http2_native", "_http2"):
        monkeypatch.delitem(sys.modules, f"ratectl.sidecar.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "ratectl.sidecar._http2", None)


def test_a_server_that_is_not_here_is_told(without_library: None) -> None:
    with (
        Agent.from_policies(POLICIES) as agent,
        pytest.raises(UsageError, match="the server libnghttp2 cannot be used: "),
    ):
        Sidecar(agent, "127.0.0.1:0", server="libnghttp2")


def test_the_first_server_that_is_here_is_used(
    without_library: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sidecar._chosen(None) == "ngh2"
    monkeypatch.delitem(sys.modules, "ratectl.sidecar.http2_ngh2", raising=False)
    monkeypatch.setitem(sys.modules, "ngh2", None)
    assert sidecar._chosen(None) == "grpcio"
    with pytest.raises(UsageError, match="pip install 'ratectl\\[sidecar\\]'"):
        sidecar._chosen("ngh2")


def test_the_systems_library_is_the_usual_one() -> None:
    needed("libnghttp2")
    assert sidecar._chosen(None) == "libnghttp2"
