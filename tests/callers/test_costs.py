"""Costs that are foreign objects: mappings that run code, change, raise or lie."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

from engine.engines import each_engine
from engine.model import Limit
from engine.plans import by_scope, plan_set, rate
from ratectl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.engines import MakeEngine
    from ratectl.engine.api import Engine

TOKENS = rate(1, 3_600, 1_000)


def opened(make: MakeEngine) -> Engine:
    engine = make(time.monotonic_ns)
    limits = Limit("/", "requests", rate(1, 3_600, 10)), Limit("/", "tokens", TOKENS, unit="tokens")
    engine.swap(plan_set(1, by_scope(*limits)))
    engine.check("/", {}, {"tokens": 1}).settle({"tokens": 0, "requests": 0})
    return engine  # it has a bucket for each limit: the compiled core decides from now on


def lefts(engine: Engine) -> dict[str, int | None]:
    engine.usage()
    assert engine.check("/", {}, 0)
    return {of.limit: of.lowest for of in engine.usage().limits}


class Text(str):
    """A text that equals nothing, and everything, when it is asked."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        raise ZeroDivisionError

    def __hash__(self) -> int:
        return hash("another")

    def __str__(self) -> str:
        return "something else"


class Number(int):
    """A number that lies about its value."""

    def __index__(self) -> int:
        return 5

    def __lt__(self, other: object) -> bool:
        return False

    def __sub__(self, other: object) -> Any:
        raise ZeroDivisionError

    __rsub__ = __mul__ = __rmul__ = __gt__ = __sub__


class Lazy(Mapping[str, int]):
    """A mapping whose reading runs a function. It is read at most once."""

    def __init__(self, read: Callable[[], dict[Any, Any]]) -> None:
        self.read = read
        self.reads = 0

    def __getitem__(self, unit: str) -> int:
        raise AssertionError("not one by one")

    def __iter__(self) -> Iterator[str]:
        raise AssertionError("not one by one")

    def __len__(self) -> int:
        raise AssertionError("not its length")

    def items(self) -> Any:
        self.reads += 1
        return self.read().items()


@each_engine
@pytest.mark.parametrize("of", [Counter, OrderedDict, dict, lambda c: defaultdict(int, c)])
def test_any_mapping_of_units_is_taken(make: MakeEngine, of: Callable[..., Any]) -> None:
    engine = opened(make)
    decision = engine.check("/", {}, of({"tokens": 300}))
    assert lefts(engine) == {"requests": 9, "tokens": 700}
    decision.settle(of({"tokens": 100}))
    assert lefts(engine) == {"requests": 9, "tokens": 900}


@each_engine
def test_texts_and_numbers_count_as_what_they_are(make: MakeEngine) -> None:
    engine = opened(make)
    decision = engine.check("/", {}, {Text("tokens"): Number(300), "requests": Number(2)})
    assert lefts(engine) == {"requests": 8, "tokens": 700}
    decision.settle({Text("tokens"): Number(100)})
    assert lefts(engine) == {"requests": 8, "tokens": 900}


@each_engine
def test_mapping_is_read_once_and_kept_as_it_was(make: MakeEngine) -> None:
    engine = opened(make)
    mapping = {"tokens": 300}
    decision = engine.check("/", {}, mapping)
    mapping["tokens"] = 900
    mapping["bytes"] = 4
    decision.settle({"tokens": 299})
    assert mapping == {"tokens": 900, "bytes": 4}
    assert lefts(engine) == {"requests": 9, "tokens": 701}
    lazy = Lazy(lambda: {"tokens": 1})
    assert engine.check("/", {}, lazy)
    assert lazy.reads == 1


@each_engine
def test_unit_named_twice_is_an_error(make: MakeEngine) -> None:
    engine = opened(make)
    with pytest.raises(UsageError, match="cost names the unit 'tokens' twice: add the two costs"):
        engine.check("/", {}, {"tokens": 1, Text("tokens"): 2})


@each_engine
@pytest.mark.parametrize(
    "read", [lambda: 1 / 0, lambda: [1, 2], lambda: {}["x"], lambda: Lazy(dict).keys() and {}]
)
def test_mapping_that_raises_is_an_error_of_its_caller(
    make: MakeEngine, read: Callable[[], Any]
) -> None:
    engine = opened(make)
    decision = engine.check("/", {}, {"tokens": 2})
    for way in (
        lambda: engine.check("/", {}, Lazy(read)),
        lambda: engine.check_many([("/", {}, Lazy(read))]),
        lambda: engine.attempt("/", {}, Lazy(read)),
        lambda: decision.settle(Lazy(read)),
    ):
        with pytest.raises(UsageError, match="mapping of units that cannot be read, as it raises"):
            way()
    assert lefts(engine) == {"requests": 9, "tokens": 998}


@each_engine
def test_exceptions_that_end_a_program_pass_through_a_mapping(make: MakeEngine) -> None:
    def interrupted() -> Any:
        raise KeyboardInterrupt

    engine = opened(make)
    with pytest.raises(KeyboardInterrupt):
        engine.check("/", {}, Lazy(interrupted))
    assert lefts(engine) == {"requests": 10, "tokens": 1_000}


@each_engine
def test_mapping_may_use_the_engine_while_it_is_read(make: MakeEngine) -> None:
    engine = opened(make)

    def nested() -> dict[str, int]:
        with engine.check("/", {}, {"tokens": 10}) as decision:
            decision.settle({"tokens": 20})
        engine.swap(plan_set(2, by_scope(Limit("/", "tokens", TOKENS, unit="tokens"))))
        return {"tokens": 5}

    decision = engine.check("/", {}, Lazy(nested))
    assert (decision.generation, decision.remaining) == (2, 975)
    decision.settle(Lazy(nested))
    assert engine.check("/", {}, 0).remaining == 955


@each_engine
def test_attributes_may_use_the_engine_after_the_cost_was_read(make: MakeEngine) -> None:
    """A limit of a unit that the engine did not know before counts, too."""
    engine = make(time.monotonic_ns)
    engine.swap(plan_set(1, by_scope(Limit("/", "l", TOKENS, ("tenant",)))))
    cost = {"news": 400}

    class Name(str):
        __slots__ = ()

        def __hash__(self) -> int:
            return hash("tenant")

        def __eq__(self, other: object) -> bool:
            cost["news"] = 1
            limits = Limit("/", "l", TOKENS, ("tenant",)), Limit("/", "n", TOKENS, unit="news")
            engine.swap(plan_set(2, by_scope(*limits)))
            return False

        __str__ = str.upper

    decision = engine.check("/", {Name("who"): "x"}, cost)
    assert (decision.generation, decision.limit, decision.remaining) == (2, "n", 600)
