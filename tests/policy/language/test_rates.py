"""Written forms of rates, and their order."""

from __future__ import annotations

import contextlib
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratectl.policy.language.rates import MAX_COUNT, NS, UNIT_NS, Rate


@pytest.mark.parametrize(
    ("text", "per_second", "window_s", "shown"),
    [
        ("100/s", 100, 1, "100/s"),
        ("0/s", 0, 1, "0/s"),
        ("0.0/s", 0, 1, "0/s"),
        ("3/s", 3, 1, "3/s"),
        ("0.5/s", Fraction(1, 2), 1, "0.5/s"),
        ("2.50/min", Fraction(1, 24), 60, "2.5/min"),
        ("50/30s", Fraction(5, 3), 30, "50/30s"),
        ("60/min", 1, 60, "60/min"),
        ("1_500/min", 25, 60, "1500/min"),
        ("500_000/day", Fraction(500_000, 86_400), 86_400, "500000/day"),
        ("1/2h", Fraction(1, 7200), 7200, "1/2h"),
        ("7/week", Fraction(1, 86_400), 604_800, "7/week"),
        ("100 / s", 100, 1, "100/s"),
        (" 100/s ", 100, 1, "100/s"),
        ("5/second", 5, 1, "5/s"),
        ("5/minutes", Fraction(1, 12), 60, "5/min"),
        ("5/d", Fraction(5, 86_400), 86_400, "5/day"),
        ("1000000000/s", 10**9, 1, "1000000000/s"),
        ("0.000000001/s", Fraction(1, 10**9), 1, "0.000000001/s"),
        ("007/s", 7, 1, "7/s"),
    ],
)
def test_good_rates(text: str, per_second: Fraction, window_s: int, shown: str) -> None:
    rate = Rate.parse(text)
    assert rate.per_second == per_second
    assert rate.window_ns == window_s * NS
    assert str(rate) == shown
    assert Rate.parse(rate) is rate


def test_a_month_has_no_fixed_length() -> None:
    rate = Rate.parse("28/month")
    assert rate.window_ns is None
    assert rate.per_second == Fraction(1, 86_400)


def test_unlimited() -> None:
    rate = Rate.parse("unlimited")
    assert (rate.per_second, rate.window_ns, rate.count) == (None, None, None)
    assert str(rate) == "unlimited"


