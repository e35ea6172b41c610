"""Attributes that run their own code: the engine stays intact whatever they do."""

from __future__ import annotations

import os
import signal
import threading
from collections import ChainMap, OrderedDict, UserDict, defaultdict
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pytest

from callers.house import BURST, ROUNDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from callers.house import House

    Make = Callable[[House], Any]


class Reading(Mapping[str, Any]):
    """A mapping that calls a function at each read."""

    def __init__(self, act: Callable[[], Any], value: Any = "t") -> None:
        self._act = act
        self._value = value

    def __getitem__(self, name: str) -> Any:
        self._act()
        if name != "tenant":
            raise KeyError(name)
        return self._value

    def __iter__(self) -> Iterator[str]:
        yield "tenant"

    def __len__(self) -> int:
        return 1


class OnlyGet:
    """A mapping with only the method that the engine needs."""

    def get(self, name: str) -> str | None:
        return "t" if name == "tenant" else None


class Overriding(dict[str, str]):
    """A dict subclass that returns other values than it holds."""

    def get(self, name: str, default: Any = None) -> Any:
        return "t"


class Fickle:
    """A mapping that returns another value each time."""

    def __init__(self) -> None:
        self.asked = 0

    def get(self, name: str) -> str:
        self.asked += 1
        return "t" if self.asked == 1 else f"{name}{self.asked}"


class Name(str):
    """A string subclass that calls a function when it is compared."""

    __slots__ = ()
    act: Callable[[], Any] = staticmethod(lambda: None)

    def __hash__(self) -> int:
        return hash("tenant")

    def __eq__(self, other: object) -> bool:
        type(self).act()
        return str.__eq__(self, other)  # type: ignore[arg-type]


def _deciding(house: House) -> Any:
    return Reading(lambda: house.ask())


def _deciding_deeply(house: House) -> Any:
    def act(depth: int = 5) -> None:
        if depth:
            house.ask(Reading(lambda: act(depth - 1)))

    return Reading(act)


def _releasing(house: House) -> Any:
    def act() -> None:
        if house.admitted and not house.holds:
            house.admitted[-1].release()

    return Reading(act)


def _settling(house: House) -> Any:
    return Reading(lambda: house.engine.check("/a", {"tenant": "other"}).settle(2))


def _reloading(house: House) -> Any:
    return Reading(lambda: house.reload(extra={"rate": "1000/s", "per": "tenant"}))


def _reading_usage(house: House) -> Any:
    return Reading(lambda: house.engine.usage())


def _waiving(house: House) -> Any:
    def act() -> None:
        house.engine.waive({"/other": "open"})
        house.engine.waive({})

    return Reading(act)


def _asking_another_thread(house: House) -> Any:
    """Return a mapping that waits for a deciding thread: a lock held meanwhile would hang both."""

    def act() -> None:
        other = threading.Thread(target=house.ask)
        other.start()
        other.join()

    return Reading(act)


def _evicting(house: House) -> Any:
    def act() -> None:
        for number in range(20):
            house.engine.check("/a", {"tenant": f"x{number}"}).release()

    return Reading(act)


def _forking(_: House) -> Any:
    def act() -> None:
        child = os.fork()
        if not child:
            os._exit(0)
        os.waitpid(child, 0)

    return Reading(act)


def _signalling(house: House) -> Any:
    def act() -> None:
        before = signal.signal(signal.SIGUSR1, lambda *_: house.ask())
        signal.raise_signal(signal.SIGUSR1)
        signal.signal(signal.SIGUSR1, before)

    return Reading(act)


def _comparing(house: House) -> Any:
    class Mine(Name):
        __slots__ = ()
        act = staticmethod(lambda: house.engine.check("/a", {"tenant": "other"}).release())

    return {Mine("tenanT"): "wrong", "tenant": "t"}


