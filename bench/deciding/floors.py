"""Floors, which no limiter can beat: the loop, an empty call, a reading of the clock."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bench.deciding.candidate import KEY, Candidate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bench.deciding.candidate import Builder, Setting

__all__ = ["CLOCK", "C_CALL", "FLOORS", "PYTHON_CALL"]

PYTHON_CALL = "empty Python call"
C_CALL = "empty C call"
CLOCK = "clock read (monotonic_ns)"
"""A reading of the clock by Python."""
CLOCK_IN_C = "clock read in C"
"""An empty C call and one reading of the clock."""


def _nothing(scope: str, attributes: Mapping[str, str]) -> None:
    """Empty function with as many arguments as a check."""


def the_loop(_: Setting) -> Candidate:
    return Candidate("floor", "pass", {})


def python_call(_: Setting) -> Candidate:
    names = {"nothing": _nothing, "attributes": {"tenant": KEY}}
    return Candidate("floor", "nothing('/one', attributes)", names, "nothing('/one', key)")


def c_call(_: Setting) -> Candidate:
    """Return the compiled engine's empty function; without it, a cheap built-in."""
    try:
        from ratectl.engine.native._fast import floor
    except ImportError:
        return Candidate("floor", "call(key)", {"call": callable})
    return Candidate("floor", f"call({_arguments(floor)})", {"call": floor})


def _arguments(floor: Callable[..., object]) -> str:
    try:
        floor(KEY)
    except TypeError:
        return ""
    return "key"


def clock(_: Setting) -> Candidate:
    return Candidate("floor", "now()", {"now": time.monotonic_ns})


def clock_in_c(_: Setting) -> Candidate:
    from ratectl.engine.native._fast import now

    return Candidate("floor", "now()", {"now": now})


FLOORS: dict[str, Builder] = {
    "the loop alone": the_loop,
    C_CALL: c_call,
    PYTHON_CALL: python_call,
    CLOCK: clock,
    CLOCK_IN_C: clock_in_c,
}
