"""Objects of the caller are read once, before the decision, by their real type."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from callers.house import BURST, ROUNDS, House, guarded
from engine.engines import ENGINES
from policy.trees import tree
from ratectl.compiler.plans import compile_tree

if TYPE_CHECKING:
    from collections.abc import Iterator


class Stop(BaseException):
    """A base exception, which must not be swallowed."""


class Hashing(str):
    """A string subclass with another hash."""

    __slots__ = ()

    def __hash__(self) -> int:
        return id(self)


class Named:
    """A value whose ``str()`` is a string subclass."""

    def __str__(self) -> str:
        return Hashing("t")


class Proxy:
    """A proxy that claims another class, as web frameworks use."""

    def __init__(self, stands_for: Any) -> None:
        self._stands_for = stands_for

    @property
    def __class__(self) -> Any:
        return type(self._stands_for)

    @__class__.setter
    def __class__(self, value: Any) -> None:
        raise AttributeError

    def __str__(self) -> str:
        return str(self._stands_for)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stands_for, name)


class Counting:
    """A mapping that fails after a number of reads."""

    def __init__(self, end: BaseException | None = None, after: int = 1) -> None:
        self.reads = 0
        self._end = end
        self._after = after

    def get(self, name: str) -> str:
        self.reads += 1
        if self._end is not None and self.reads > self._after:
            raise self._end
        return "t"


def exhaust(house: House) -> None:
    for _ in range(BURST):
        house.ask()
    assert house.left() == 0


def test_string_subclass_with_another_hash_counts_as_its_text(house: House) -> None:
    exhaust(house)
    gate = house.engine.gate("/a", "tenant")
    for _ in range(10):
        assert not house.engine.check("/a", {"tenant": Named()})
        assert not house.engine.check("/a", {"tenant": Hashing("t")})
        if not house.holds:
            assert not gate(Named())  # type: ignore[arg-type]


def test_proxy_of_a_string_counts_as_the_string(house: House) -> None:
    exhaust(house)
    assert not house.engine.check("/a", {"tenant": Proxy("t")})
    assert house.engine.check("/a", {"tenant": Proxy("other")})
    house.check_all_is_well()


def test_proxy_of_a_dict_counts_as_the_dict(house: House) -> None:
    exhaust(house)
    for _ in range(10):
        assert not house.engine.check("/a", Proxy({"tenant": "t"}))
        assert house.engine.check("/a", Proxy({"tenant": "other"}))
    house.check_all_is_well()


def test_mapping_is_read_once_and_not_again_by_settle(house: House) -> None:
    for end in (None, RuntimeError("over")):
        attributes = Counting(end)
        decision = house.engine.check("/a", attributes, 2)
        decision.settle(1)
        decision.release()
        assert attributes.reads == 1
    assert house.left() == BURST - (0 if house.holds else 2)
    house.check_all_is_well()


def test_a_refused_mapping_is_read_once(house: House) -> None:
    exhaust(house)
    attributes = Counting()
    assert not house.engine.check("/a", attributes)
    assert attributes.reads == 1


def test_gate_passes_base_exceptions_through(house: House) -> None:
    class Ending:
        def __str__(self) -> str:
            raise Stop

    gate = house.engine.gate("/a", "tenant")
    with pytest.raises(Stop):
        gate(Ending())  # type: ignore[arg-type]
    house.check_all_is_well()


class Asking:
    """A mapping that requests another decision when it is read, recursively."""

    def __init__(self, house: House) -> None:
        self._house = house

    def get(self, name: str) -> str:
        self._house.engine.check("/a", Asking(self._house), BURST + 1)
        return f"x{id(self)}"


def test_endless_recursion_of_mappings_is_stopped(house: House) -> None:
    house.engine.check("/a", Asking(house), BURST + 1)
    assert any(isinstance(failure, RecursionError) for failure in house.failures)
    house.check_all_is_well(failures=None)


@pytest.mark.parametrize("error", [Stop(), ValueError("no")], ids=["end", "error"])
def test_failing_requests_keep_nothing(house: House, error: BaseException) -> None:
    def requests() -> Iterator[Any]:
        for _ in range(3):
            yield ("/a", {"tenant": "t"})
        raise error

    mistaken: list[Any] = [("/a", {"tenant": "t"})] * 3 + ["no request"]
    with pytest.raises(type(error)):
        house.engine.check_many(requests())
    with pytest.raises(Exception, match="request 3 is not"):
        house.engine.check_many(mistaken)
    if house.holds:
        assert house.left() == BURST
    house.check_all_is_well()


def test_requests_may_interrupt_the_taking_of_a_slot() -> None:
    """A profile function simulates another thread at every possible place."""
    for make in ENGINES.values():
        engine = make(time.monotonic_ns)
        guarded(engine)
        slots = {"algorithm": "concurrency", "max": 10_000, "hold": "7day", "per": "tenant"}
        engine.swap(compile_tree(tree({"/a": {"limits": {"slots": slots}}}), 1))
        held = [engine.check("/a", {"tenant": "t"}) for _ in range(2_000)]
        for decision in held[5:]:
            decision.release()
        busy = False

        def act(frame: Any, event: str, arg: Any) -> None:
            nonlocal busy
            if not busy and event.startswith("c_"):
                busy = True
                for _ in range(30):
                    engine.check("/a", {"tenant": "t"}).release()  # noqa: B023
                busy = False

        sys.setprofile(act)
        try:
            answers = [engine.check("/a", {"tenant": "t"}) for _ in range(20)]
        finally:
            sys.setprofile(None)
        assert all(answers)
        for decision in (*answers, *held):
            decision.release()
        assert engine.check("/a", {"tenant": "t"}, 0).remaining == 10_000


def test_refused_request_takes_no_slots_from_others() -> None:
    limits: dict[str, Any] = {
        "tokens": {"rate": "1/week", "burst": 1, "per": "tenant"},
        "slots": {"algorithm": "concurrency", "max": 1, "hold": "7day", "per": []},
    }
    before = sys.getswitchinterval()
    for make in ENGINES.values():
        engine = make(time.monotonic_ns)
        engine.swap(compile_tree(tree({"/a": {"limits": limits}}), 1))
        engine.check("/a", {"tenant": "poor"}).release()
        stop = threading.Event()

        def ask() -> None:
            while not stop.is_set():  # noqa: B023
                engine.check("/a", {"tenant": "poor"}).release()  # noqa: B023

        assert not engine.check("/a", {"tenant": "poor"})
        threads = [threading.Thread(target=ask) for _ in range(2)]
        sys.setswitchinterval(1e-5)
        try:
            for thread in threads:
                thread.start()
            refused = 0
            for number in range(20 * ROUNDS):
                decision = engine.check("/a", {"tenant": f"rich{number}"})
                refused += not decision
                decision.release()
        finally:
            stop.set()
            sys.setswitchinterval(before)
            for thread in threads:
                thread.join(20)
        assert not refused
