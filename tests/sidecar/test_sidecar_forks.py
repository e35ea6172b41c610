"""A program that forks beside its sidecar: the child has neither its addresses nor connections."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING

import pytest

from etcd_server import wait_for
from ratectl import Agent
from ratectl.sidecar import Sidecar
from support import once

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ratectl.runtime.address import Address

pytestmark = [once, pytest.mark.usefixtures("loop")]

POLICIES = "apiVersion: ratectl/v1\nscope: /\nlimits: {each: {rate: 5/s}}\n"
BEGINNING = {
    "rls": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000"),
    "http": b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


def is_free(address: Address) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((address.host, address.port))
            listener.listen()
        except OSError:
            return False
        return True


@pytest.mark.parametrize("protocol", BEGINNING)
def test_a_child_keeps_no_connection_open(protocol: str, fork_and_wait: Callable[[], None]) -> None:
    with (
        Agent.from_policies(POLICIES) as agent,
        Sidecar(agent, **{protocol: "127.0.0.1:0"}) as sidecar,
    ):
        address = sidecar.addresses[protocol]
        with socket.create_connection((address.host, address.port), timeout=20) as client:
            client.sendall(BEGINNING[protocol])
            assert client.recv(1_000), "it is a connection of the sidecar"
            fork_and_wait()
            sidecar.close(0)
            while client.recv(1_000):
                pass  # until the end: the child would hold it open
        wait_for(lambda: is_free(address), "the child leaves the address")


@pytest.mark.parametrize("closed", ["agent", "sidecar"])
def test_a_child_of_a_program_that_is_ending_keeps_nothing_and_ends(
    closed: str, fork_and_wait: Callable[[], None]
) -> None:
    with Agent.from_policies(POLICIES) as agent, Sidecar(agent, http="127.0.0.1:0") as sidecar:
        address = sidecar.http
        with socket.create_connection((address.host, address.port), timeout=20) as client:
            client.sendall(BEGINNING["http"][:-1])
            (listener,) = sidecar._servers[0].listeners  # type: ignore[union-attr]
            wait_for(lambda: any(each.speaker.calls for each in listener.connections), "a call")
            ending = agent.close if closed == "agent" else partial(sidecar.close, 2)
            closing = threading.Thread(target=ending)
            closing.start()
            wait_for(lambda: not listener._accepts, "the end")
            fork_and_wait()
            pid = os.fork()
            if not pid:
                sidecar.close()
                agent.close()
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
            closing.join()
            while client.recv(1_000):
                pass  # until the end: the other child would hold it open


def test_a_child_that_closes_leaves_the_socket_to_its_parent(tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    with Agent.from_policies(POLICIES) as agent, Sidecar(agent, http=f"unix:{path}") as sidecar:
        child = os.fork()
        if not child:
            sidecar.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert path.is_socket()


PROGRAM = """
import gc, os, socket, sys
if sys.argv[1] == "asyncio":
    sys.modules["uvloop"] = None
from ratectl import Agent
from ratectl.sidecar import Sidecar

def is_answered(client):
    client.sendall(b"GET /healthz HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
    return client.recv(1_000).startswith(b"HTTP/1.1 200")

with (
    Agent.from_policies("apiVersion: ratectl/v1\\nscope: /\\nlimits: {each: {rate: 5/s}}") as agent,
    Sidecar(agent, http="127.0.0.1:0") as sidecar,
):
    address = sidecar.http.host, sidecar.http.port
    client = socket.create_connection(address, timeout=20)
    assert is_answered(client)
    for how in ("ends", "closes", "forgets"):
        child = os.fork()
        if not child:
            if how == "closes":
                sidecar.close()
                agent.close()
            if how == "forgets":
                del sidecar, agent
                gc.collect()
            sys.exit()
        assert os.waitpid(child, 0)[1] == 0, how
        assert is_answered(client), how
        with socket.create_connection(address, timeout=20) as new:
            assert is_answered(new), how
print("all are answered")
"""


def test_the_end_of_a_child_ends_nothing_of_its_parent(loop: str) -> None:
    """A child shares what its parent's loop waits for, and must not touch it."""
    told = subprocess.run(
        [sys.executable, "-c", PROGRAM, loop], capture_output=True, text=True, timeout=100
    )
    assert told.stdout == "all are answered\n", told.stderr
