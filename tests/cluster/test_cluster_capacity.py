"""Rates, bursts and shares are exact."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from ratectl.cluster.protocol.capacity import GRAINS, WHOLE, Lent, Size, size_of

counts = st.integers(1, 10**9)
periods = st.integers(1, 366 * 86_400 * 10**9)
drifts = st.integers(0, 100_000)
sizes = st.tuples(st.integers(0, 10**20), st.integers(0, 10**12)).map(lambda size: Size(*size))
shares = st.integers(0, WHOLE)


@given(counts, periods, counts, drifts)
def test_size_is_at_most_one_nano_token_below_the_rate(
    tokens: int, period: int, burst: int, drift: int
) -> None:
    size = size_of(tokens, period, burst, drift)
    true = Fraction(tokens * 10**9, period) * 10**9  # nano-tokens for each second
    lowered = true / (1 + Fraction(drift, 10**6))
    assert size.burst == burst
    assert lowered - 1 < size.rate <= lowered
    # A clock that is fast by the whole drift admits no more than the true rate.
    assert size.rate * (1 + Fraction(drift, 10**6)) <= true


@given(st.lists(st.tuples(sizes, shares), max_size=8))
def test_lent_capacity_is_the_exact_sum(lent: list[tuple[Size, int]]) -> None:
    total = Lent()
    for size, share in lent:
        total.add(size, share)
    assert Fraction(total.capacity, GRAINS) == sum(
        size.burst * Fraction(share, WHOLE) for size, share in lent
    )
    # Grains for each nanosecond; a rate counts nano-tokens for each second.
    assert Fraction(total.rate * 10**9, GRAINS) == sum(
        size.rate * Fraction(1, 10**9) * Fraction(share, WHOLE) for size, share in lent
    )


@given(st.lists(st.tuples(sizes, shares), max_size=8), st.randoms(use_true_random=False))
def test_shares_taken_back_in_any_order_leave_nothing(lent: list[tuple[Size, int]], rnd) -> None:  # type: ignore[no-untyped-def]
    total = Lent()
    for size, share in lent:
        total.add(size, share)
    rnd.shuffle(lent)
    for size, share in lent:
        total.add(size, -share)
    assert (total.rate, total.capacity) == (0, 0)


@given(sizes, shares, st.integers(-(10**40), 10**40))
def test_level_of_a_bucket_is_between_empty_and_full(size: Size, share: int, grains: int) -> None:
    lent = Lent()
    lent.add(size, share)
    assert 0 <= lent.at_most(grains) <= lent.capacity
    assert lent.at_most(grains) == grains or not 0 <= grains <= lent.capacity


@given(st.integers(0, 50), shares, st.integers(0, 3), st.integers(0, 2))
def test_what_a_process_adds_or_keeps_is_taken_away_again(
    burst: int, share: int, added: int, kept: int
) -> None:
    size, lent = Size(7, burst, 0, added, kept), Lent()
    lent.add(size, share)
    beside = (added - size.kept_of(share)) * GRAINS if share else 0
    assert lent.capacity == burst * share * GRAINS // WHOLE + beside >= 0
    lent.add(size, -share)
    assert lent.capacity == lent.rate == 0
