"""A real Envoy beside ``ratectl agent run``: what operators do while requests come."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

import pytest

from etcd_server import free_port, wait_for
from sidecar.meshes import Config, Load, Mesh, mesh, virtual_host, with_second
from support import once

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [once, pytest.mark.envoy, pytest.mark.xdist_group("envoy")]

PROGRAM = [sys.executable, "-c", "from ratectl_cli.app import main; main()"]
POLICY = """
apiVersion: ratectl/v1
scope: /shop
limits:
  each: {{rate: {burst}/day, burst: {burst}, per: client, absent: skip}}
  paths: {{rate: 2/day, burst: 2, per: path, absent: skip}}
"""


class Place:
    """A store and a folder of policies."""

    def __init__(self, folder: Path) -> None:
        self.url = f"sqlite:///{folder}/rates.db"
        self.policies = folder / "policies"
        self.policies.mkdir()

    def write(self, burst: int) -> None:
        (self.policies / "shop.yaml").write_text(POLICY.format(burst=burst))

    def run(self, *arguments: str) -> str:
        """Run a command; return its output."""
        done = subprocess.run(
            [*PROGRAM, *arguments, "--store", self.url, "--no-input"],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def apply(self, burst: int, *options: str) -> str:
        self.write(burst)
        return self.run("apply", str(self.policies), "--yes", *options)


@contextmanager
def sidecar(
    place: Place, run: Mesh, folder: Path, *options: str, name: str = "edge-1", port: int = 0
) -> Iterator[subprocess.Popen[bytes]]:
    """Run the sidecar as a process, and wait until Envoy asks it, or another one."""
    log = folder / f"{name}.log"
    with log.open("ab") as out:
        process = subprocess.Popen(
            [*PROGRAM, "agent", "run", "--store", place.url, "--state-dir", str(folder / name),
             "--id", name, "--rls", f"127.0.0.1:{port or run.rls}", *options],
            stdout=out, stderr=out,
        )  # fmt: skip
    try:
        wait_for(lambda: "ratelimit" in run.get("first").headers, "Envoy to ask", 60)
        yield process
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    place.apply(3, "--allow-first", "a test")
    return place


def policy_for(run: Mesh) -> str:
    """Return the limit that decides, and its burst."""
    return run.get("somebody").headers["ratelimit-policy"].partition(";w=")[0]


def test_a_kill_switch_and_a_new_generation(
    tmp_path: Path, place: Place, figure: Callable[[str], None]
) -> None:
    with mesh(tmp_path) as run, sidecar(place, run, tmp_path):
        assert run.statuses("a", 4) == [200, 200, 200, 429]
        place.run("panic", "on", "--scope", "/shop", "--reason", "INC-42", "--wait")
        assert run.statuses("a", 3) == [200] * 3
        place.run("panic", "off", "--scope", "/shop", "--wait")
        assert run.statuses("a", 1) == [429]
        place.apply(4, "--wait")
        assert policy_for(run) == '"each";q=4'
    figure("limit used up: 429; panic on: 200 × 3; panic off: 429; `apply` of burst 4: q=4")


def test_a_canary_decides_what_envoy_asks(
    tmp_path: Path, place: Place, figure: Callable[[str], None]
) -> None:
    with mesh(tmp_path) as run, sidecar(place, run, tmp_path):
        place.write(1)
        canary = ("--canary", "100%", "--band", "none", "--bake", "600", "--min-requests", "0")
        controlled = subprocess.Popen(
            [*PROGRAM, "apply", str(place.policies), "--yes", "--store", place.url, "--no-input",
             *canary],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            wait_for(lambda: policy_for(run) == '"each";q=1', "the candidate", 60, 0.1)
            assert run.statuses("b", 2) == [200, 429]
            place.run("rollout", "abort", "--reason", "a test")
            wait_for(lambda: policy_for(run) == '"each";q=3', "its end", 60, 0.1)
        finally:
            controlled.kill()
            controlled.wait()
    figure("canary of burst 1: 200, 429; `rollout abort`: burst 3 again")


def with_paths(config: Config) -> Config:
    """Add a second descriptor to each request."""
    header = {"header_name": ":path", "descriptor_key": "path"}
    virtual_host(config)["rate_limits"].append({"actions": [{"request_headers": header}]})
    return config


def test_several_descriptors_are_charged_together_or_not_at_all(
    tmp_path: Path, place: Place, figure: Callable[[str], None]
) -> None:
    place.apply(3)
    with mesh(tmp_path, with_paths) as run, sidecar(place, run, tmp_path):
        assert [run.get("a", "/x").status_code for _ in range(2)] == [200, 200]
        refused = run.get("a", "/x")
        assert refused.status_code == 429
        assert refused.headers["ratelimit"].startswith('"paths";r=0')
        passed = run.get("a", "/y")
        assert passed.status_code == 200, "the refusal has taken nothing from the client"
        assert run.get("a", "/z").status_code == 429
        assert run.get("b", "/z").status_code == 200, "nor from the path"
    figure("two descriptors: 429 by one of them takes nothing from the other")


@pytest.mark.parametrize(("denies", "expected"), [("false", 200), ("true", 500)])
def test_a_sidecar_that_is_too_slow(
    tmp_path: Path, place: Place, denies: str, expected: int, figure: Callable[[str], None]
) -> None:
    """Envoy waits for its timeout, and decides by itself."""
    changes = {
        "timeout: 0.1s": "timeout: 0.3s",
        "failure_mode_deny: false": f"failure_mode_deny: {denies}",
    }
    with mesh(tmp_path, **changes) as run, sidecar(place, run, tmp_path) as process:
        wait_for(lambda: run.get("a").status_code == 429, "the limit", 60)
        os.kill(process.pid, signal.SIGSTOP)
        try:
            began = monotonic()
            assert run.statuses("a", 3) == [expected] * 3
            took = (monotonic() - began) / 3
        finally:
            os.kill(process.pid, signal.SIGCONT)
        wait_for(lambda: run.get("a").status_code == 429, "the limit again", 60)
    figure(
        f"sidecar stopped, timeout 0.3 s, failure_mode_deny {denies}: {expected} after {took:.2f} s"
    )


def test_a_sidecar_that_is_killed_and_starts_again(
    tmp_path: Path, place: Place, figure: Callable[[str], None]
) -> None:
    with mesh(tmp_path) as run:
        with sidecar(place, run, tmp_path) as process:
            assert run.statuses("a", 4) == [200, 200, 200, 429]
            process.kill()
            process.wait()
            assert run.statuses("a", 3) == [200] * 3, "Envoy lets requests pass"
        with sidecar(place, run, tmp_path):
            assert run.statuses("b", 4) == [200, 200, 200, 429]
    figure("sidecar killed: 200 × 3 without it; with the next one, the limit of 3 decides")


def test_of_two_sidecars_one_that_drains_fails_no_request(
    tmp_path: Path, place: Place, figure: Callable[[str], None]
) -> None:
    """The sidecar answers until Envoy's health checks have found out that it is ending."""
    second = free_port()
    deny = {"failure_mode_deny: false": "failure_mode_deny: true"}
    healthy = "cluster.ratectl.membership_healthy"
    with (
        mesh(tmp_path, partial(with_second, second), **deny) as run,
        sidecar(place, run, tmp_path),
        sidecar(place, run, tmp_path, "--drain-seconds", "6", name="edge-2", port=second) as ending,
    ):
        wait_for(lambda: run.envoy.counters(healthy)[healthy] == 2, "both", 60)
        with Load(run) as load:
            load.more(20)
            ending.send_signal(signal.SIGTERM)
            assert ending.wait(30) == 0
            assert run.envoy.counters(healthy)[healthy] == 1
            load.more(20)
    assert set(load.statuses) == {200, 429}
    assert "answering for 6 s more" in (tmp_path / "edge-2.log").read_text()
    figure(f"one of two sidecars drains for 6 s, failure_mode_deny true: {load}")
