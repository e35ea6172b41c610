"""The engine: buckets and their arithmetic. It knows no policies, files or stores.

``pure`` is the specification; ``native`` does the same on a compiled core, if one was built.
``open_engine`` chooses; ``RATECTL_ENGINE`` may name one (``auto``, ``c``, ``pure``).
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ratectl.engine.buckets.table import DEFAULT_MAX_BYTES
from ratectl.engine.pure import PureEngine
from ratectl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ratectl.engine.api import Engine
    from ratectl.engine.native.engine import FastEngine
    from ratectl.engine.stable_keys import StableKeys

__all__ = ["describe_engine", "engine_type", "open_engine", "why_not_compiled"]

_BUILD_FAILURE: Final = Path(__file__).with_name("native") / "build_failure.txt"
"""File that the build leaves instead of the compiled core: the reason why there is none."""


def open_engine(
    clock: Callable[[], int],
    *,
    max_bytes: int = DEFAULT_MAX_BYTES,
    stable_keys: StableKeys | None = None,
) -> Engine:
    """Return a new engine that reads ``clock`` (nanoseconds; it should never step back).

    ``max_bytes`` bounds the memory of its buckets. ``stable_keys``: hash keys under its secret.

    :raises UsageError: ``RATECTL_ENGINE`` names an engine that does not exist, or is not built.
    """
    return engine_type()(clock, max_bytes=max_bytes, stable_keys=stable_keys)


def engine_type() -> type[PureEngine | FastEngine]:
    """Return the engine that ``RATECTL_ENGINE`` names; by default the compiled one, if built.

    :raises UsageError: it does not exist, or is not built.
    """
    wanted = _wanted()
    if wanted == "pure" or (wanted == "auto" and why_not_compiled()):
        return PureEngine
    problem = why_not_compiled()
    if problem:
        raise UsageError(
            f"RATECTL_ENGINE=c, but {problem}: install a C compiler and then ratectl again, "
            "or use auto"
        )
    from ratectl.engine.native.engine import FastEngine

    return FastEngine


def describe_engine() -> str:
    """Return the name of the engine in use, and why it is not the compiled one if nobody chose so.

    :raises UsageError: ``RATECTL_ENGINE`` names an engine that does not exist, or is not built.
    """
    name = engine_type().name
    problem = why_not_compiled() if _wanted() == "auto" else ""
    return f"{name} ({problem})" if problem else name


def _wanted() -> str:
    """Return what ``RATECTL_ENGINE`` asks for: ``auto``, ``c`` or ``pure``.

    :raises UsageError: it asks for something else.
    """
    wanted = os.environ.get("RATECTL_ENGINE") or "auto"
    if wanted not in ("auto", "c", "pure"):
        raise UsageError(f"RATECTL_ENGINE={wanted!r} is not an engine; use auto, c or pure")
    return wanted


@cache
def why_not_compiled() -> str:
    """Return the reason why there is no compiled engine here; an empty text if there is one."""
    try:
        import ratectl.engine.native._fast  # noqa: F401
    except ImportError as error:
        if _BUILD_FAILURE.exists():
            return f"the compiled core was not built: {_BUILD_FAILURE.read_text('utf-8').strip()}"
        return f"the compiled core cannot be loaded: {error}"
    return ""
