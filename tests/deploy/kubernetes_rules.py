"""Rules for objects of Kubernetes: the API's schemas, and hardening."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import kubernetes_validate

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["findings", "hardening_findings", "pod_of", "schema_findings"]

OPERATOR: Final = "monitoring.coreos.com/v1"
"""API of the Prometheus operator, which the schemas of Kubernetes lack."""
USER: Final = 10001
WRITABLE: Final = {"/var/lib/ratectl", "/tmp"}


def findings(objects: list[dict[str, Any]], version: str) -> list[str]:
    """Return everything that is wrong with objects."""
    found = [text for each in objects for text in schema_findings(each, version)]
    pods = [pod_of(each) for each in objects if each["kind"] == "Deployment"]
    return found + [text for pod in pods for text in hardening_findings(pod)]


def schema_findings(each: dict[str, Any], version: str) -> Iterator[str]:
    """Return findings of the schema for one object; unknown fields are errors."""
    if each["apiVersion"] == OPERATOR:
        if each["kind"] not in {"ServiceMonitor", "PrometheusRule"}:
            yield f"{each['kind']}: the operator has no such kind"
        return
    try:
        kubernetes_validate.validate(each, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        yield f"{each['kind']}: {error.json_path}: {error.message}"


def pod_of(deployment: dict[str, Any]) -> dict[str, Any]:
    """Return the specification of a Deployment's pods."""
    found: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return found


def hardening_findings(pod: dict[str, Any]) -> Iterator[str]:
    """Return findings about the container of ratectl in a pod, and about what it mounts."""
    if pod.get("automountServiceAccountToken") is not False:
        yield "the pod has a token of the API"
    volumes = {volume["name"] for volume in pod["volumes"]}
    if len(volumes) < len(pod["volumes"]):
        yield "two volumes have one name"
    for each in (*pod.get("initContainers", ()), *pod["containers"]):
        if each["name"] == "ratectl":
            yield from _container_findings(each, volumes)


def _container_findings(container: dict[str, Any], volumes: set[str]) -> Iterator[str]:
    if container["securityContext"] != {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }:
        yield "the container is not hardened"
    if "memory" not in container["resources"]["limits"]:
        yield "the container may take all memory"
    mounts = container["volumeMounts"]
    for mount in mounts:
        if mount["name"] not in volumes:
            yield f"{mount['name']} is mounted, and is no volume"
        if not mount.get("readOnly") and mount["mountPath"] not in WRITABLE:
            yield f"{mount['mountPath']} may be written"
    places = [mount["mountPath"] for mount in mounts]
    if len(set(places)) < len(places):
        yield "two volumes have one place"
