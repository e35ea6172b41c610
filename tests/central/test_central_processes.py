"""Several processes obey one limit together, also those that were forked."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from support import once

if TYPE_CHECKING:
    from valkey_server import ValkeyServer

pytestmark = [once, pytest.mark.valkey]

POLICIES = """
apiVersion: ratectl/v1
scope: /
limits:
  spike: {rate: 1/day, burst: 200, across: redis}
  window: {algorithm: sliding-window, rate: 200/day, across: redis}
  day: {algorithm: quota, rate: 500/week, across: redis}
"""

WORKER = """
import asyncio, os, sys
from ratectl import Agent
policies, url, forks = sys.argv[1], sys.argv[2], int(sys.argv[3])
agent = Agent.from_policies(policies, redis=url, redis_deadline=10)

def admitted():
    return sum(agent.check_blocking("/").allowed for _ in range(60))

async def in_tasks():
    answers = await asyncio.gather(*[agent.acheck("/") for _ in range(60)])
    return sum(each.allowed for each in answers)

count = admitted() + asyncio.run(in_tasks())
children = []
for _ in range(forks):
    read, write = os.pipe()
    child = os.fork()
    if not child:
        number = admitted() + asyncio.run(in_tasks())
        assert not agent.status.problems, agent.status.problems
        os.write(write, str(number).encode())
        os._exit(0)
    os.close(write)
    children.append((child, read))
count += admitted()
for child, read in children:
    assert os.waitpid(child, 0)[1] == 0
    count += int(os.read(read, 100))
assert not agent.status.problems, agent.status.problems
agent.close()
print(count)
"""


def admitted(url: str, *, processes: int, forks: int) -> int:
    """Return how many requests all processes admit together."""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, POLICIES, url, str(forks)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(processes)
    ]  # fmt: skip
    results = [process.communicate(timeout=60) for process in running]
    assert [process.returncode for process in running] == [0] * processes, results
    return sum(int(out) for out, _ in results)


def test_two_processes_have_one_limit(valkey: ValkeyServer) -> None:
    assert admitted(valkey.url, processes=2, forks=0) == 200


def test_forked_children_have_connections_of_their_own(valkey: ValkeyServer) -> None:
    assert admitted(valkey.url, processes=1, forks=2) == 200
