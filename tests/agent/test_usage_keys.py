"""Keys as an agent shows them, and the size of its records."""

from __future__ import annotations

import random
import string
from typing import Any

import pytest

from given_counts import GivenMeter, counted
from ratectl import Agent, FakeClock, UsageError
from ratectl.engine.buckets.traffic import KeyTraffic
from ratectl.fleet.shown_keys import keys_shown
from ratectl.records import UsageRecord

POLICIES = """
apiVersion: ratectl/v1
scope: /mail
limits: {spike: {rate: 1/h, burst: 3, per: [client]}}
"""


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("203.0.113.77", "203.0.113.0/24"),
        ("2001:db8:1:2345:6789::1", "2001:db8:1:2300::/56"),
        ("::1", "::/56"),
        ("acme", "acme"),
        ("203.0.113", "203.0.113"),
        ("203.0.113.777", "203.0.113.777"),
        ("", ""),
        (None, "(absent)"),
        (("203.0.113.77", "acme", None), "203.0.113.0/24, acme, (absent)"),
        ("\udcff", "\\udcff"),
        (b"\x01" * 16, "(long: 0101010101010101)"),
    ],
)
def test_addresses_are_cut_to_their_network(key: Any, shown: str) -> None:
    assert keys_shown("plain")(key) == shown


def test_other_ways_to_show_keys() -> None:
    assert keys_shown("full")("203.0.113.77") == "203.0.113.77"
    assert keys_shown("off")("acme") == ""
    one, other = keys_shown("hashed", b"s" * 16), keys_shown("hashed", b"t" * 16)
    assert one("acme") == one("acme") != other("acme")
    assert len(one("acme")) == 17
    assert "acme" not in one("acme")
    assert keys_shown("hashed", b"s" * 200)("acme")  # a long secret is cut


def usage_of(**options: Any) -> Any:
    with Agent.from_policies(POLICIES, clock=FakeClock(), **options) as agent:
        for last in range(1, 6):
            for _ in range(5):
                agent.check("/mail", {"client": f"203.0.113.{last}"})
        return agent.usage().limits[0]


def test_clients_of_a_network_are_one_line() -> None:
    limit = usage_of()
    assert limit.busiest == (KeyTraffic("203.0.113.0/24", 25, 0, 1.0),)
    assert limit.top_refused == (("203.0.113.0/24", 10),)


def test_keys_may_be_left_out() -> None:
    limit = usage_of(keys="off")
    assert (limit.busiest, limit.top_refused, limit.allowed) == ((), (), 15)


def test_keys_are_hashed_under_the_shared_secret() -> None:
    one, other = usage_of(keys="hashed", stable_keys=b"s" * 16), usage_of(keys="hashed")
    assert {len(of.key) for of in one.busiest} == {17}
    assert {of.key for of in one.busiest}.isdisjoint({of.key for of in other.busiest})


def test_unknown_value_of_keys_is_refused() -> None:
    with pytest.raises(UsageError, match="keys is 'plain', 'full', 'hashed' or 'off', not 'raw'"):
        Agent.from_policies(POLICIES, keys="raw")  # type: ignore[arg-type]


# Records ----------------------------------------------------------------------------------------


def busy_limit(number: int, chance: random.Random) -> Any:
    keys = ["".join(chance.choices(string.printable, k=100)) for _ in range(20)]
    return counted(
        f"l{number}",
        allowed=10_000 - number,
        top_refused=tuple((key, chance.randrange(10**6)) for key in keys),
        busiest=tuple(KeyTraffic(key, chance.randrange(10**6), 5, chance.random()) for key in keys),
    )


@pytest.mark.parametrize("limits", [0, 1, 50, 2_000])
def test_records_stay_small_whatever_they_hold(limits: int) -> None:
    """Keys that hardly compress: the least active limits lose theirs first."""
    chance = random.Random(limits)
    record = GivenMeter().record(5.0, *(busy_limit(number, chance) for number in range(limits)))
    data = record.encode()
    assert len(data) <= 64 * 1024
    assert UsageRecord.decode(data) == record
    assert len(record.limits) + record.omitted == limits
    assert len(record.limits) >= min(limits, 300)
    detailed = [bool(limit.busiest) for limit in record.limits]
    assert detailed == sorted(detailed, reverse=True)
    assert not limits or detailed[0]


def test_rates_and_trend_by_minutes() -> None:
    meter = GivenMeter()
    meter.usage(0.5, counted("x", allowed=0, lowest=None))
    for at, allowed in ((10.0, 100), (61.0, 160), (125.0, 160), (130.0, 170)):
        record = meter.record(at, counted("x", allowed=allowed, refused=allowed // 10))
    (limit,) = record.limits
    assert limit.rates == [2.2, round(11 / 69, 3), round(187 / 130, 3)]
    assert limit.refused_rates[0] == 0.2
    assert [minute[:2] for minute in limit.trend[-4:]] == [(0, 0), (100, 10), (60, 6), (10, 1)]
    assert len(limit.trend) == 15
