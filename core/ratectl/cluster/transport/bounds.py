"""Bounds on what peers can use of a member."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Bounds"]


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bounds of links."""

    connections: int = 2_048
    """Most connections, and most addresses that the member connects to: at most half of the
    descriptors that the process may open."""
    frames: int = 1_024
    """Most messages that one round returns."""
    queued: int = 256 * 1_024
    """Most bytes that wait for one peer. One message may always wait."""
    handshake: float = 3.0
    """Seconds until a connection must have TLS and the peer's hello."""
    silence: float = 3.0
    """Seconds after which a connection is closed on which nothing arrives."""
