"""Metrics of programs with several processes: sums, forks, counters that never fall."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

POLICIES = """
apiVersion: ratectl/v1
scope: /mail
limits:
  spike: {rate: 2/s, burst: 10, per: tenant}
  daily: {algorithm: quota, rate: 1000/day}
  slots: {algorithm: concurrency, max: 100}
"""


_WORKERS = f"""
import os

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from ratectl import Agent
from ratectl.contrib.prometheus import export

POLICIES = '''{POLICIES}'''

agent = Agent.from_policies(POLICIES)
export(agent)
for _ in range(3):
    agent.check("/mail", {{"tenant": "x"}}).release()
workers = []
for number in range(2):
    worker = os.fork()
    if not worker:
        for _ in range(5 + number):
            agent.check("/mail", {{"tenant": "x"}}).release()
        agent.close()  # writes the last values
        os._exit(0)
    workers.append(worker)
for worker in workers:
    os.waitpid(worker, 0)
agent.close()
registry = CollectorRegistry()
MultiProcessCollector(registry)
print(generate_latest(registry).decode())
for worker in workers:
    mark_process_dead(worker)
print("--")
print(generate_latest(registry).decode())
"""


def test_several_processes_add_up(tmp_path: Path) -> None:
    """Each request is counted once, also those before the fork; gauges are of the living."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _WORKERS],
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        timeout=60,
    )
    both, living = done.stdout.split("--\n")
    mail = 'kind="limit",limit="spike"'
    allowed = f'ratectl_decisions_total{{{mail},outcome="allowed",scope="/mail"}}'
    keys = f'ratectl_limit_keys{{{mail},scope="/mail"}}'
    assert f"{allowed} 14.0\n" in both
    assert f"{allowed} 14.0\n" in living
    assert f"{keys} 0.0\n" in both  # all agents are closed
    assert "ratectl_generation 1.0\n" in both
    assert 'ratectl_limit_utilization_ratio_bucket{kind="limit",le="+Inf"' in both
    assert 'ratectl_decision_duration_seconds_bucket{le="+Inf"} ' in both


_PREFACE = f"""
import os
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from ratectl import Agent
from ratectl.contrib.prometheus import export

def page():
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    return generate_latest(registry).decode()

def told(name):
    found = [line.rpartition(" ")[2] for line in page().splitlines() if line.startswith(name)]
    return sum(map(float, found))

def write(agent):
    for values in agent._companions._all:
        if hasattr(values, "_write"):
            values._write()

ALLOWED = 'ratectl_decisions_total{{kind="limit",limit="daily",outcome="allowed"'
agent = Agent.from_policies('''{POLICIES}''')
"""


_ONE_WRITER = """
export(agent)
agent.serve(metrics="127.0.0.1:0")
for _ in range(10):
    agent.check("/mail").release()
export(agent)
write(agent)
assert told(ALLOWED) == 10, page()
other = Agent.from_policies("apiVersion: ratectl/v1\\nscope: /a\\nlimits: {l: {rate: 1/s}}")
try:
    export(other)
except ValueError as error:
    assert "another agent" in str(error)
else:
    raise AssertionError("two agents")
agent.close()
assert told(ALLOWED) == 10
assert told("ratectl_buckets") == 0
export(other)
other.close()
"""


_NEVER_FALLS = """
from ratectl.policy.read import load_valid_text
POLICIES = '''apiVersion: ratectl/v1
scope: /mail
limits: {daily: {algorithm: quota, rate: 1000/day}}
'''
export(agent)
texts = (POLICIES.replace("daily", "other"), POLICIES)
trees = [load_valid_text(text).tree for text in texts]
seen = []
for round_ in range(4):
    for _ in range(5 - round_):
        agent.check("/mail").release()
    write(agent)
    seen.append(told(ALLOWED))
    agent._following.enforcement.enforce(trees[round_ % 2], 2 + round_)
assert seen == sorted(seen), seen
"""


_FORKS = """
import signal, threading
from prometheus_client import Counter
export(agent)
own = Counter("own", "The program's own.")
stop = threading.Event()
def busy():
    while not stop.is_set():
        write(agent)
thread = threading.Thread(target=busy)
thread.start()
for _ in range(60):
    child = os.fork()
    if not child:
        signal.alarm(10)
        own.inc()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0, status
stop.set()
thread.join()
"""


@pytest.mark.parametrize(
    "code", [_ONE_WRITER, _NEVER_FALLS, _FORKS], ids=["one writer", "never falls", "forks"]
)
def test_one_process_of_several(tmp_path: Path, code: str) -> None:
    subprocess.run(
        [sys.executable, "-c", _PREFACE + code],
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)},
        check=True,
        timeout=90,
    )
