"""All engines: each test of one runs on all.

The compiled one is missing if it was not built; ``RATECTL_REQUIRE_C=1`` makes that an error.
``RATECTL_ENGINE`` names the only one to test.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

import pytest

from ratectl.engine.pure import PureEngine

if TYPE_CHECKING:
    from collections.abc import Callable

    from ratectl.engine.api import Engine
    from ratectl.engine.stable_keys import StableKeys

__all__ = ["ENGINES", "MakeEngine", "each_engine"]


class MakeEngine(Protocol):
    """Function that makes an engine; the default table has the usual size."""

    def __call__(
        self,
        clock: Callable[[], int],
        *,
        max_buckets: int = ...,
        stable_keys: StableKeys | None = ...,
    ) -> Engine: ...


def _found() -> dict[str, MakeEngine]:
    found: dict[str, MakeEngine] = {PureEngine.name: PureEngine}
    try:
        from ratectl.engine.native.engine import FastEngine
    except ImportError:
        if os.environ.get("RATECTL_REQUIRE_C") == "1":
            raise
    else:
        found[FastEngine.name] = FastEngine
    alone = os.environ.get("RATECTL_ENGINE", "auto")
    return {name: make for name, make in found.items() if alone in (name, "auto")}


ENGINES = _found()
each_engine = pytest.mark.parametrize("make", ENGINES.values(), ids=ENGINES)
"""Parameters of a test that takes ``make``."""
