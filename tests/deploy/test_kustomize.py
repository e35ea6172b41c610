"""Kustomizations: the same objects as the chart's, built by real kubectl."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from charts import KUSTOMIZE, VERSIONS, built, by_kind, container, with_values
from kubernetes_rules import findings, pod_of
from kustomize_files import expected

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.helm

UPDATE = os.environ.get("RATECTL_UPDATE_GOLDEN") == "1"
APPLICATION = """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: shop
  labels: {ratectl-sidecar: "true"}
spec:
  selector: {matchLabels: {app: shop}}
  template:
    metadata: {labels: {app: shop}}
    spec:
      automountServiceAccountToken: false
      containers: [{name: shop, image: "shop:1"}]
"""


def overlay(folder: Path, **fields: Any) -> list[dict[str, Any]]:
    """Return the objects of a kustomization in a folder; paths are those below deploy/kustomize."""
    for name in ("resources", "components"):
        fields[name] = [
            os.path.relpath(KUSTOMIZE / each, folder) if "/" in each or each == "base" else each
            for each in fields.get(name, [])
        ]
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(fields))
    return built(folder)


def test_files_are_made_of_the_chart(tmp_path: Path) -> None:
    """RATECTL_UPDATE_GOLDEN=1 writes them."""
    files = expected(tmp_path)
    if UPDATE:
        for path, text in files.items():
            path.write_text(text)
    assert {path: path.read_text() for path in files} == files
    there = {path for path in KUSTOMIZE.rglob("*.yaml") if path.name != "kustomization.yaml"}
    assert there == files.keys(), "a file that nothing makes"


@pytest.mark.parametrize("version", VERSIONS)
def test_the_base_is_accepted_and_hardened(version: str) -> None:
    objects = built(KUSTOMIZE / "base")
    assert findings(objects, version) == []
    assert by_kind(objects).keys() == by_kind(with_values()).keys()


def test_labels_select_the_pods() -> None:
    kinds = by_kind(built(KUSTOMIZE / "base"))
    pods = kinds["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert kinds["Deployment"]["spec"]["selector"]["matchLabels"].items() <= pods.items()
    assert kinds["Service"]["spec"]["selector"].items() <= pods.items()
    assert kinds["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"].items() <= pods.items()


def test_components_add_monitoring_and_an_autoscaler(tmp_path: Path) -> None:
    objects = overlay(
        tmp_path,
        namespace="edge",
        resources=["base"],
        components=["components/monitoring", "components/autoscaling"],
        images=[{"name": "registry.example.org/ratectl", "newTag": "1.2.3"}],
    )
    assert findings(objects, VERSIONS[0]) == []
    kinds = by_kind(objects)
    everything = {"autoscaling": {"enabled": True}}
    monitored = {"monitoring": {"alerts": True, "serviceMonitor": True}}
    assert kinds.keys() == by_kind(with_values(**everything, **monitored)).keys()
    assert "replicas" not in kinds["Deployment"]["spec"], "the autoscaler decides"
    assert container(objects)["image"] == "registry.example.org/ratectl:1.2.3"
    assert {each["metadata"]["namespace"] for each in objects} == {"edge"}


def test_the_component_adds_the_sidecar_to_marked_deployments(tmp_path: Path) -> None:
    other = APPLICATION.replace("name: shop", "name: other").replace('"true"', '"false"')
    (tmp_path / "shop.yaml").write_text(APPLICATION)
    (tmp_path / "other.yaml").write_text(other)
    objects = overlay(
        tmp_path, resources=["shop.yaml", "other.yaml"], components=["components/sidecar"]
    )
    by_name = {each["metadata"]["name"]: each for each in objects}
    assert findings([by_name["shop"]], VERSIONS[0]) == []
    assert by_name["other"] == yaml.safe_load(other)
    found = container([by_name["shop"]])
    assert found["restartPolicy"] == "Always"
    assert "--rls=127.0.0.1:8081" in found["args"]
    assert [each["name"] for each in pod_of(by_name["shop"])["containers"]] == ["shop"]
