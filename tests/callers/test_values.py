"""Scopes, values and costs of every type give an answer or a clear error, at once."""

from __future__ import annotations

import enum
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest

from callers.house import BURST
from ratectl.errors import UsageError

if TYPE_CHECKING:
    from callers.house import House


class Text(str):
    """A string subclass whose methods a test replaces."""

    __slots__ = ()


class Liar(Text):
    """An object that equals everything, with a fixed hash."""

    __slots__ = ()

    def __hash__(self) -> int:
        return 7

    def __eq__(self, other: object) -> bool:
        return True


class Explosive(Text):
    """An object that cannot be hashed or compared, and has no length."""

    __slots__ = ()

    def __hash__(self) -> int:
        raise RuntimeError("hashed")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("compared")

    def __len__(self) -> int:
        raise RuntimeError("measured")


class Named:
    """An object whose ``str()`` is a string subclass."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __str__(self) -> str:
        return Text(self._text)


class Whole(int):
    """An integer subclass with changed methods."""

    def __lt__(self, other: object) -> bool:
        raise RuntimeError("compared")

    def __index__(self) -> int:
        raise RuntimeError("indexed")


class Level(enum.IntEnum):
    """An integer enumeration."""

    ONE = 1


SAME: dict[str, Any] = {
    "text": "t",
    "subclass": Text("t"),
    "liar": Liar("t"),
    "explosive": Explosive("t"),
    "named": Named("t"),
}
"""Values that all mean tenant ``t``."""

OTHERS: dict[str, Any] = {
    "empty": "",
    "nul": "t\0",
    "surrogate": "\ud800",
    "surrogates": "\ud800" * 300,
    "wide": "🎈" * 64,
    "composed": "é",
    "decomposed": "e\u0301",
    "long": "t" * 257,
    "huge": "t" * 10_000_000,
    "number": 7,
    "large number": 10**4_000,
    "float": float("nan"),
    "bytes": b"t",
    "true": True,
    "list": ["t"],
    "class": Text,
    "absent": None,
    "liar": Liar("x"),
    "explosive": Explosive("y"),
}
"""Values that each are a separate tenant."""


@pytest.mark.parametrize("value", SAME.values(), ids=SAME)
def test_value_with_a_tenants_text_is_that_tenant(house: House, value: Any) -> None:
    attributes = {"tenant": value}
    for _ in range(BURST):
        assert house.ask(attributes).allowed
    assert not house.ask(attributes).allowed
    assert house.left() == 0
    house.check_all_is_well()


@pytest.mark.parametrize("value", OTHERS.values(), ids=OTHERS)
def test_every_other_value_is_a_separate_tenant(house: House, value: Any) -> None:
    attributes = {"tenant": value}
    for _ in range(BURST):
        assert house.ask(attributes).reason == "ok"
    assert house.ask(attributes).reason == "limited"
    assert house.left() == BURST
    assert all(
        len(key) < 300 for limit in house.engine.usage().limits for key, _ in limit.top_refused
    )
    house.check_all_is_well()


COSTS: dict[str, Any] = {
    "negative": -1,
    "true": True,
    "false": False,
    "float": 1.0,
    "nan": float("nan"),
    "decimal": Decimal(1),
    "fraction": Fraction(1),
    "text": "1",
    "none": None,
    "bytes": b"1",
    "list": [1],
    "very negative": -(10**30),
}


@pytest.mark.parametrize("cost", COSTS.values(), ids=COSTS)
def test_invalid_cost_is_a_usage_error(house: House, cost: Any) -> None:
    with pytest.raises(UsageError, match="cost is a whole number"):
        house.engine.check("/a", {"tenant": "t"}, cost)
    with pytest.raises(UsageError, match="cost is a whole number"):
        house.engine.gate("/a", "tenant", cost=cost)
    with pytest.raises(UsageError, match="cost is a whole number"):
        house.engine.check_many([("/a", {"tenant": "t"}, cost)])
    with house.ask() as decision, pytest.raises(UsageError, match="a whole number"):
        decision.settle(cost)
    house.check_all_is_well()


@pytest.mark.parametrize("bits", [31, 32, 53, 60, 61, 62, 63, 64, 65, 127, 1_000])
def test_a_cost_beyond_all_limits_is_never_admitted(house: House, bits: int) -> None:
    for cost in (2**bits - 1, 2**bits, 2**bits + 1):
        decision = house.ask(cost=cost)
        assert (decision.allowed, decision.reason, decision.retry_after) == (False, "never", None)
        assert decision.remaining == BURST
    house.check_all_is_well()


def test_integer_subclasses_are_valid_costs(house: House) -> None:
    assert house.ask(cost=Level.ONE).allowed
    decision = house.ask(cost=Whole(1))  # it raises when compared: the limiter cannot decide
    assert decision.reason in ("ok", "error")
    house.failures.clear()
    house.check_all_is_well()


SCOPES: dict[str, Any] = {
    "undeclared": "/nobody's",
    "empty": "",
    "no slash": "a",
    "deep": "/x" * 64_000,
    "huge": "/" + "x" * 10_000_000,
    "surrogate": "/\ud800",
    "nul": "/a\0",
}
"""Scopes that no policy covers."""

BROKEN: dict[str, Any] = {
    "none": None,
    "number": 7,
    "bytes": b"/a",
    "list": ["/a"],
    "tuple": ("/a",),
    "class": str,
}
"""Values that are not valid scopes."""


@pytest.mark.parametrize("scope", SCOPES.values(), ids=SCOPES)
def test_undeclared_scope_has_no_policy(house: House, scope: Any) -> None:
    for _ in range(3):
        decision = house.ask(scope=scope)
        assert (decision.allowed, decision.reason) == (True, "no_policy")
    house.check_all_is_well()


@pytest.mark.parametrize("scope", BROKEN.values(), ids=BROKEN)
def test_invalid_scope_is_answered_by_on_error(house: House, scope: Any) -> None:
    for _ in range(3):
        decision = house.ask(scope=scope)
        assert (decision.allowed, decision.reason) == (True, "error")
    house.check_all_is_well(failures=3)


@pytest.mark.parametrize(
    "scope", [Text("/a"), Liar("/a"), Explosive("/a")], ids=lambda s: type(s).__name__
)
def test_scope_of_a_string_subclass_is_that_scope(house: House, scope: Any) -> None:
    for _ in range(BURST + 1):
        house.ask(scope=scope)
    assert house.left() == 0
    assert len(house.admitted) == BURST
    house.check_all_is_well()
