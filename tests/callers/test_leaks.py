"""Hostile callers leak nothing: neither objects, nor memory, nor slots."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections import UserDict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from callers.house import BURST, SANITIZED
from soak import scaled

if TYPE_CHECKING:
    from collections.abc import Callable

    from callers.house import House

LEAK_ROUNDS: Final = scaled(5_000, 1_000_000)
WARM_UP: Final = scaled(40_000, 100_000)
"""Rounds after which tables, free decisions and the logs of windows no longer grow."""

FEW_OBJECTS: Final = 500
FEW_BYTES: Final = 16 << 20


class Request(dict[str, Any]):
    """Attributes that keep their decision, and release it when they are collected."""

    def __del__(self) -> None:
        self["decision"].release()


class Asking(UserDict[str, Any]):
    """Attributes that request another decision when they are read."""

    def __init__(self, house: House) -> None:
        super().__init__(tenant="t")
        self._house = house

    def get(self, name: str, default: Any = None) -> Any:
        self._house.engine.check("/a", {"tenant": "other"}).release()
        return super().get(name, default)


class Broken:
    """Attributes that cannot be read."""

    def get(self, name: str) -> None:
        raise ValueError(name)


class Stop(BaseException):
    """A base exception raised by attributes."""


class Stopping:
    """Attributes that raise a base exception when they are read."""

    def get(self, name: str) -> None:
        raise Stop


def _keep(house: House, number: int) -> None:
    request = Request(tenant=str(number % 10))
    request["decision"] = house.engine.check("/a", request)
    request["itself"] = request


def _ask_again(house: House, number: int) -> None:
    house.engine.check("/a", Asking(house)).release()


def _settle(house: House, number: int) -> None:
    decision = house.engine.check("/a", {"tenant": "t"})
    decision.settle(number % 3)
    decision.release()


def _refuse(house: House, number: int) -> None:
    house.engine.check("/a", {"tenant": "t"}, BURST + 1)


def _fail(house: House, number: int) -> None:
    house.engine.check("/a", Broken())
    house.failures.clear()


def _stop(house: House, number: int) -> None:
    with contextlib.suppress(Stop):
        house.engine.check("/a", Stopping())


def _ask_for_many(house: House, number: int) -> None:
    for decision in house.engine.check_many([("/a", {"tenant": "t"}, 1), ("/other", {}, 1)]):
        decision.release()


def _meet(house: House, number: int) -> None:
    house.engine.check("/a", {"tenant": f"new{number % 100}"}).release()


def _reload(house: House, number: int) -> None:
    if number % 20 == 0:
        house.reload(extra={"rate": "1000000/s", "per": "tenant"})


ACTS: Final[list[Callable[[House, int], None]]] = [
    _keep, _ask_again, _settle, _refuse, _fail, _stop, _ask_for_many, _meet, _reload,
]  # fmt: skip


def _act(house: House, number: int) -> None:
    act = ACTS[number % len(ACTS)]
    act(house, number // len(ACTS))


def _resident() -> int:
    """Return the bytes of memory that this process uses; 0 if unknown."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    except OSError:
        return 0


def _objects() -> int:
    gc.collect()
    return sys.getallocatedblocks()


def test_nothing_leaks(house: House) -> None:
    for number in range(WARM_UP):
        _act(house, number)
    objects, memory = _objects(), _resident()
    for number in range(LEAK_ROUNDS):
        _act(house, number)
        if number % 10_000 == 0:
            gc.collect()  # a reload makes garbage old, and old garbage needs a full collection
    assert _objects() - objects < FEW_OBJECTS
    if not SANITIZED:  # the sanitizer keeps freed memory for a while
        assert _resident() - memory < FEW_BYTES
    house.check_all_is_well()
