"""Real commands of Kubernetes, the image and pre-commit, in order."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from ci_support import DOCKERFILE, HOOKS, MANIFESTS, change, git
from cli_support import ratectl
from dockerfile_rules import instructions

from ratectl import Agent

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from cli_support import Cli


# Kubernetes --------------------------------------------------------------------------------------


@pytest.fixture
def volume(cli: Cli, tmp_path: Path) -> Path:
    """Write policies as a mounted ConfigMap: each file a link, through a link, and read-only."""
    assert cli("init", "source").code == 0
    folder = tmp_path / "volume"
    inner = folder / "..2026_11_23_12_00_00.1"
    inner.mkdir(parents=True)
    (folder / "..data").symlink_to(inner.name)
    for path in (tmp_path / "work" / "source" / "policies").rglob("*.yaml"):
        (inner / path.name).write_bytes(path.read_bytes())
        (folder / path.name).symlink_to(f"..data/{path.name}")
    return folder


def containers(path: Path, volume: Path, secret: dict[str, str]) -> list[int]:
    """Run a Job's containers like a kubelet; return exit codes up to the first failure."""
    pod = yaml.safe_load(path.read_text())["spec"]["template"]["spec"]
    codes = []
    for container in (*pod["initContainers"], *pod["containers"]):
        environment = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}
        for variable in container.get("env", ()):
            environment |= value_of(variable, secret)
        words = [word.replace("/policies", str(volume)) for word in container["args"]]
        done: subprocess.CompletedProcess[str] = ratectl(*words, env=environment, cwd="/")
        codes.append(done.returncode)
        if done.returncode:
            break
    return codes


def value_of(variable: dict[str, Any], secret: dict[str, str]) -> dict[str, str]:
    if "value" in variable:
        return {variable["name"]: variable["value"]}
    asked = variable["valueFrom"]["secretKeyRef"]
    if asked.get("optional") and asked["key"] not in secret:
        return {}
    return {variable["name"]: secret[asked["key"]]}


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_a_job_tests_and_applies_what_is_mounted(
    cli: Cli, path: Path, volume: Path, store_url: str, tmp_path: Path
) -> None:
    secret = {"url": store_url}
    with Agent(store_url, id="edge", state_dir=tmp_path / "agent") as agent:
        assert containers(path, volume, secret) == [0, 0]
        assert agent.generation == 1
        assert containers(path, volume, secret) == [0, 0], "a pod that runs again does no harm"
        (entry,) = cli("history", "-o", "json").document["generations"]
        assert entry["author"] == path.stem

        broken = volume / "..data" / "cart_test.yaml"
        broken.write_text(broken.read_text().replace("allowed: 200", "allowed: 190"))
        assert containers(path, volume, secret) == [1], "nothing is published that fails its tests"
    assert containers(path, volume, {"url": "etcd://127.0.0.1:1/x", "user": "a"}) == [1]


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_a_job_does_not_retry_errors_that_would_occur_again(
    cli: Cli, path: Path, volume: Path, store_url: str
) -> None:
    policy = yaml.safe_load(path.read_text())["spec"]["podFailurePolicy"]["rules"]
    (final,) = [rule["onExitCodes"]["values"] for rule in policy if rule["action"] == "FailJob"]
    assert containers(path, volume, {"url": store_url})[-1] == 1, "no agent is there"
    assert containers(path, volume, {"url": "etcd://127.0.0.1:1/x"})[-1] == 69
    assert 1 in final
    assert 69 not in final
    (volume / "..data" / "global.yaml").write_text("{apiVersion: ratectl/v1, scope: /}\n")
    (volume / "..data" / "cart.yaml").write_text("scope: [\n")
    assert containers(path, volume, {"url": store_url})[-1] in final


# The image ---------------------------------------------------------------------------------------


def test_the_image_runs_ratectl() -> None:
    """Without arguments it prints help; the arguments of Jobs replace CMD."""
    said = dict(instructions(DOCKERFILE.read_text()))
    program, *words = json.loads(said["ENTRYPOINT"]) + json.loads(said["CMD"])
    assert program == "ratectl"
    done = ratectl(*words)
    assert done.returncode == 0
    assert "Usage: ratectl" in done.stdout


# pre-commit --------------------------------------------------------------------------------------


def hook(name: str, cli: Cli, *files: str) -> int:
    """Run a hook like pre-commit, on the files that changed."""
    (found,) = [each for each in yaml.safe_load(HOOKS.read_text()) if each["id"] == name]
    passed = files if found.get("pass_filenames", True) else ()
    return cli(*found["entry"].split()[1:], *found.get("args", ()), *passed).code


def test_hooks_accept_policies_of_init_and_reject_broken_ones(cli: Cli, clean_place: Path) -> None:
    assert cli("init").code == 0
    cart = "policies/shop/cart.yaml"
    for name in ("ratectl-validate", "ratectl-fmt", "ratectl-test"):
        assert hook(name, cli, cart) == 0, name
    change(clean_place, "allowed: 200", "allowed: 190")
    assert hook("ratectl-test", cli, cart) == 1
    change(clean_place, "burst: 400", "burst: 4000")
    assert hook("ratectl-validate", cli, cart) == 1, "above the cap of another file"


def test_the_formatting_hook_changes_the_file(cli: Cli, clean_place: Path) -> None:
    """pre-commit fails if a hook changes a file."""
    assert cli("init").code == 0
    git("init", "-q")
    change(clean_place, "rate: 50/s", "rate:   50/1s")
    git("add", ".")
    assert hook("ratectl-fmt", cli, "policies/global.yaml") == 0
    assert git("diff", "--name-only") == "policies/global.yaml"
    assert "rate: 50/s" in (clean_place / "policies" / "global.yaml").read_text()
