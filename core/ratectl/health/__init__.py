"""Health of an environment: what `ratectl doctor` examines."""

from __future__ import annotations

from ratectl.health.checks import Check, Status
from ratectl.health.examination import examine

__all__ = ["Check", "Status", "examine"]
