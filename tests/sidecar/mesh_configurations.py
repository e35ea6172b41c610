"""Envoy configurations that meshes make of their objects, as far as limits are concerned.

Istio puts parts of Envoy's configuration into its own: those are taken from the file as they are.
Contour and Emissary translate: here as their sources do (internal/envoy/v3/ratelimit.go and
python/ambassador/envoy/v3).
"""

from __future__ import annotations

import copy
from typing import Final

import yaml

from sidecar.meshes import DOCS, Config, virtual_host

__all__ = ["FILES", "configured"]

FILES: Final = ("istio-sidecar", "istio-gateway", "contour", "emissary")
_ROUTER: Final = "envoy.filters.http.router"
_RATE_LIMIT: Final = "envoy.filters.http.ratelimit"


def configured(name: str, config: Config) -> Config:
    """Return Envoy's documented configuration, with the part for limits from a mesh's file."""
    documents = list(yaml.safe_load_all((DOCS / f"{name}.yaml").read_text("utf-8")))
    made = copy.deepcopy(config)
    sidecar = _without_limits(made)
    if name.startswith("istio"):
        (document,) = documents
        for patch in document["spec"]["configPatches"]:
            _apply(made, patch)
    else:
        limits = {"contour": _contour, "emissary": _emissary}[name](documents)
        _insert(made, limits["filter"])
        virtual_host(made)["rate_limits"] = limits["rate_limits"]
    if (cluster := _asked(made)) not in {each["name"] for each in _clusters(made)}:
        _clusters(made).append({**sidecar, "name": cluster})  # the mesh makes it of the Service
    return made


def _connections(config: Config) -> Config:
    (listener,) = config["static_resources"]["listeners"]
    manager: Config = listener["filter_chains"][0]["filters"][0]["typed_config"]
    return manager


def _clusters(config: Config) -> list[Config]:
    clusters: list[Config] = config["static_resources"]["clusters"]
    return clusters


def _without_limits(config: Config) -> Config:
    """Remove what the mesh is to add; return the cluster of the sidecar."""
    manager = _connections(config)
    manager["http_filters"] = [
        each for each in manager["http_filters"] if each["name"] != _RATE_LIMIT
    ]
    del virtual_host(config)["rate_limits"]
    (sidecar,) = (each for each in _clusters(config) if each["name"] == "ratectl")
    _clusters(config).remove(sidecar)
    return sidecar


def _asked(config: Config) -> str:
    """Return the name of the cluster that the filter asks."""
    (found,) = (
        each for each in _connections(config)["http_filters"] if each["name"] == _RATE_LIMIT
    )
    name: str = found["typed_config"]["rate_limit_service"]["grpc_service"]["envoy_grpc"][
        "cluster_name"
    ]
    return name


def _insert(config: Config, added: Config) -> None:
    filters = _connections(config)["http_filters"]
    filters.insert([each["name"] for each in filters].index(_ROUTER), added)


def _apply(config: Config, patch: Config) -> None:
    """Apply a patch of an EnvoyFilter."""
    value = patch["patch"]["value"]
    match patch["applyTo"], patch["patch"]["operation"]:
        case "CLUSTER", "ADD":
            _clusters(config).append(value)
        case "HTTP_FILTER", "INSERT_BEFORE":
            place = patch["match"]["listener"]["filterChain"]["filter"]
            assert place["name"] == "envoy.filters.network.http_connection_manager"
            assert place["subFilter"]["name"] == _ROUTER
            _insert(config, value)
        case "VIRTUAL_HOST", "MERGE":
            assert value.keys() == {"rate_limits"}
            virtual_host(config).setdefault("rate_limits", []).extend(value["rate_limits"])
        case other:
            raise AssertionError(f"no rule for {other}")


def _filter(
    domain: str, timeout: str, cluster: str, authority: str | None = None, *, denies: bool
) -> Config:
    service = {"cluster_name": cluster} | ({"authority": authority} if authority else {})
    return {
        "name": _RATE_LIMIT,
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit",
            "domain": domain,
            "timeout": timeout,
            "failure_mode_deny": denies,
            "rate_limit_service": {
                "transport_api_version": "V3",
                "grpc_service": {"envoy_grpc": service},
            },
        },
    }


def _by_kind(documents: list[Config]) -> Config:
    return {each["kind"]: each for each in documents}


def _contour(documents: list[Config]) -> Config:
    found = _by_kind(documents)
    service, settings = found["ExtensionService"], found["ConfigMap"]["data"]["contour.yaml"]
    limits = yaml.safe_load(settings)["rateLimitService"]
    where = f"{service['metadata']['namespace']}/{service['metadata']['name']}"
    assert (limits["extensionService"], service["spec"]["protocol"]) == (where, "h2c")
    milliseconds = int(service["spec"]["timeoutPolicy"]["response"].removesuffix("ms"))
    descriptors = found["HTTPProxy"]["spec"]["virtualhost"]["rateLimitPolicy"]["global"]
    return {
        "filter": _filter(
            limits["domain"],
            f"{milliseconds / 1000}s",
            f"extension/{where}",
            f"extension/{where}".replace("/", "."),
            denies=not limits["failOpen"],
        ),
        "rate_limits": [
            {"actions": [_contours_action(**entry) for entry in descriptor["entries"]]}
            for descriptor in descriptors["descriptors"]
        ],
    }


def _contours_action(*, requestHeader: dict[str, str]) -> Config:  # noqa: N803
    return _header(requestHeader["headerName"], requestHeader["descriptorKey"])


def _emissary(documents: list[Config]) -> Config:
    found = _by_kind(documents)
    service, labels = found["RateLimitService"]["spec"], found["Mapping"]["spec"]["labels"]
    assert service["protocol_version"] == "v3"
    groups = [group for label in labels[service["domain"]] for group in label.values()]
    return {
        "filter": _filter(
            service["domain"],
            f"{service['timeout_ms'] / 1000}s",
            "cluster_ratectl",
            denies=service["failure_mode_deny"],
        ),
        "rate_limits": [
            {"actions": [_emissarys_action(**entry) for entry in group]} for group in groups
        ],
    }


def _emissarys_action(*, request_headers: dict[str, str]) -> Config:
    return _header(request_headers["header_name"], request_headers["key"])


def _header(name: str, key: str) -> Config:
    return {"request_headers": {"header_name": name, "descriptor_key": key}}
