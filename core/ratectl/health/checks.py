"""Result of one check."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["GRACE_SECONDS", "Check", "Status"]

Status = Literal["ok", "warning", "failed", "skipped"]

GRACE_SECONDS: Final = 5.0
"""How long an agent may be behind a generation or a kill switch that has just changed."""


@dataclass(frozen=True, slots=True)
class Check:
    """Result of one check: its subject, its status, a message, and details for programs."""

    name: str
    status: Status
    message: str
    details: Mapping[str, Any] = field(default_factory=dict)
