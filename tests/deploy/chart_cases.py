"""Values for the chart."""

from __future__ import annotations

from typing import Any

__all__ = ["CASES", "EVERYTHING", "PEER"]

PEER = {"podSelector": {"matchLabels": {"app": "envoy"}}}
EVERYTHING: dict[str, Any] = {
    "image": {"digest": f"sha256:{'0' * 64}"},
    "imagePullSecrets": [{"name": "pull"}],
    "replicas": 3,
    "autoscaling": {"enabled": True},
    "store": {"tls": {"secret": "store-tls", "clientCertificate": True}},
    "idPrefix": "eu-1-",
    "publicKeys": {"configMap": "keys", "files": ["platform.pub", "second.pub"]},
    "rls": {"tlsSecret": "rls-tls"},
    "http": {"port": 8082},
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
