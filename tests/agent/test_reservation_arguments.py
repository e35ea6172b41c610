"""Arguments of reservations and their reports, and the texts of both."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
from reserving import ACME, agent_of, left

from ratectl import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    import ratectl

TOKENS = {"tokens": 4_000}


@pytest.fixture
def agent() -> ratectl.Agent:
    """Return an agent with a quota of tokens."""
    return agent_of(tokens={"algorithm": "quota", "rate": "10_000/day"})


@pytest.mark.parametrize(
    ("report", "message"),
    [
        (lambda r: r.used(tokens=-1), "total of 'tokens' is a whole number, 0 or more, not -1"),
        (lambda r: r.used(tokens=True), "total of 'tokens' is a whole number, .* not True"),
        (lambda r: r.used(tokens=1.5), "total of 'tokens' is a whole number, .* not 1.5"),
        (lambda r: r.used(tokens="5"), "total of 'tokens' is a whole number, .* not '5'"),
        (lambda r: r.used({"gpu-seconds": None}), "total of 'gpu-seconds' is .* not None"),
        (lambda r: r.used({3: 1}), "maps names of units, like 'tokens', not 3"),
        (lambda r: r.used({"tokens": 1}, tokens=2), "names the unit 'tokens' twice"),
        (lambda r: r.used(1_500), r"needs the name of its unit, like used\(tokens=1500\), not 15"),
        (lambda r: r.used([("tokens", 5)]), "needs the name of its unit"),
    ],
)
def test_wrong_totals_are_usage_errors_and_change_nothing(
    agent: ratectl.Agent, report: Callable[[Any], None], message: str
) -> None:
    with agent.reserve("/", ACME, TOKENS) as reservation:
        with pytest.raises(UsageError, match=message):
            report(reservation)
        assert left(agent) == 6_000
    refused = agent.reserve("/", ACME, {"tokens": 10_001}).open()
    with pytest.raises(UsageError, match=message):
        report(refused)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cost": -1}, "cost is a whole number, 0 or more, or a mapping of units"),
        ({"cost": {"tokens": 1.5}}, "cost of 'tokens' is a whole number, 0 or more, not 1.5"),
        ({"expires": 0}, "expires is a number of seconds above 0, not 0"),
        ({"expires": math.nan}, "expires is a number of seconds above 0, not nan"),
        ({"expires": True}, "expires is a number of seconds above 0, not True"),
        ({"expires": None}, "expires is a number of seconds above 0, not None"),
        ({"on_expiry": "return"}, "on_expiry is 'keep' or 'refund', not 'return'"),
        ({"wait": -1}, "wait is a number of seconds, 0 or more, not -1"),
    ],
)
def test_wrong_arguments_are_usage_errors(
    agent: ratectl.Agent, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        agent.reserve("/", ACME, **arguments)


def test_reservation_that_is_not_open_has_no_answer(agent: ratectl.Agent) -> None:
    reservation = agent.reserve("/", ACME, TOKENS)
    for ask in (bool, lambda r: r.decision, lambda r: r.used(tokens=1)):
        with pytest.raises(UsageError, match="is not open: write `with agent"):
            ask(reservation)


def test_text_of_a_reservation_says_its_state(agent: ratectl.Agent) -> None:
    reservation = agent.reserve("/", ACME, TOKENS, expires=5)
    seen = [repr(reservation)]
    with reservation:
        seen.append(repr(reservation))
        agent.clock.advance(5)
        seen.append(repr(reservation))
    refused = agent.reserve("/", ACME, {"tokens": 10_001}).open()
    seen += [repr(reservation), repr(refused)]
    states = ["not open", "open", "expired", "ended"]
    assert seen[:-1] == [f"<Reservation of {{'tokens': 4000}}, {state}>" for state in states]
    assert seen[-1] == "<Reservation of {'tokens': 10001}, refused>"
