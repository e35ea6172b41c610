"""Limits of Envoy Gateway, which a management server sends over xDS."""

from ratectl.xds.follower import GatewayFollower

__all__ = ["GatewayFollower"]
