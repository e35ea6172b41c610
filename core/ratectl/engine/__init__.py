"""The engine: buckets and the maths on them. Knows nothing of policies, files or stores.

``open_engine`` chooses the implementation; ``RATECTL_ENGINE`` may name one (``auto``, ``pure``).
The compiled twin will stand beside ``pure`` behind the same ``Engine`` interface.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ratectl.engine.pure import PureEngine
from ratectl.engine.table import DEFAULT_MAX_BYTES
from ratectl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ratectl.engine.base import Engine

__all__ = ["open_engine"]


def open_engine(clock: Callable[[], int], *, max_bytes: int = DEFAULT_MAX_BYTES) -> Engine:
    """A new engine reading ``clock`` (nanoseconds, never stepping back by promise or by luck).

    ``max_bytes`` bounds its buckets.

    :raises UsageError: ``RATECTL_ENGINE`` names an engine that does not exist.
    """
    wanted = os.environ.get("RATECTL_ENGINE", "auto")
    if wanted not in ("auto", "pure"):
        raise UsageError(f"RATECTL_ENGINE={wanted!r} is not an engine; use auto or pure")
    return PureEngine(clock, max_bytes=max_bytes)
