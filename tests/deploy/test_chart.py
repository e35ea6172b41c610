"""The Helm chart: real Helm renders it, Kubernetes knows what it renders, and ratectl knows the names."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from charts import (
    CHART,
    ROOT,
    VERSIONS,
    by_kind,
    container,
    lint,
    refusal,
    render,
    render_example,
    with_values,
)
from kubernetes_rules import findings, pod_of

from ratectl.sidecar import Sidecar
from ratectl.version import __version__
from ratectl_cli.app import run

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.helm

ALERTS = ROOT / "docs" / "examples" / "prometheus" / "alerts.yaml"
PEER = {"podSelector": {"matchLabels": {"app": "envoy"}}}
EVERYTHING: dict[str, Any] = {
    "image": {"digest": f"sha256:{'0' * 64}"},
    "imagePullSecrets": [{"name": "pull"}],
    "replicas": 3,
    "autoscaling": {"enabled": True},
    "store": {"tls": {"secret": "store-tls", "clientCertificate": True}},
    "publicKeys": {"configMap": "keys", "files": ["platform.pub", "second.pub"]},
    "rls": {"tlsSecret": "rls-tls"},
    "cluster": {"tlsSecret": "cluster-tls"},
    "redis": {"secret": "redis"},
    "extraArgs": ["--environment=0123"],
    "extraEnv": [{"name": "RATECTL_ETCD_SERVER_NAME", "value": "etcd"}],
    "extraVolumes": [{"name": "mapping", "configMap": {"name": "mapping"}}],
    "extraVolumeMounts": [{"name": "mapping", "mountPath": "/etc/mapping", "readOnly": True}],
    "extraContainers": [{"name": "envoy", "image": "envoy:1"}],
    "podLabels": {"team": "edge"},
    "podAnnotations": {"a": "b"},
    "priorityClassName": "high",
    "nodeSelector": {"pool": "edge"},
    "tolerations": [{"key": "edge", "operator": "Exists"}],
    "affinity": {"podAntiAffinity": {}},
    "topologySpreadConstraints": [
        {
            "maxSkew": 1,
            "topologyKey": "zone",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": {"app.kubernetes.io/name": "ratectl"}},
        }
    ],
    "service": {"annotations": {"a": "b"}, "headless": True},
    "networkPolicy": {"clients": [PEER], "monitoring": [PEER], "egress": [{"to": [PEER]}]},
    "podDisruptionBudget": {"maxUnavailable": "50%"},
    "monitoring": {"serviceMonitor": True, "alerts": True, "labels": {"release": "prometheus"}},
}
"""Values that turn on everything that the chart can do."""

CASES: dict[str, dict[str, Any]] = {
    "as it is": {},
    "everything": EVERYTHING,
    "nobody may ask": {"networkPolicy": {"clients": [], "monitoring": []}},
    "no policy of the network": {"networkPolicy": {"enabled": False}},
    "IPv6": {"bindAddress": "[::]"},
    "alerts only": {"standalone": False, "monitoring": {"alerts": True}},
}


def help_text() -> str:
    import io
    from contextlib import redirect_stdout

    with redirect_stdout(io.StringIO()) as output:
        assert run(["agent", "run", "--help"]) == 0
    return output.getvalue()


def flags(args: list[str]) -> dict[str, list[str]]:
    """Return the values of each flag."""
    assert args[:2] == ["agent", "run"]
    found: dict[str, list[str]] = {}
    for word in args[2:]:
        name, _, value = word.partition("=")
        found.setdefault(name, []).append(value)
    return found


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("case", CASES)
def test_kubernetes_accepts_the_objects_and_they_are_hardened(case: str, version: str) -> None:
    assert findings(with_values(**CASES[case]), version) == []


@pytest.mark.parametrize("case", CASES)
def test_helm_lint_has_no_warning(case: str) -> None:
    assert "[WARNING]" not in lint(**CASES[case])


def test_kinds() -> None:
    usual = {"Deployment", "Service", "ServiceAccount", "NetworkPolicy", "PodDisruptionBudget"}
    more = {"HorizontalPodAutoscaler", "ServiceMonitor", "PrometheusRule"}
    assert by_kind(with_values()).keys() == usual
    assert by_kind(with_values(**EVERYTHING)).keys() == usual | more
    assert by_kind(with_values(**CASES["alerts only"])).keys() == {"PrometheusRule"}


def test_versions_are_those_of_the_project() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == __version__
    assert chart["kubeVersion"] == f">={VERSIONS[0]}.0-0"
    assert container(with_values())["image"].endswith(f"/ratectl:{__version__}")


@pytest.mark.parametrize("case", ["as it is", "everything"])
def test_every_flag_exists(case: str) -> None:
    used = flags(container(with_values(**CASES[case]))["args"])
    listed = set(re.findall(r"^  (?:-\w, )?(--[a-z-]+)", help_text(), re.MULTILINE))
    assert used.keys() <= listed


def test_every_environment_variable_exists() -> None:
    code = "\n".join(
        path.read_text("utf-8") for root in ("core", "cli") for path in (ROOT / root).rglob("*.py")
    )
    named = {each["name"] for each in container(with_values(**EVERYTHING))["env"]}
    for name in named - {"POD_NAME", "POD_IP"}:
        # Names of etcd's variables are put together of a prefix and a word.
        assert re.search(rf'"{name}\b', code), name


def test_files_in_flags_and_variables_are_mounted() -> None:
    found = container(with_values(**EVERYTHING))
    words = [*found["args"], *(each.get("value", "") for each in found["env"])]
    used = {path for word in words for path in re.findall(r"/etc/ratectl/[\w-]+", word)}
    mounted = {each["mountPath"] for each in found["volumeMounts"]}
    assert used == {path for path in mounted if path.startswith("/etc/ratectl/")}


def test_credentials_are_from_the_secret() -> None:
    env = {each["name"]: each for each in container(with_values(store={"secret": "s"}))["env"]}
    keys = {"RATECTL_STORE": "url", "RATECTL_ETCD_USER": "user", "RATECTL_ETCD_PASSWORD": "password"}
    for name, key in keys.items():
        asked = env[name]["valueFrom"]["secretKeyRef"]
        assert (asked["name"], asked["key"]) == ("s", key)
        assert asked.get("optional", False) is (key != "url")


def test_ports_of_flags_service_probes_and_policies_agree() -> None:
    objects = with_values(
        rls={"port": 7001},
        metrics={"port": 7002},
        cluster={"port": 7003, "tlsSecret": "c"},
        monitoring={"serviceMonitor": True},
    )
    found, kinds = container(objects), by_kind(objects)
    given = flags(found["args"])
    assert given["--rls"] == ["0.0.0.0:7001"]
    assert given["--metrics"] == ["0.0.0.0:7002"]
    env = {each["name"]: each.get("value") for each in found["env"]}
    assert env["RATECTL_CLUSTER_LISTEN"] == "0.0.0.0:7003"
    assert env["RATECTL_CLUSTER_ADDRESS"] == "$(POD_IP):7003"
    assert found["readinessProbe"]["grpc"] == {"port": 7001}
    assert found["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": 7002}
    ports = {each["name"]: each["containerPort"] for each in found["ports"]}
    assert ports == {"rls": 7001, "ratectl-metrics": 7002, "ratectl-cluster": 7003}
    service = {each["name"]: each for each in kinds["Service"]["spec"]["ports"]}
    assert {name: (each["port"], ports[each["targetPort"]]) for name, each in service.items()} == {
        "rls": (7001, 7001),
        "metrics": (7002, 7002),
    }
    rules = kinds["NetworkPolicy"]["spec"]["ingress"]
    assert [each["ports"] for each in rules] == [[{"port": port}] for port in (7001, 7002, 7003)]
    (scraped,) = kinds["ServiceMonitor"]["spec"]["endpoints"]
    assert scraped["port"] in service


def test_objects_select_the_pods_and_the_service() -> None:
    kinds = by_kind(with_values(**EVERYTHING))
    pods = kinds["Deployment"]["spec"]["template"]["metadata"]["labels"].items()
    selectors = [
        kinds["Deployment"]["spec"]["selector"]["matchLabels"],
        kinds["Service"]["spec"]["selector"],
        kinds["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
        kinds["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
    ]
    for selector in selectors:
        assert selector.items() <= pods
    service = kinds["Service"]["metadata"]["labels"].items()
    assert kinds["ServiceMonitor"]["spec"]["selector"]["matchLabels"].items() <= service
    scaled = kinds["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"]
    assert scaled == kinds["Deployment"]["metadata"]["name"]
    assert "replicas" not in kinds["Deployment"]["spec"], "the autoscaler decides"


def test_a_pod_ends_later_than_its_calls() -> None:
    """The pause before SIGTERM, the calls that have begun, and as long again to leave the store."""
    objects = with_values()
    drain = inspect.signature(Sidecar.close).parameters["grace"].default
    pause = container(objects)["lifecycle"]["preStop"]["sleep"]["seconds"]
    ends = pod_of(by_kind(objects)["Deployment"])["terminationGracePeriodSeconds"]
    assert ends >= pause + 2 * drain


def test_with_certificates_the_probe_is_one_that_needs_none() -> None:
    found = container(with_values(rls={"tlsSecret": "rls-tls"}))
    assert found["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": 9464}
    assert flags(found["args"])["--rls-tls"] == [
        f"/etc/ratectl/rls/{name}" for name in ("tls.crt", "tls.key", "ca.crt")
    ]


def test_alerts_are_those_of_the_documentation() -> None:
    rule = by_kind(with_values(monitoring={"alerts": True}))["PrometheusRule"]
    assert rule["spec"] == yaml.safe_load(ALERTS.read_text("utf-8"))


def test_agents_of_one_environment_have_its_label() -> None:
    monitor = by_kind(
        with_values(monitoring={"serviceMonitor": True, "environment": "staging", "interval": "30s"})
    )["ServiceMonitor"]["spec"]["endpoints"][0]
    assert monitor["interval"] == "30s"
    assert monitor["relabelings"] == [{"targetLabel": "environment", "replacement": "staging"}]


# A sidecar in another chart ----------------------------------------------------------------------


def sidecar(folder: Path, **changes: Any) -> dict[str, Any]:
    objects = list(yaml.safe_load_all(render_example(folder, **changes)))
    for version in VERSIONS:
        assert findings(objects, version) == []
    (found,) = pod_of(by_kind(objects)["Deployment"])["initContainers"]
    return dict(found)


def test_a_sidecar_listens_on_loopback_and_outlives_envoy(tmp_path: Path) -> None:
    found = sidecar(tmp_path)
    assert found["restartPolicy"] == "Always", "a sidecar of Kubernetes, not a step before the start"
    given = flags(found["args"])
    assert given["--rls"] == ["127.0.0.1:8081"]
    assert given["--metrics"] == ["0.0.0.0:9464"], "the kubelet and Prometheus are outside of the pod"
    assert [each["name"] for each in found["ports"]] == ["ratectl-metrics"]
    assert "readinessProbe" not in found, "the application starts also without the store"
    assert "lifecycle" not in found


def test_a_sidecar_has_all_but_what_is_of_the_service(tmp_path: Path) -> None:
    found = sidecar(tmp_path, **{**EVERYTHING, "sidecar": {"gatesReadiness": True}})
    assert found["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": 9464}
    places = {each["mountPath"].rpartition("/")[2] for each in found["volumeMounts"]}
    assert places == {"ratectl", "store", "cluster", "public-keys", "mapping"}
    assert "--rls-tls" not in flags(found["args"])


# Values ------------------------------------------------------------------------------------------


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
    import json

    from charts import values

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
    "publicKeys.configMap": "x",
    "publicKeys.files": ["x", "y"],
    "bindAddress": "10.0.0.1",
    "rls.port": 7001,
    "rls.tlsSecret": "x",
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
    "image.tag": {},
    "autoscaling.minReplicas": {"autoscaling.enabled": True},
    "autoscaling.maxReplicas": {"autoscaling.enabled": True},
    "autoscaling.cpuPercent": {"autoscaling.enabled": True},
    "store.tls.clientCertificate": {"store.tls.secret": "x"},
    "publicKeys.configMap": {"publicKeys.files": ["x"]},
    "publicKeys.files": {"publicKeys.configMap": "x"},
    "cluster.port": {"cluster.tlsSecret": "x"},
    "monitoring.labels": {"monitoring.alerts": True},
    "monitoring.environment": {"monitoring.serviceMonitor": True},
    "monitoring.interval": {"monitoring.serviceMonitor": True},
}
"""Values without which a change shows nothing."""


def tree_of(paths: dict[str, Any]) -> dict[str, Any]:
    """Return values as a tree."""
    tree: dict[str, Any] = {}
    for path, value in paths.items():
        *outer, name = path.split(".")
        place = tree
        for each in outer:
            place = place.setdefault(each, {})
        place[name] = value
    return tree


def test_every_value_has_a_case() -> None:
    from charts import values

    known = set(leaves(values())) - {"networkPolicy.clients", "networkPolicy.monitoring"}
    assert known <= set(CHANGES)


@pytest.mark.parametrize("path", sorted(CHANGES.keys() - {"sidecar.gatesReadiness"}))
def test_every_value_has_an_effect(path: str) -> None:
    """That of sidecars is in a test of its own."""
    needed = NEEDED.get(path, {})
    if path == "publicKeys.configMap":
        before = render()
    elif path == "publicKeys.files":
        before = render(publicKeys={"configMap": "x", "files": ["x"]})
    else:
        before = render(**tree_of(needed))
    assert render(**tree_of(needed | {path: CHANGES[path]})) != before


BAD: list[tuple[str, Any, str]] = [
    ("replica", 2, "additional properties 'replica' not allowed"),
    ("rls.prot", 8081, "additional properties 'prot' not allowed"),
    ("rls.port", "8081", "want integer"),
    ("rls.port", 80, "minimum: got 80, want 1,024"),
    ("rls.port", 70_000, "maximum"),
    ("rls.port", 9464, "rls.port, metrics.port and cluster.port must differ"),
    ("rls.tlsSecret", "Not_A_Name", "/rls/tlsSecret"),
    ("bindAddress", "127.0.0.1", "/bindAddress"),
    ("bindAddress", "::", "/bindAddress"),
    ("image.tag", "latest", "/image/tag"),
    ("image.tag", "a b", "/image/tag"),
    ("image.digest", "sha256:12", "/image/digest"),
    ("image.repository", "", "/image/repository"),
    ("image.pullPolicy", "Sometimes", "/image/pullPolicy"),
    ("replicas", 0, "/replicas"),
    ("autoscaling", {"enabled": True, "minReplicas": 7}, "maxReplicas (6) is less than"),
    ("autoscaling.cpuPercent", 0, "/autoscaling/cpuPercent"),
    ("store.secret", "", "/store/secret"),
    ("store.url", "etcd://etcd/prod", "additional properties 'url' not allowed"),
    ("store.tls.clientCertificate", True, "/store/tls/secret"),
    ("publicKeys.configMap", "keys", "/publicKeys/files"),
    ("publicKeys.files", ["a.pub"], "/publicKeys/configMap"),
    ("publicKeys", {"configMap": "k", "files": ["../x"]}, "/publicKeys/files/0"),
    ("extraArgs", "--verbose", "want array"),
    ("extraArgs", ["--rls=0.0.0.0:1"], "/extraArgs/0"),
    ("extraArgs", ["--metrics", "0.0.0.0:1"], "/extraArgs/0"),
    ("extraEnv", {"A": "b"}, "want array"),
    ("extraEnv", [{"value": "b"}], "missing property 'name'"),
    ("resources.limits.memory", None, "/resources/limits"),
    ("resources.limits.memory", "much", "/resources/limits/memory"),
    ("resources.limits.gpu", 1, "additional properties 'gpu' not allowed"),
    ("podLabels", {"a": 1}, "/podLabels/a"),
    ("networkPolicy.clients", {"podSelector": {}}, "want array"),
    ("podDisruptionBudget.maxUnavailable", 0, "/podDisruptionBudget/maxUnavailable"),
    ("podDisruptionBudget.maxUnavailable", "0%", "/podDisruptionBudget/maxUnavailable"),
    ("monitoring.interval", "5m", "/monitoring/interval"),
    ("monitoring.interval", "61s", "/monitoring/interval"),
    ("monitoring.environment", "", "/monitoring/environment"),
    ("standalone", "yes", "want boolean"),
]


@pytest.mark.parametrize(("path", "value", "error"), BAD)
def test_wrong_values_are_refused(path: str, value: Any, error: str) -> None:
    assert error in refusal(**tree_of({path: value}))
