"""Health and usage of an environment, as its agents report them."""

from __future__ import annotations

from ratectl.health.checks import Check, Status
from ratectl.health.examination import examine

__all__ = ["Check", "Status", "examine"]
