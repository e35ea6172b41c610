"""The container of the chart, without Kubernetes: its command, its probes and its end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from charts import ROOT, by_kind, container, with_values
from kubernetes_rules import pod_of

from etcd_server import _die_with_parent, free_port, wait_for
from ratectl.stores import open_store
from support import once, publish_policies, simple

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [once, pytest.mark.helm]

PROGRAM = Path(sys.executable).parent / "ratectl"
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text("utf-8")
HEALTH = "/grpc.health.v1.Health/Check"
SERVING = b"\x08\x01"


@contextmanager
def pod(folder: Path) -> Iterator[tuple[list[dict[str, Any]], subprocess.Popen[bytes]]]:
    """Run the container's command on loopback, with the variables that Kubernetes adds."""
    objects = with_values(rls={"port": free_port()}, metrics={"port": free_port()})
    words = [
        word.replace("$(POD_NAME)", "ratectl-0")
        .replace("/var/lib/ratectl", str(folder / "state"))
        .replace("0.0.0.0:", "127.0.0.1:")
        for word in container(objects)["args"]
    ]
    env = {
        **os.environ,
        "RATECTL_STORE": f"sqlite:///{folder}/rates.db",
        "RATECTL_PORT": "tcp://10.0.0.1:8081",
        "HOME": "/nonexistent",
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*_die_with_parent(), str(PROGRAM), *words], env=env, cwd="/", stdout=log, stderr=log
        )
    try:
        yield objects, process
    finally:
        process.kill()
        process.wait()


def is_ready(found: dict[str, Any]) -> bool:
    """Ask as the kubelet's readiness probe does."""
    with grpc.insecure_channel(f"127.0.0.1:{found['readinessProbe']['grpc']['port']}") as channel:
        check = channel.unary_unary(HEALTH)
        try:
            return bool(check(b"", timeout=found["readinessProbe"]["timeoutSeconds"]) == SERVING)
        except grpc.RpcError:
            return False


def is_alive(found: dict[str, Any]) -> bool:
    """Ask as the kubelet's liveness probe does."""
    probe = found["livenessProbe"]["httpGet"]
    try:
        with urllib.request.urlopen(
            f"http://127.0.0.1:{probe['port']}{probe['path']}",
            timeout=found["livenessProbe"]["timeoutSeconds"],
        ) as answer:
            return bool(answer.status == 200)
    except urllib.error.URLError:
        return False


def test_the_kill_switch_of_the_runbook_reaches_it_without_the_store(tmp_path: Path) -> None:
    (command,) = set(re.findall(r"`kubectl -n \w+ exec POD -c ratectl -- ([^`]+)`", RUNBOOK))
    for state_dir in re.findall(r"panic \w+ --local --state-dir\s(\S+?)[ `]", RUNBOOK):
        assert f"--state-dir={state_dir}" in container(with_values())["args"]
    assert RUNBOOK.count("--local") == RUNBOOK.count("--local --state-dir"), "else another folder"
    with pod(tmp_path) as (objects, _):
        found = container(objects)
        wait_for(lambda: is_alive(found), "the liveness probe", 60)
        assert "ratectl_kill_switches 0.0" in metrics(found)
        state = str(tmp_path / "state")
        words = command.replace("/var/lib/ratectl", state).replace("SCOPE", "/").split()
        done = subprocess.run(
            [str(PROGRAM), *words[1:]],
            capture_output=True, text=True, timeout=60, check=False, cwd="/",
            env={**os.environ, "RATECTL_STORE": "etcd://127.0.0.1:1/none", "HOME": "/nonexistent"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        wait_for(lambda: "ratectl_kill_switches 1.0" in metrics(found), "the kill switch", 30)


def metrics(found: dict[str, Any]) -> str:
    """Return the page that Prometheus reads."""
    port = found["livenessProbe"]["httpGet"]["port"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        text: str = answer.read().decode()
    return text


def test_it_is_alive_at_once_ready_with_a_generation_and_ends_in_time(tmp_path: Path) -> None:
    with pod(tmp_path) as (objects, process), open_store(f"sqlite:///{tmp_path}/rates.db") as store:
        found = container(objects)
        wait_for(lambda: is_alive(found), "the liveness probe", 60)
        assert not is_ready(found), "nothing is published"
        publish_policies(store, simple())
        wait_for(lambda: is_ready(found), "the readiness probe", 60)
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        ends = pod_of(by_kind(objects)["Deployment"])["terminationGracePeriodSeconds"]
        assert 5 < time.monotonic() - begun < ends
        assert "agent ratectl-0 follows" in (tmp_path / "log").read_text()
