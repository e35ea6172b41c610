"""docs/deployment.md: its commands print what it shows, and its files are built."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

import pytest
import yaml
from charts import (
    KUSTOMIZE,
    ROOT,
    built,
    by_kind,
    container,
    dry_run,
    refusal,
    render_example,
    secret_of,
    values,
    with_values,
)
from test_systemd_unit import UNIT, analyze

from ratectl.stores.etcd.settings import Settings

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


def test_the_notes_name_the_port_for_http() -> None:
    notes = dry_run(http={"port": 8082})
    assert "Services ask http://ratectl.infra.svc:8082/v1/check." in notes


def test_the_error_for_a_misspelt_value() -> None:
    assert printed("helm template").strip() in refusal(rls={"prot": 8081})


def test_the_kustomization(tmp_path: Path) -> None:
    (text,) = re.findall(r"^# kustomization\.yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    remote = r"https://github\.com/ratectl/ratectl/deploy/kustomize/(\S+)\?ref=v(\S+)"
    (tag,) = {each["newTag"] for each in yaml.safe_load(text)["images"]}
    assert [ref for _, ref in re.findall(remote, text)] == [tag, tag], "the version of the image"
    # kubectl takes no absolute paths: a link to the folder.
    (tmp_path / "kustomize").symlink_to(KUSTOMIZE)
    (tmp_path / "kustomization.yaml").write_text(re.sub(remote, r"kustomize/\1", text))
    kinds = [f"kind: {each['kind']}\n" for each in built(tmp_path)]
    assert "".join(kinds) == printed("kubectl kustomize . | grep ^kind")


def test_the_lines_for_a_chart_are_in_the_example(tmp_path: Path) -> None:
    lines = re.findall(r"\{\{- include .*\}\}", PAGE)
    assert len(lines) == 2
    template = ROOT / "docs" / "examples" / "sidecar-chart" / "templates" / "deployment.yaml"
    assert all(line in template.read_text() for line in lines)
    assert yaml.safe_load(render_example(tmp_path))["metadata"]["name"] == "shop"


def test_the_namespace_is_made_before_the_secret_in_it(tmp_path: Path) -> None:
    made, created, installed = (
        PAGE.index(words)
        for words in (
            "kubectl create namespace infra\n",
            "kubectl -n infra create secret generic ratectl-store",
            "helm upgrade --install ratectl deploy/helm/ratectl --namespace infra",
        )
    )
    assert made < created < installed
    (words,) = re.findall(r"^kubectl -n infra create secret (.*\n.*)\n", PAGE, re.MULTILINE)
    (tmp_path / "password.txt").write_text("guess")
    secret = secret_of(shlex.split(words.replace("\\\n", " ")), tmp_path)
    assert secret["metadata"]["name"] == values()["store"]["secret"]
    assert secret["metadata"]["namespace"] == "infra"
    used = {
        each["valueFrom"]["secretKeyRef"]["key"] for each in container(with_values())["env"][1:]
    }
    assert secret["data"].keys() == used


@pytest.mark.parametrize("mesh", ["istio", "contour", "emissary"])
def test_the_peers_for_meshes(mesh: str) -> None:
    page = (ROOT / "docs" / "meshes.md").read_text("utf-8")
    (section,) = re.findall(rf"^## {mesh.title()}\n(.*?)^## ", page, re.MULTILINE | re.DOTALL)
    (clients,) = re.findall(r"`networkPolicy\.clients: (.*?)`", section)
    given = {"clients": yaml.safe_load(clients)}
    (rule, _) = by_kind(with_values(networkPolicy=given))["NetworkPolicy"]["spec"]["ingress"]
    (peer,) = rule["from"]
    name = peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
    file = {"istio": "istio-gateway"}.get(mesh, mesh)
    assert f"namespace: {name}\n" in (ROOT / "docs" / "envoy" / f"{file}.yaml").read_text("utf-8")


def test_the_credentials_of_the_unit_are_complete(tmp_path: Path) -> None:
    (text,) = re.findall(r"^```ini\n\[Service\]\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    for name in re.findall(r"^LoadCredential=(\S+):/etc/ratectl/", text, re.MULTILINE):
        (tmp_path / name).write_text("-----BEGIN guess\n")
    (line,) = re.findall(r"^Environment=(.*)", text, re.MULTILINE)
    given = dict(word.split("=", 1) for word in line.replace("%d", str(tmp_path)).split())
    (url,) = re.findall(r"<<< 'RATECTL_STORE=(.*)'", PAGE)
    settings = Settings.from_url(url, given)
    assert settings.user
    assert settings.password == "-----BEGIN guess"
    assert settings.ca
    asked = PAGE.index("systemctl edit ratectl-agent")
    assert "systemctl restart ratectl-agent" in PAGE[asked:], "or the lines are not used"


def test_the_exposure_of_the_unit() -> None:
    output = analyze("security", "--offline=true", "--no-pager", UNIT)
    assert output.splitlines()[-1] + "\n" == printed("systemd-analyze security")


def test_the_image_has_the_extras_that_the_files_need() -> None:
    (installed,) = re.findall(r'pip install --no-cache-dir "\.\[(.*?)\]"', DOCKERFILE.read_text())
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    for extra in installed.split(","):
        assert re.search(rf"^{extra} = \[", project, re.MULTILINE)
    assert f"pip install 'ratectl[{installed}]'" in PAGE, "systemd runs the same"
    assert "sidecar" in installed, "--rls"
    assert "prometheus" in installed, "--metrics"
    assert "redis" in installed, "RATECTL_REDIS_URL"
    assert "signing" in installed, "--public-key"
