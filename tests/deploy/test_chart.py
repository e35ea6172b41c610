"""The Helm chart: Helm renders it, Kubernetes accepts the objects, and ratectl has the names."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from agent_commands import flags, known_flags
from chart_cases import CASES, EVERYTHING
from charts import (
    CHART,
    LAST_SAVE,
    ROOT,
    VERSIONS,
    by_kind,
    container,
    lint,
    render_example,
    with_values,
)
from kubernetes_rules import findings, pod_of

from ratectl.engine import DEFAULT_MAX_BYTES
from ratectl.sidecar import Sidecar
from ratectl.version import __version__

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.helm

LONGEST_START = 120
"""Seconds: a slow machine restored a full table in 32."""
BUCKET, SAVED_BUCKET = 58, 78.5
"""Bytes in memory and in the file of counters: docs/buckets.md, docs/operations.md."""
ALERTS = ROOT / "docs" / "examples" / "prometheus" / "alerts.yaml"


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
    assert used.keys() <= known_flags()


def test_every_environment_variable_exists() -> None:
    code = "\n".join(
        path.read_text("utf-8") for root in ("core", "cli") for path in (ROOT / root).rglob("*.py")
    )
    named = {each["name"] for each in container(with_values(**EVERYTHING))["env"]}
    for name in named - {"POD_NAME", "POD_IP"}:
        assert re.search(rf'"{name}\b', code), name


def test_files_in_flags_and_variables_are_mounted() -> None:
    found = container(with_values(**EVERYTHING))
    words = [*found["args"], *(each.get("value", "") for each in found["env"])]
    used = {path for word in words for path in re.findall(r"/etc/ratectl/[\w-]+", word)}
    mounted = {each["mountPath"] for each in found["volumeMounts"]}
    assert used == {path for path in mounted if path.startswith("/etc/ratectl/")}


def test_credentials_are_from_the_secret() -> None:
    env = {each["name"]: each for each in container(with_values(store={"secret": "s"}))["env"]}
    keys = {
        "RATECTL_STORE": "url",
        "RATECTL_ETCD_USER": "user",
        "RATECTL_ETCD_PASSWORD": "password",
    }
    for name, key in keys.items():
        asked = env[name]["valueFrom"]["secretKeyRef"]
        assert (asked["name"], asked["key"]) == ("s", key)
        assert asked.get("optional", False) is (key != "url")


def test_ports_of_flags_service_probes_and_policies_agree() -> None:
    objects = with_values(
        rls={"port": 7001},
        http={"port": 7004},
        metrics={"port": 7002},
        cluster={"port": 7003, "tlsSecret": "c"},
        monitoring={"serviceMonitor": True},
    )
    found, kinds = container(objects), by_kind(objects)
    given = flags(found["args"])
    assert given["--rls"] == ["0.0.0.0:7001"]
    assert given["--http"] == ["0.0.0.0:7004"]
    assert given["--metrics"] == ["0.0.0.0:7002"]
    env = {each["name"]: each.get("value") for each in found["env"]}
    assert env["RATECTL_CLUSTER_LISTEN"] == "0.0.0.0:7003"
    assert env["RATECTL_CLUSTER_ADDRESS"] == "$(POD_IP):7003"
    assert found["readinessProbe"]["grpc"] == {"port": 7001}
    for probe in ("startupProbe", "livenessProbe"):
        assert found[probe]["httpGet"] == {"path": "/healthz", "port": 7002}
    ports = {each["name"]: each["containerPort"] for each in found["ports"]}
    assert ports == {
        "rls": 7001,
        "ratectl-http": 7004,
        "ratectl-metrics": 7002,
        "ratectl-cluster": 7003,
    }
    service = {each["name"]: each for each in kinds["Service"]["spec"]["ports"]}
    assert {name: (each["port"], ports[each["targetPort"]]) for name, each in service.items()} == {
        "rls": (7001, 7001),
        "http": (7004, 7004),
        "metrics": (7002, 7002),
    }
    rules = kinds["NetworkPolicy"]["spec"]["ingress"]
    opened = [[port["port"] for port in each["ports"]] for each in rules]
    assert opened == [[7001, 7004], [7002], [7003]]
    (scraped,) = kinds["ServiceMonitor"]["spec"]["endpoints"]
    assert scraped["port"] in service


def test_addresses_of_ipv6_have_brackets() -> None:
    found = container(with_values(bindAddress="[::]", cluster={"tlsSecret": "c"}))
    env = {each["name"]: each.get("value") for each in found["env"]}
    assert flags(found["args"])["--rls"] == ["[::]:8081"]
    assert env["RATECTL_CLUSTER_LISTEN"] == "[::]:7946"
    assert env["RATECTL_CLUSTER_ADDRESS"] == "[$(POD_IP)]:7946"


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


@pytest.mark.parametrize(
    ("changes", "pause"),
    [
        ({}, 5),
        ({"service": {"headless": True}}, 40),
        ({"service": {"headless": True}, "drainSeconds": 7}, 7),
        ({"drainSeconds": 90}, 90),
        ({"drainSeconds": 0}, 0),
    ],
)
def test_a_pod_ends_later_than_its_calls_and_its_last_save(
    changes: dict[str, Any], pause: int
) -> None:
    """First Envoys hear of it, then open calls are answered, then the counters are saved."""
    objects = with_values(**changes)
    assert f"--drain-seconds={pause}" in container(objects)["args"]
    ends = pod_of(by_kind(objects)["Deployment"])["terminationGracePeriodSeconds"]
    assert ends == pause + 55
    assert ends - pause >= inspect.signature(Sidecar.close).parameters["grace"].default + LAST_SAVE


def test_a_start_may_take_as_long_as_counters_are_restored() -> None:
    probe = container(with_values())["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= LONGEST_START


def test_the_volume_of_the_counters_holds_two_files_of_a_full_table() -> None:
    (state,) = (
        each for each in pod_of(by_kind(with_values())["Deployment"])["volumes"]
        if each["name"] == "ratectl-state"
    )  # fmt: skip
    size = state["emptyDir"]["sizeLimit"]
    assert size.endswith("Gi")
    assert int(size[:-2]) * 2**30 > 2 * DEFAULT_MAX_BYTES / BUCKET * SAVED_BUCKET


def test_ids_have_the_prefix() -> None:
    found = container(with_values(idPrefix="eu-1-"))
    assert flags(found["args"])["--id"] == ["eu-1-$(POD_NAME)"]


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
        with_values(
            monitoring={"serviceMonitor": True, "environment": "staging", "interval": "30s"}
        )
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
    assert found["restartPolicy"] == "Always", (
        "a sidecar of Kubernetes, not a step before the start"
    )
    given = flags(found["args"])
    assert given["--rls"] == ["127.0.0.1:8081"]
    assert given["--metrics"] == ["0.0.0.0:9464"], (
        "the kubelet and Prometheus are outside of the pod"
    )
    assert [each["name"] for each in found["ports"]] == ["ratectl-metrics"]
    assert "readinessProbe" not in found, "the application starts also without the store"
    assert "lifecycle" not in found


def test_a_sidecar_has_all_but_what_is_of_the_service(tmp_path: Path) -> None:
    found = sidecar(tmp_path, **{**EVERYTHING, "sidecar": {"gatesReadiness": True}})
    assert found["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": 9464}
    places = {each["mountPath"].rpartition("/")[2] for each in found["volumeMounts"]}
    assert places == {"ratectl", "tmp", "store", "cluster", "public-keys", "mapping"}
    assert found["startupProbe"] == container(with_values())["startupProbe"]
    assert "--rls-tls" not in flags(found["args"])
    assert flags(found["args"])["--http"] == ["127.0.0.1:8082"]
    assert not {"rls", "ratectl-http"} & {each["name"] for each in found["ports"]}
