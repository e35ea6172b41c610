"""The chart as Helm renders it, and kustomizations as kubectl builds them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

__all__ = [
    "CHART",
    "EXAMPLE",
    "KUSTOMIZE",
    "LAST_SAVE",
    "ROOT",
    "VERSIONS",
    "built",
    "by_kind",
    "container",
    "dry_run",
    "lint",
    "refusal",
    "render",
    "render_example",
    "secret_of",
    "values",
    "with_set",
    "with_values",
]

ROOT: Final = Path(__file__).parents[2]
CHART: Final = ROOT / "deploy" / "helm" / "ratectl"
KUSTOMIZE: Final = ROOT / "deploy" / "kustomize"
EXAMPLE: Final = ROOT / "docs" / "examples" / "sidecar-chart"
LAST_SAVE: Final = 15
"""Seconds that the last save of a full table took."""
VERSIONS: Final = ("1.30", "1.37")
"""The oldest version of Kubernetes that the chart is for, and the newest with a known schema."""


@cache
def values() -> dict[str, Any]:
    """Return the chart's own values."""
    found: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    return found


def render(**changes: Any) -> str:
    """Return the text that Helm renders, with changed values: ``render(rls={"port": 9000})``."""
    return _rendered(json.dumps(changes))


@cache
def _rendered(changes: str) -> str:
    done = _template(CHART, json.loads(changes))
    assert done.returncode == 0, done.stderr
    return done.stdout


def refusal(**changes: Any) -> str:
    """Return the error with which Helm refuses values."""
    done = _template(CHART, changes)
    assert done.returncode != 0, done.stdout
    return done.stderr


def with_set(*assignments: str) -> tuple[list[dict[str, Any]], str]:
    """Return the objects that Helm renders with ``--set``, and its error, if it refuses that.

    Helm reads numbers of ``--set`` as integers, and numbers of files as floating-point numbers.
    """
    options = [word for each in assignments for word in ("--set", each)]
    done = _template(CHART, {}, *options)
    return (_objects(done.stdout), "") if done.returncode == 0 else ([], done.stderr)


def with_values(**changes: Any) -> list[dict[str, Any]]:
    """Return the objects that Helm renders."""
    return _objects(render(**changes))


def dry_run(**changes: Any) -> str:
    """Return the output of ``helm install``, which installs nothing."""
    words = ("helm", "install", "ratectl", CHART, "--namespace", "infra", "--dry-run=client")
    done = _run(*words, "--values", "-", given=json.dumps(changes))
    assert done.returncode == 0, done.stderr
    return done.stdout


def lint(**changes: Any) -> str:
    """Return the output of ``helm lint``."""
    done = _run("helm", "lint", "--strict", CHART, "--values", "-", given=json.dumps(changes))
    assert done.returncode == 0, done.stdout
    return done.stdout


def render_example(folder: Path, template: str | None = None, **changes: Any) -> str:
    """Return the example of a chart that depends on ours, rendered after Helm has fetched ours.

    ``template``: text that replaces the example's template.
    """
    chart = folder / EXAMPLE.relative_to(ROOT)
    shutil.copytree(EXAMPLE, chart)
    shutil.copytree(CHART, folder / CHART.relative_to(ROOT))
    if template is not None:
        (chart / "templates" / "deployment.yaml").write_text(template)
    fetched = _run("helm", "dependency", "update", "--skip-refresh", chart)
    assert fetched.returncode == 0, fetched.stderr
    done = _template(chart, {"ratectl": changes})
    assert done.returncode == 0, done.stderr
    return done.stdout


def built(folder: Path) -> list[dict[str, Any]]:
    """Return the objects that ``kubectl kustomize`` makes of a folder."""
    done = _run("kubectl", "kustomize", folder)
    assert done.returncode == 0, done.stderr
    return _objects(done.stdout)


def secret_of(words: list[str], folder: Path) -> dict[str, Any]:
    """Return the Secret that ``kubectl create secret`` makes of words, in the namespace infra."""
    given = ("kubectl", "-n", "infra", "create", "secret", *words)
    done = _run(*given, "--dry-run=client", "--output=yaml", folder=folder)
    assert done.returncode == 0, done.stderr
    (found,) = _objects(done.stdout)
    return found


def by_kind(objects: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return objects by kind. There must be one of each."""
    found = {each["kind"]: each for each in objects}
    assert len(found) == len(objects)
    return found


def container(objects: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the container of ratectl in the Deployment among objects."""
    pod = by_kind(objects)["Deployment"]["spec"]["template"]["spec"]
    (found,) = (
        each
        for each in (*pod.get("initContainers", ()), *pod["containers"])
        if each["name"] == "ratectl"
    )
    return dict(found)


def _objects(text: str) -> list[dict[str, Any]]:
    return [each for each in yaml.safe_load_all(text) if each]


def _template(
    chart: Path, changes: dict[str, Any], *options: str
) -> subprocess.CompletedProcess[str]:
    words = ("helm", "template", "ratectl", chart, "--namespace", "infra", *options)
    return _run(*words, "--kube-version", VERSIONS[0], "--values", "-", given=json.dumps(changes))


def _run(
    program: str, *words: str | Path, given: str = "", folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [_require(program), *map(str, words)],
        input=given, capture_output=True, text=True, timeout=60, check=False, cwd=folder,
    )  # fmt: skip


def _require(program: str) -> str:
    """Return the path of a program. Without it, skip, or fail if RATECTL_REQUIRE_HELM=1."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    found = shutil.which(program, path=path)
    if found is not None:
        return found
    reason = f"no {program} is installed: `make .venv/helm-ready`"
    if os.environ.get("RATECTL_REQUIRE_HELM") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
