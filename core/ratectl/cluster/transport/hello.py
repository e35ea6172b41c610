"""Messages about a connection: who a peer is, and why it closes the connection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["VERSION", "Hello", "Refusal"]

VERSION: Final = 1
"""Version of the messages. One version reads the messages of the next and of the one before."""


@dataclass(frozen=True, slots=True)
class Hello:
    """The first message on a connection, in both directions."""

    version: int
    environment: str
    """Identity of the cluster: members of another one are refused."""
    member: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """The last message on a connection: why the peer closes it."""

    reason: str