@pytest.mark.parametrize(("text", "count"), [("5/s", 5), ("0.5/s", None), ("1.0/min", 1)])
def test_count(text: str, count: int | None) -> None:
    assert Rate.parse(text).count == count


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (100, "a rate needs a duration: write 100/s, 100/min, …"),
        (0.5, "a rate needs a duration: write 0.5/s, 0.5/min, …"),
        (True, "a rate is written like 100/s, not bool"),
        (None, "a rate is written like 100/s, not NoneType"),
        ([], "a rate is written like 100/s, not list"),
        ("", "'' is not a rate: write <number>/<duration>, like 100/s"),
        ("100", "'100' is not a rate: write <number>/<duration>, like 100/s"),
        ("/s", "'/s' is not a rate: write <number>/<duration>, like 100/s"),
        ("1_/s", "'1_/s' is not a rate: write 1/s"),
        ("1__000/s", "'1__000/s' is not a rate: write 1_000/s"),
        ("1_.5/s", "'1_.5/s' is not a rate: write 1.5/s"),
        ("-1/s", "'-1/s' is not a rate: write <number>/<duration>, like 100/s"),
        ("1e3/s", "'1e3/s' is not a rate: write <number>/<duration>, like 100/s"),
        (".5/s", "'.5/s' is not a rate: write <number>/<duration>, like 100/s"),
        ("1./s", "'1./s' is not a rate: write <number>/<duration>, like 100/s"),
        ("1/0s", "'1/0s' is not a rate: write <number>/<duration>, like 100/s"),
        ("1/s/s", "'1/s/s' is not a rate: write <number>/<duration>, like 100/s"),
        ("inf/s", "'inf/s' is not a rate: write <number>/<duration>, like 100/s"),
        ("٣/s", "'٣/s' is not a rate: write <number>/<duration>, like 100/s"),
        ("Unlimited", "'Unlimited' is not a rate: write <number>/<duration>, like 100/s"),
        ("1\n/s", "'1\\n/s' is not a rate: write 1/s"),
        ("100 per second", "'100 per second' is not a rate: write 100/s"),
        ("100 requests per minute", "is not a rate: write 100/min"),
        ("20rps", "'20rps' is not a rate: write 20/s"),
        ("5k/s", "'5k/s' is not a rate: write 5000/s"),
        ("1,000/h", "'1,000/h' is not a rate: write 1_000/h"),
        ("7 per fortnight", "is not a rate: write <number>/<duration>, like 100/s"),
        ("5/m", "'m' could be a minute or a month: write 5/min or 5/month"),
        ("5/ms", "the smallest duration is a second: 100/ms is 100000/s"),
        ("5/year", "unknown duration 'year': use s, min, h, day, week or month"),
        ("5/S", "unknown duration 'S': write 5/s"),
        ("5/2month", "a rate cannot count several months: write <number>/month"),
        ("1000000001/s", "'1000000001/s' is out of range: at most 1000000000000 per duration"),
        ("1000000000001/day", "'1000000000001/day' is out of range"),
        ("1/1000001s", "'1/1000001s' is out of range"),
        ("1/99999999s", "'1/99999999s' is out of range"),
        ("9" * 17 + "/day", "is out of range"),
        ("9" * 100_000 + "/day", "is not a rate"),
        ("1" + "_" * 100_000 + "/s", "is not a rate"),
    ],
)
def test_bad_rates(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=r".") as raised:
        Rate.parse(value)
    assert message in str(raised.value)
    assert len(str(raised.value)) < 200


def written() -> st.SearchStrategy[str]:
    """Return a strategy for written rates; some are out of range."""
    number = st.integers(0, MAX_COUNT).map(str) | st.decimals(0, 10**6, places=4).map(str)
    window = st.sampled_from([*UNIT_NS, *(f"{n}{unit}" for unit in UNIT_NS for n in (2, 30, 999))])
    return st.builds("{}/{}".format, number, window | st.just("month"))


def rates() -> st.SearchStrategy[Rate]:
    def parsed(text: str) -> Rate | None:
        try:
            return Rate.parse(text)
        except ValueError:
            return None

    return st.just(Rate.parse("unlimited")) | written().map(parsed).filter(bool)  # type: ignore[arg-type]


@given(rates())
def test_a_shown_rate_parses_to_the_same_rate(rate: Rate) -> None:
    assert Rate.parse(str(rate)) == rate


@given(rates(), rates(), rates())
def test_exceeds_is_a_strict_order(a: Rate, b: Rate, c: Rate) -> None:
    assert not a.exceeds(a)
    assert not (a.exceeds(b) and b.exceeds(a))
    assert not (a.exceeds(b) and b.exceeds(c)) or a.exceeds(c)
    # and a weak one: if neither exceeds the other, the pace is the same
    assert (a.exceeds(b) or b.exceeds(a)) == (a.per_second != b.per_second)


@given(st.text(max_size=30))
def test_any_text_is_a_rate_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert Rate.parse(text).numerator >= 0


@pytest.mark.parametrize(
    ("faster", "slower"),
    [("unlimited", "1000000000/s"), ("61/min", "1/s"), ("1/s", "59/min"), ("1/s", "0/s")],
)
def test_exceeds(faster: str, slower: str) -> None:
    assert Rate.parse(faster).exceeds(Rate.parse(slower))
    assert not Rate.parse(slower).exceeds(Rate.parse(faster))


def test_the_same_pace_in_other_units_does_not_exceed() -> None:
    assert not Rate.parse("60/min").exceeds(Rate.parse("1/s"))
    assert Rate.parse("60/min") != Rate.parse("1/s")
