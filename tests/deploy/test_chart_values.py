"""Values of the chart: each has an effect and a description, and wrong ones are refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from chart_cases import PEER
from charts import CHART, by_kind, refusal, render, values, with_set
from kubernetes_rules import pod_of

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.helm


def leaves(tree: Any, path: str = "") -> Iterator[str]:
    """Return the paths of values, such as ``rls.port``."""
    if isinstance(tree, dict) and tree:
        for name, inner in tree.items():
            yield from leaves(inner, f"{path}.{name}".lstrip("."))
    else:
        yield path


def declared(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    """Return the paths of values that a schema describes."""
    for name, inner in schema["properties"].items():
        where = f"{path}.{name}".lstrip(".")
        yield from declared(inner, where) if "properties" in inner else [where]


def test_the_schema_describes_exactly_the_values() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    free = {"resources"}  # maps of Kubernetes
    written = {path for path in leaves(values()) if path.partition(".")[0] not in free}
    described = {path for path in declared(schema) if path.partition(".")[0] not in free}
    assert described - written == {"global"}
    assert written == described - {"global"}


CHANGES: dict[str, Any] = {
    "standalone": False,
    "image.repository": "example.org/other",
    "image.tag": "1.2.3",
    "image.digest": f"sha256:{'1' * 64}",
    "image.pullPolicy": "Always",
    "imagePullSecrets": [{"name": "x"}],
    "replicas": 7,
    "autoscaling.enabled": True,
    "autoscaling.minReplicas": 4,
    "autoscaling.maxReplicas": 40,
    "autoscaling.cpuPercent": 33,
    "store.secret": "x",
    "store.tls.secret": "x",
    "store.tls.clientCertificate": True,
    "idPrefix": "x-",
    "state.sizeLimit": "2Gi",
    "publicKeys.configMap": "x",
    "publicKeys.files": ["x", "y"],
    "bindAddress": "10.0.0.1",
    "rls.port": 7001,
    "rls.tlsSecret": "x",
    "http.port": 7004,
    "metrics.port": 7002,
    "cluster.tlsSecret": "x",
    "cluster.port": 7003,
    "redis.secret": "x",
    "sidecar.gatesReadiness": True,
    "extraArgs": ["--verbose"],
    "extraEnv": [{"name": "X", "value": "y"}],
    "extraVolumes": [{"name": "x", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "x", "mountPath": "/x"}],
    "extraContainers": [{"name": "x", "image": "x:1"}],
    "resources.requests.cpu": "2",
    "resources.requests.memory": "1Gi",
    "resources.limits.memory": "2Gi",
    "podLabels": {"x": "y"},
    "podAnnotations": {"x": "y"},
    "priorityClassName": "x",
    "nodeSelector": {"x": "y"},
    "tolerations": [{"key": "x", "operator": "Exists"}],
    "affinity": {"podAntiAffinity": {}},
    "topologySpreadConstraints": [{"maxSkew": 1}],
    "service.annotations": {"x": "y"},
    "service.headless": True,
    "drainSeconds": 20,
    "networkPolicy.enabled": False,
    "networkPolicy.clients": [PEER],
    "networkPolicy.monitoring": [PEER],
    "networkPolicy.egress": [{"to": [PEER]}],
    "podDisruptionBudget.maxUnavailable": 2,
    "monitoring.serviceMonitor": True,
    "monitoring.alerts": True,
    "monitoring.labels": {"x": "y"},
    "monitoring.environment": "x",
    "monitoring.interval": "7s",
}
"""Another value for each path."""
NEEDED: dict[str, dict[str, Any]] = {
    "autoscaling.minReplicas": {"autoscaling.enabled": True},
    "autoscaling.maxReplicas": {"autoscaling.enabled": True},
    "autoscaling.cpuPercent": {"autoscaling.enabled": True},
    "store.tls.clientCertificate": {"store.tls.secret": "x"},
    "publicKeys.configMap": {"publicKeys.files": ["x"], "publicKeys.configMap": "z"},
    "publicKeys.files": {"publicKeys.files": ["z"], "publicKeys.configMap": "x"},
    "cluster.port": {"cluster.tlsSecret": "x"},
    "monitoring.labels": {"monitoring.alerts": True},
    "monitoring.environment": {"monitoring.serviceMonitor": True},
    "monitoring.interval": {"monitoring.serviceMonitor": True},
}
"""Values without which a change shows nothing."""


def tree_of(paths: dict[str, Any]) -> dict[str, Any]:
    """Return values by path as a tree."""
    tree: dict[str, Any] = {}
    for path, value in paths.items():
        *outer, name = path.split(".")
        place = tree
        for each in outer:
            place = place.setdefault(each, {})
        place[name] = value
    return tree


def test_every_value_has_a_case() -> None:
    known = set(leaves(values())) - {"networkPolicy.clients", "networkPolicy.monitoring"}
    assert known <= set(CHANGES)


@pytest.mark.parametrize("path", sorted(CHANGES.keys() - {"sidecar.gatesReadiness"}))
def test_every_value_has_an_effect(path: str) -> None:
    """That of sidecars is in a test of its own."""
    needed = NEEDED.get(path, {})
    changed = render(**tree_of(needed | {path: CHANGES[path]}))
    assert changed != render(**tree_of(needed))


PORTS = "rls.port, http.port, metrics.port and cluster.port must differ"
BAD: list[tuple[str, Any, str]] = [
    ("replica", 2, "additional properties 'replica' not allowed"),
    ("rls.prot", 8081, "additional properties 'prot' not allowed"),
    ("rls.port", "8081", "want integer"),
    ("rls.port", 80, "minimum: got 80, want 1,024"),
    ("rls.port", 70_000, "maximum"),
    ("rls.port", 9464, PORTS),
    ("rls.port", None, "missing property 'port'"),
    ("http.port", 7946, PORTS),
    ("http.port", 80, "/http/port"),
    ("metrics.port", None, "missing property 'port'"),
    ("cluster.port", None, "missing property 'port'"),
    ("rls.tlsSecret", "Not_A_Name", "/rls/tlsSecret"),
    ("bindAddress", "127.0.0.1", "/bindAddress"),
    ("bindAddress", "::", "/bindAddress"),
    ("bindAddress", None, "missing property 'bindAddress'"),
    ("image.tag", "latest", "/image/tag"),
    ("image.tag", "a b", "/image/tag"),
    ("image.digest", "sha256:12", "/image/digest"),
    ("image.repository", "", "/image/repository"),
    ("image.repository", None, "missing property 'repository'"),
    ("image.pullPolicy", "Sometimes", "/image/pullPolicy"),
    ("replicas", 0, "/replicas"),
    ("autoscaling", {"enabled": True, "minReplicas": 7}, "maxReplicas (6) is less than"),
    ("autoscaling.cpuPercent", 0, "/autoscaling/cpuPercent"),
    ("autoscaling.minReplicas", None, "missing property 'minReplicas'"),
    ("autoscaling.maxReplicas", None, "missing property 'maxReplicas'"),
    ("store.secret", "", "/store/secret"),
    ("store.secret", None, "missing property 'secret'"),
    ("idPrefix", "eu 1", "/idPrefix"),
    ("idPrefix", "eu~", "/idPrefix"),
    ("state.sizeLimit", "512m", "/state/sizeLimit"),
    ("state.sizeLimit", 1_000_000_000, "want string"),
    ("state.sizeLimit", None, "missing property 'sizeLimit'"),
    ("drainSeconds", -1, "/drainSeconds"),
    ("drainSeconds", 601, "/drainSeconds"),
    ("store.url", "etcd://etcd/prod", "additional properties 'url' not allowed"),
    ("store.tls.clientCertificate", True, "/store/tls/secret"),
    ("publicKeys.configMap", "keys", "/publicKeys/files"),
    ("publicKeys.files", ["a.pub"], "/publicKeys/configMap"),
    ("publicKeys", {"configMap": "k", "files": ["../x"]}, "/publicKeys/files/0"),
    ("extraArgs", "--verbose", "want array"),
    ("extraArgs", ["--rls=0.0.0.0:1"], "/extraArgs/0"),
    ("extraArgs", ["--metrics", "0.0.0.0:1"], "/extraArgs/0"),
    ("extraArgs", ["--http=0.0.0.0:1"], "/extraArgs/0"),
    ("extraEnv", {"A": "b"}, "want array"),
    ("extraEnv", [{"value": "b"}], "missing property 'name'"),
    ("resources.limits.memory", None, "/resources/limits"),
    ("resources.limits.memory", "much", "/resources/limits/memory"),
    ("resources.limits.memory", "512m", "/resources/limits/memory"),
    ("resources.limits.memory", 512, "want string"),
    ("resources.requests.memory", "128", "/resources/requests/memory"),
    ("resources.requests.cpu", "1Gi", "/resources/requests/cpu"),
    ("resources", None, "missing property 'resources'"),
    ("resources.limits.gpu", 1, "additional properties 'gpu' not allowed"),
    ("podLabels", {"a": 1}, "/podLabels/a"),
    *(
        ("podLabels", {f"app.kubernetes.io/{name}": "x"}, f"sets app.kubernetes.io/{name} itself")
        for name in ("name", "instance", "component")
    ),
    *(
        ("extraVolumes", [{"name": f"ratectl-{name}"}], f"has a volume ratectl-{name} itself")
        for name in ("state", "tmp", "public-keys", "store-tls", "cluster-tls", "rls-tls")
    ),
    *(
        ("extraVolumeMounts", [{"name": "x", "mountPath": path}], f"mounts a volume at {path}")
        for path in ("/tmp", "/var/lib/ratectl")
    ),
    ("networkPolicy.clients", {"podSelector": {}}, "want array"),
    ("podDisruptionBudget.maxUnavailable", 0, "/podDisruptionBudget/maxUnavailable"),
    ("podDisruptionBudget.maxUnavailable", "0%", "/podDisruptionBudget/maxUnavailable"),
    ("podDisruptionBudget.maxUnavailable", None, "missing property 'maxUnavailable'"),
    ("monitoring.interval", "5m", "/monitoring/interval"),
    ("monitoring.interval", "61s", "/monitoring/interval"),
    ("monitoring.environment", "", "/monitoring/environment"),
    ("standalone", "yes", "want boolean"),
]


@pytest.mark.parametrize(("path", "value", "error"), BAD)
def test_wrong_values_are_refused(path: str, value: Any, error: str) -> None:
    assert error in refusal(**tree_of({path: value}))


def test_names_that_only_look_like_those_of_the_chart_are_accepted() -> None:
    text = render(
        podLabels={"app.kubernetes.io/part-of": "edge"},
        extraVolumes=[{"name": "ratectl-mapping", "configMap": {"name": "mapping"}}],
    )
    assert "app.kubernetes.io/part-of: edge" in text
    assert "name: ratectl-mapping" in text


def test_an_autoscaler_needs_the_cpu_that_it_compares_with() -> None:
    values = {"autoscaling": {"enabled": True}, "resources": {"requests": {"cpu": None}}}
    assert "autoscaling needs resources.requests.cpu" in refusal(**values)


# Numbers of --set are integers, those of files are floating-point numbers ------------------------


@pytest.mark.parametrize(
    "equal", ["rls.port=9464", "metrics.port=8081", "cluster.port=8081", "http.port=9464"]
)
def test_equal_ports_of_set_are_refused(equal: str) -> None:
    assert PORTS in with_set(equal)[1]


def test_different_ports_of_set_are_accepted() -> None:
    objects, error = with_set("rls.port=7001", "http.port=7002", "cluster.port=7003")
    assert not error
    ports = [each["port"] for each in by_kind(objects)["Service"]["spec"]["ports"]]
    assert ports == [7001, 7002, 9464]


@pytest.mark.parametrize("name", ["minReplicas", "maxReplicas"])
def test_replicas_of_set_are_compared_with_those_of_the_chart(name: str) -> None:
    objects, error = with_set("autoscaling.enabled=true", f"autoscaling.{name}=5")
    assert not error
    assert by_kind(objects)["HorizontalPodAutoscaler"]["spec"][name] == 5
    wrong = {"minReplicas": 7, "maxReplicas": 1}[name]
    error = with_set("autoscaling.enabled=true", f"autoscaling.{name}={wrong}")[1]
    assert "is less than autoscaling.minReplicas" in error


def test_seconds_of_set_are_added() -> None:
    objects, error = with_set("drainSeconds=20")
    assert not error
    assert pod_of(by_kind(objects)["Deployment"])["terminationGracePeriodSeconds"] == 75
