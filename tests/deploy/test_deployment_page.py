"""docs/deployment.md: its commands print what it shows, and its files are built."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
import yaml
from charts import KUSTOMIZE, ROOT, built, dry_run, refusal, render_example
from test_systemd_unit import UNIT, analyze

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.helm

PAGE = (ROOT / "docs" / "deployment.md").read_text("utf-8")
DOCKERFILE = ROOT / ".docker" / "Dockerfile"


def printed(command: str) -> str:
    """Return the output that the page shows for the command that begins like this."""
    (found,) = re.findall(
        rf"^\$ {re.escape(command)}.*\n((?:(?!\$ |```).*\n)*)", PAGE, re.MULTILINE
    )
    return str(found)


def test_the_notes_of_the_release() -> None:
    notes = dry_run().partition("NOTES:\n")[2]
    assert printed("helm upgrade").partition("NOTES:\n")[2].strip() == notes.strip()
    assert "WARNING" not in notes


@pytest.mark.parametrize("many", [{"replicas": 2}, {"autoscaling": {"enabled": True}}])
def test_the_notes_warn_of_replicas_that_count_by_themselves(many: dict[str, object]) -> None:
    assert "WARNING: each replica counts by itself" in dry_run(**many)
    for shared in ({"cluster": {"tlsSecret": "x"}}, {"redis": {"secret": "x"}}):
        assert "WARNING" not in dry_run(**many, **shared)


def test_the_error_for_a_misspelt_value() -> None:
    assert printed("helm template").strip() in refusal(rls={"prot": 8081})


def test_the_kustomization(tmp_path: Path) -> None:
    (text,) = re.findall(r"^# kustomization\.yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    remote = "https://github.com/ratectl/ratectl/deploy/kustomize"
    assert text.count(remote) == 2
    # kubectl takes no absolute paths: a link to the folder.
    (tmp_path / "kustomize").symlink_to(KUSTOMIZE)
    (tmp_path / "kustomization.yaml").write_text(text.replace(remote, "kustomize"))
    kinds = [f"kind: {each['kind']}\n" for each in built(tmp_path)]
    assert "".join(kinds) == printed("kubectl kustomize . | grep ^kind")


def test_the_lines_for_a_chart_are_in_the_example(tmp_path: Path) -> None:
    lines = re.findall(r"\{\{- include .*\}\}", PAGE)
    assert len(lines) == 2
    template = ROOT / "docs" / "examples" / "sidecar-chart" / "templates" / "deployment.yaml"
    assert all(line in template.read_text() for line in lines)
    assert yaml.safe_load(render_example(tmp_path))["metadata"]["name"] == "shop"


def test_the_exposure_of_the_unit() -> None:
    output = analyze("security", "--offline=true", "--no-pager", UNIT)
    assert output.splitlines()[-1] + "\n" == printed("systemd-analyze security")


def test_the_image_has_the_extras_that_the_files_need() -> None:
    (installed,) = re.findall(r'pip install --no-cache-dir "\.\[(.*?)\]"', DOCKERFILE.read_text())
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    for extra in installed.split(","):
        assert re.search(rf"^{extra} = \[", project, re.MULTILINE)
    assert "sidecar" in installed, "--rls"
    assert "prometheus" in installed, "--metrics"
    assert "redis" in installed, "RATECTL_REDIS_URL"
    assert "signing" in installed, "--public-key"
