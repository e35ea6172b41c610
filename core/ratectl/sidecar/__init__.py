"""The sidecar: rate limits for a service mesh, over Envoy's Rate Limit Service."""

from ratectl.sidecar.sidecar import Sidecar

__all__ = ["Sidecar"]
