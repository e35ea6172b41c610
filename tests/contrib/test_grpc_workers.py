"""Two gRPC server processes on one port, under load, get new policies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final, Self

import grpc
import pytest

from etcd_server import free_port, wait_for
from ratectl.stores import open_store
from support import once, policies, publish_policies

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [once, pytest.mark.servers]

COMMON: Final = """
import asyncio, json, os, signal, sys
from concurrent import futures

import grpc

import ratectl
from ratectl.contrib.grpc import AioRateLimitInterceptor, RateLimitInterceptor, by_method, metadata

agent = ratectl.Agent("sqlite:///rates.db", state_dir="state")
attributes = {"tenant": metadata("x-tenant")}
options = [("grpc.so_reuseport", 1)]


def state():
    left = agent.check("/api/shop.Cart/Stream", {"tenant": "acme"}, cost=0).remaining
    return json.dumps({"pid": os.getpid(), "left": left, "generation": agent.generation}).encode()


def served(one, stream, look):
    return grpc.method_handlers_generic_handler("shop.Cart", {
        "Item": grpc.unary_unary_rpc_method_handler(one),
        "Stream": grpc.unary_stream_rpc_method_handler(stream),
        "State": grpc.unary_unary_rpc_method_handler(look),
    })
"""

THREADS: Final = (
    COMMON
    + """
def stream(request, context):
    for number in range(200):
        yield b"x" * 1_000


limits = RateLimitInterceptor(agent, by_method("/api"), attributes)
server = grpc.server(futures.ThreadPoolExecutor(8), interceptors=[limits], options=options)
server.add_generic_rpc_handlers(
    [served(lambda request, context: request, stream, lambda request, context: state())]
)
server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
server.start()
signal.signal(signal.SIGTERM, lambda *_: server.stop(1))
server.wait_for_termination()
agent.close()
"""
)

ASYNCIO: Final = (
    COMMON
    + """
async def one(request, context):
    return request


async def stream(request, context):
    for number in range(200):
        yield b"x" * 1_000


async def look(request, context):
    return state()


async def main():
    limits = AioRateLimitInterceptor(agent, by_method("/api"), attributes)
    server = grpc.aio.server(interceptors=[limits], options=options)
    server.add_generic_rpc_handlers([served(one, stream, look)])
    server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
    await server.start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await server.stop(1)


asyncio.run(main())
agent.close()
"""
)


def limits(burst: int) -> Any:
    calls = {"rate": "1/min", "burst": burst, "per": "tenant"}
    slots = {"algorithm": "concurrency", "max": 4, "hold": "10min", "per": "tenant"}
    return policies(
        **{
            "/api/shop.Cart/Item": {"limits": {"calls": calls}},
            "/api/shop.Cart/Stream": {"limits": {"slots": slots}},
        }
    )


@contextmanager
def workers(folder: Path, code: str) -> Iterator[int]:
    port = free_port()
    (folder / "service.py").write_text(code)
    with ExitStack() as running, (folder / "log").open("ab") as log:
        processes = [
            running.enter_context(
                subprocess.Popen(
                    [sys.executable, "service.py", str(port)], cwd=folder, stdout=log, stderr=log
                )
            )
            for _ in range(2)
        ]
        try:
            yield port
        finally:
            for process in processes:
                process.terminate()
        assert [process.wait(20) for process in processes] == [0, 0]


class Client:
    """A client with a connection of its own: each reaches one of the processes."""

    def __init__(self, port: int) -> None:
        own = [("grpc.use_local_subchannel_pool", 1)]
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=own)

    def call(self, method: str) -> Any:
        return self._channel.unary_unary(f"/shop.Cart/{method}")(
            b"7", metadata=[("x-tenant", "acme")], timeout=20
        )

    def stream(self, *, leave: bool) -> None:
        parts = self._channel.unary_stream("/shop.Cart/Stream")(
            b"", metadata=[("x-tenant", "acme")], timeout=20
        )
        for part in parts:
            assert len(part) == 1_000
            if leave:
                parts.cancel()
                return

    def close(self) -> None:
        self._channel.close()


def states(port: int) -> list[dict[str, Any]]:
    """Return the states of both processes."""
    found: dict[int, dict[str, Any]] = {}

    def seen() -> bool:
        client = Client(port)
        try:
            state = json.loads(client.call("State"))
            found[state["pid"]] = state
        except grpc.RpcError:
            return False
        finally:
            client.close()
        return len(found) == 2

    wait_for(seen, "both processes", 30)
    return list(found.values())


class Load:
    """Clients that call until they are told to stop."""

    def __init__(self, port: int) -> None:
        self._port, self._stop = port, threading.Event()
        self.codes: Counter[str] = Counter()
        self.trailers: list[set[str]] = []
        """Names of the trailers of each refusal by the rate."""
        self.problems: list[BaseException] = []
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(4)]

    def _run(self, turn: int) -> None:
        try:
            while not self._stop.is_set():
                turn += 1
                self._turn(turn)
        except BaseException as problem:  # noqa: BLE001  shown below
            self.problems.append(problem)

    def _turn(self, turn: int) -> None:
        client = Client(self._port)
        try:
            client.stream(leave=turn % 2 == 0)
            client.call("Item")
            self.codes["OK"] += 1
        except grpc.RpcError as error:
            self.codes[error.code().name] += 1
            if "calls" in error.details():
                self.trailers.append({name for name, _ in error.trailing_metadata()})
        finally:
            client.close()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
        assert not self.problems


@pytest.mark.skipif(not hasattr(os, "fork"), reason="ports are shared on Unix alone")
@pytest.mark.parametrize("code", [THREADS, ASYNCIO], ids=["threads", "asyncio"])
def test_new_policies_under_load(tmp_path: Path, code: str) -> None:
    url = f"sqlite:///{tmp_path}/rates.db"
    with open_store(url) as store:
        publish_policies(store, limits(2))
        with workers(tmp_path, code) as port:
            assert {state["generation"] for state in states(port)} == {1}
            with Load(port) as load:
                wait_for(lambda: load.codes["RESOURCE_EXHAUSTED"] > 3, "refusals", 20)
                publish_policies(store, limits(3))
                wait_for(
                    lambda: {state["generation"] for state in states(port)} == {2}, "generation 2"
                )
            wait_for(lambda: [state["left"] for state in states(port)] == [4, 4], "slots", 20)
            assert set(load.codes) == {"OK", "RESOURCE_EXHAUSTED"}
            assert load.trailers
            assert all({"grpc-status-details-bin", "retry-after"} <= of for of in load.trailers)
    log = (tmp_path / "log").read_text()
    assert "Traceback" not in log, log