def _growing(_: House) -> Any:
    attributes = {"tenant": "t"}

    class Mine(Name):
        __slots__ = ()
        act = staticmethod(lambda: attributes.update({str(len(attributes)): "x"}))

    attributes[Mine("tenanT")] = "wrong"
    attributes["tenant"] = attributes.pop("tenant")
    return attributes


GOOD: dict[str, Make] = {
    "plain": lambda _: {"tenant": "t"},
    "proxy": lambda _: MappingProxyType({"tenant": "t"}),
    "ordered": lambda _: OrderedDict(tenant="t"),
    "default": lambda _: defaultdict(str, tenant="t"),
    "chained": lambda _: ChainMap({}, {"tenant": "t"}),
    "user": lambda _: UserDict(tenant="t"),
    "only get": lambda _: OnlyGet(),
    "overriding": lambda _: Overriding(tenant="wrong"),
    "ten thousand": lambda _: {**{str(n): "x" for n in range(10_000)}, "tenant": "t"},
    "deciding": _deciding,
    "deciding deeply": _deciding_deeply,
    "releasing": _releasing,
    "settling": _settling,
    "reloading": _reloading,
    "reading usage": _reading_usage,
    "waiving": _waiving,
    "asking another thread": _asking_another_thread,
    "evicting": _evicting,
    "forking": _forking,
    "signalling": _signalling,
    "comparing": _comparing,
    "growing": _growing,
}
"""Mappings that mean tenant ``t``, whatever else they do."""

SLOW = {"ten thousand", "reloading", "asking another thread", "forking", "deciding deeply"}


@pytest.mark.parametrize("make", GOOD.values(), ids=GOOD)
def test_unusual_mapping_is_counted_as_its_tenant(
    house: House, make: Make, request: pytest.FixtureRequest
) -> None:
    slow = request.node.callspec.id.split("-", 2)[-1] in SLOW
    for _ in range(BURST + 5 if slow else ROUNDS):
        house.ask(make(house))
    assert house.left() == 0
    assert len(house.admitted) == BURST
    house.check_all_is_well()


def test_changing_mapping_is_counted_as_one_of_its_tenants(house: House) -> None:
    for _ in range(ROUNDS):
        decision = house.ask(Fickle())
        decision.settle(2)
        decision.release()
    house.admitted.clear()
    house.check_all_is_well()


class Boom(Exception):
    """Raised by callers."""


class Stop(BaseException):
    """A base exception raised by callers."""


def _raising(error: type[BaseException]) -> Make:
    def act() -> None:
        raise error

    return lambda _: Reading(act)


FAILING: dict[str, Make] = {
    "raising": _raising(Boom),
    "recursing": _raising(RecursionError),
    "out of memory": _raising(MemoryError),
    "a list": lambda _: ["tenant"],
    "a number": lambda _: 7,
    "a text": lambda _: "tenant=t",
    "a class": lambda _: dict,
    "none": lambda _: type("N", (), {"get": None})(),
    "get without a name": lambda _: type("G", (), {"get": lambda _: "t"})(),
    "a value that raises": lambda _: {"tenant": type("V", (), {"__str__": _boom})()},
    "a value that is no text": lambda _: {"tenant": type("V", (), {"__str__": lambda _: 7})()},
}
"""Attributes that cannot be read: ``on_error`` answers."""


def _boom(*_: object) -> Any:
    raise Boom


@pytest.mark.parametrize("make", FAILING.values(), ids=FAILING)
def test_unreadable_mapping_is_answered_by_on_error(house: House, make: Make) -> None:
    for _ in range(20):
        decision = house.ask(make(house))
        assert (decision.allowed, decision.reason) == (True, "error")
    assert house.left() == BURST, "nothing was charged"
    house.check_all_is_well(failures=20)


@pytest.mark.parametrize("error", [Stop, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_base_exceptions_pass_through_check(house: House, error: type[BaseException]) -> None:
    make = _raising(error)
    for _ in range(20):
        with pytest.raises(error):
            house.ask(make(house))
    assert house.left() == BURST, "nothing was charged"
    house.check_all_is_well()
