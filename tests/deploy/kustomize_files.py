"""Files of deploy/kustomize, made of what the chart renders: one place describes each object."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import yaml
from charts import KUSTOMIZE, render, render_example

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["expected"]

_HEAD: Final = (
    "# Made of deploy/helm/ratectl by tests/deploy/test_kustomize.py: change the chart instead.\n"
)
_LABELS_OF_HELM: Final = re.compile(
    r"^ *(?:helm\.sh/chart|app\.kubernetes\.io/(?:managed-by|instance)): .*\n", re.MULTILINE
)
_NAMESPACE: Final = re.compile(r"^  namespace: infra\n", re.MULTILINE)
_PLACES: Final = {
    "Deployment": "base",
    "NetworkPolicy": "base",
    "PodDisruptionBudget": "base",
    "Service": "base",
    "ServiceAccount": "base",
    "PrometheusRule": "components/monitoring",
    "ServiceMonitor": "components/monitoring",
    "HorizontalPodAutoscaler": "components/autoscaling",
}
_PATCH: Final = """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: any
spec:
  template:
    spec:
      initContainers:
        {{- include "ratectl.sidecar" .Subcharts.ratectl | nindent 8 }}
      volumes:
        {{- include "ratectl.volumes" .Subcharts.ratectl | nindent 8 }}
"""


def expected(folder: Path) -> dict[Path, str]:
    """Return the text of each file; ``folder`` is for work."""
    monitored: dict[str, Any] = {"monitoring": {"alerts": True, "serviceMonitor": True}}
    texts = {**_objects(render(**monitored)), **_objects(render(autoscaling={"enabled": True}))}
    # The base has the number of replicas: the autoscaler's component removes it.
    texts |= _objects(render())
    files = {
        KUSTOMIZE / _PLACES[kind] / f"{kind.lower()}.yaml": text for kind, text in texts.items()
    }
    patch = KUSTOMIZE / "components" / "sidecar" / "patch.yaml"
    return files | {patch: _clean(render_example(folder, _PATCH))}


def _objects(rendered: str) -> dict[str, str]:
    """Return the text of each object by its kind."""
    documents = [_clean(text) for text in re.split(r"^---\n", rendered, flags=re.MULTILINE)[1:]]
    return {yaml.safe_load(text)["kind"]: text for text in documents}


def _clean(text: str) -> str:
    lines = [line.rstrip() for line in text.removeprefix("---\n").splitlines()]
    own = [line for line in lines if not line.startswith("# Source: ")]
    body = "\n".join(own).strip() + "\n"
    return _HEAD + _NAMESPACE.sub("", _LABELS_OF_HELM.sub("", body))
