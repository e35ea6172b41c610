"""docs/envoy/envoy-gateway.yaml: Envoy Gateway's Deployment runs ratectl."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.agent_commands import flags, known_flags
from deploy.charts import VERSIONS, built, by_kind, with_values
from deploy.charts import container as chart_container
from deploy.kubernetes_rules import findings, pod_of

ROOT = Path(__file__).parents[2]
VALUES = ROOT / "docs" / "envoy" / "envoy-gateway.yaml"
DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: envoy-ratelimit
  namespace: envoy-gateway-system
spec:
  selector: {matchLabels: {app.kubernetes.io/name: envoy-ratelimit}}
  template:
    metadata:
      labels: {app.kubernetes.io/name: envoy-ratelimit}
      annotations: {prometheus.io/path: /metrics, prometheus.io/port: "19001"}
    spec:
      automountServiceAccountToken: false
      serviceAccountName: envoy-ratelimit
      terminationGracePeriodSeconds: 300
      containers:
        - name: envoy-ratelimit
          image: docker.io/envoyproxy/ratelimit:some
          command: [/bin/ratelimit]
          env:
            - {name: CONFIG_TYPE, value: GRPC_XDS_SOTW}
          ports: [{name: grpc, containerPort: 8081, protocol: TCP}]
          livenessProbe:
            failureThreshold: 3
            httpGet: {path: /healthcheck, port: 8080, scheme: HTTP}
            periodSeconds: 10
          readinessProbe:
            failureThreshold: 1
            httpGet: {path: /healthcheck, port: 8080, scheme: HTTP}
            periodSeconds: 5
          startupProbe:
            failureThreshold: 30
            httpGet: {path: /healthcheck, port: 8080, scheme: HTTP}
            periodSeconds: 10
          resources:
            requests: {cpu: 100m, memory: 512Mi}
          volumeMounts: [{name: certs, mountPath: /certs, readOnly: true}]
      volumes:
        - name: certs
          secret: {secretName: envoy-rate-limit, defaultMode: 420}
"""
"""What Envoy Gateway makes, as far as the patch meets it."""


def patched(folder: Path) -> dict[str, Any]:
    """Return Envoy Gateway's Deployment with our patch, as kubectl merges them."""
    provider = yaml.safe_load(VALUES.read_text())["config"]["envoyGateway"]["provider"]
    patch = provider[provider["type"].lower()]["rateLimitDeployment"]["patch"]
    assert patch["type"] == "StrategicMerge"
    head = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "envoy-ratelimit"}}
    (folder / "deployment.yaml").write_text(DEPLOYMENT)
    (folder / "patch.yaml").write_text(yaml.safe_dump({**head, **patch["value"]}))
    kustomization = {
        "resources": ["deployment.yaml"],
        "patches": [{"path": "patch.yaml", "target": {"name": "envoy-ratelimit"}}],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    (found,) = built(folder)
    return found


def test_the_page_does_not_upgrade_envoy_gateway() -> None:
    page = (ROOT / "docs" / "envoy-gateway.md").read_text("utf-8")
    (upgrade,) = re.findall(r"^\$ helm upgrade .*", page, re.MULTILINE)
    assert " --version VERSION " in upgrade


@pytest.mark.helm
@pytest.mark.parametrize("version", VERSIONS)
def test_the_patched_deployment_is_accepted_and_hardened(version: str, tmp_path: Path) -> None:
    deployment = patched(tmp_path)
    pod = deployment["spec"]["template"]["spec"]
    pod["securityContext"] = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert findings([deployment], version) == []


@pytest.mark.helm
def test_the_patched_deployment_runs_ratectl(tmp_path: Path) -> None:
    template = patched(tmp_path)["spec"]["template"]
    pod = template["spec"]
    (container,) = pod["containers"]
    program, *words = container["command"]
    given = flags(words)
    assert program == "ratectl"
    assert given.keys() <= known_flags()
    mounts = tuple(f"{each['mountPath']}/" for each in container["volumeMounts"])
    store = next(each["value"] for each in container["env"] if each["name"] == "RATECTL_STORE")
    files = given["--rls-tls"] + given["--xds-tls"] + [store.removeprefix("sqlite:///")]
    assert all(path.startswith(mounts) for path in files)
    assert given["--rls"] == [f"0.0.0.0:{container['ports'][0]['containerPort']}"]
    probes = {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}
    assert {name for name in container if name.endswith("Probe")} == probes.keys()
    for probe, path in probes.items():
        asked = container[probe]["httpGet"]
        assert asked["path"] == path
        assert given["--metrics"] == [f"0.0.0.0:{asked['port']}"]
    usual = with_values()
    for field in ("periodSeconds", "failureThreshold"):
        own = chart_container(usual)["startupProbe"][field]
        assert container["startupProbe"][field] == own
    volumes = {each["name"]: each for each in pod["volumes"]}
    for each in pod_of(by_kind(usual)["Deployment"])["volumes"]:
        assert volumes[each["name"]] == each, "as in the chart"
    scraped = template["metadata"]["annotations"]["prometheus.io/port"]
    assert given["--metrics"] == [f"0.0.0.0:{scraped}"]
