"""Description of the machine."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from pathlib import Path

__all__ = ["describe", "title"]


def describe() -> dict[str, str | int]:
    """Return processor, usable cores, Python, system and day."""
    return {
        "cpu": _processor(),
        "cores": _cores(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.machine()}",
        "date": datetime.now(UTC).date().isoformat(),
    }


def title() -> str:
    """Return the description as one line."""
    said = describe()
    cores = f"{said['cores']} core{'s' if said['cores'] != 1 else ''}"
    return f"{said['cpu']}, {cores}, {said['python']}, {said['system']}, {said['date']}"


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor() -> str:
    """Return the processor's name, if the system has it."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
