"""Laws of donations: shares become equal, and nothing is lost or made."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratectl.cluster.donation import Donation, donation
from ratectl.cluster.protocol.capacity import WHOLE
from ratectl.records import WHOLE_SHARE

NAMES = [f"m{number:02}" for number in range(40)]


@st.composite
def rosters(draw: st.DrawFn) -> dict[str, int]:
    """Shares of up to 40 members, whose sum is the whole or less."""
    count = draw(st.integers(1, len(NAMES)))
    weights = draw(st.lists(st.integers(0, 1_000), min_size=count, max_size=count))
    total = draw(st.sampled_from([WHOLE, WHOLE, WHOLE - 7, count, 3, 0]))
    shares = [total * weight // max(1, sum(weights)) for weight in weights]
    return dict(zip(NAMES, shares, strict=False))


def gifts(shares: dict[str, int]) -> dict[str, Donation]:
    return {me: gift for me in shares if (gift := donation(shares, me)) is not None}


def give(shares: dict[str, int], me: str, gift: Donation) -> None:
    shares[me] -= gift.part
    shares[gift.to] += gift.part


def test_both_packages_agree_on_the_whole() -> None:
    assert WHOLE_SHARE == WHOLE


@pytest.mark.parametrize(
    ("shares", "me", "expected"),
    [
        ({"a": WHOLE, "b": 0}, "a", Donation("b", WHOLE // 2)),
        ({"a": WHOLE, "b": 0}, "b", None),
        ({"a": WHOLE, "b": 0, "c": 0}, "a", Donation("b", WHOLE // 3)),
        ({"a": 400_000, "b": 400_000, "c": 200_000, "d": 0}, "b", Donation("d", 150_000)),
        ({"a": 400_000, "b": 400_000, "c": 200_000, "d": 0}, "a", Donation("c", 50_000)),
        ({"a": 625_000, "b": 375_000}, "a", None),
        ({"a": 625_001, "b": 374_999}, "a", Donation("b", 125_001)),
        ({"a": WHOLE}, "a", None),
        ({"a": WHOLE}, "b", None),
        ({}, "a", None),
        (
            {"a": 250_000, "b": 250_000, "c": 250_000, "d": 250_000, "e": 0},
            "d",
            Donation("e", 50_000),
        ),
        ({"a": 225_000, "b": 225_000, "c": 225_000, "d": 225_000, "e": 100_000}, "d", None),
        ({"a": 0, "b": 0}, "a", None),
    ],
)
def test_donation(shares: dict[str, int], me: str, expected: Donation | None) -> None:
    assert donation(shares, me) == expected


@given(rosters())
def test_nobody_gives_more_than_it_has_or_gets_more_than_the_equal_share(
    shares: dict[str, int],
) -> None:
    equal = sum(shares.values()) // len(shares)
    for me, gift in gifts(shares).items():
        assert gift.to != me
        is_needed = any(2 * share < equal for share in shares.values())
        much = shares[me] * len(shares) * 4 > sum(shares.values()) * 5
        assert much or (is_needed and shares[me] > equal)
        assert 0 < gift.part <= shares[me] - equal
        assert shares[gift.to] + gift.part <= equal


@given(rosters())
def test_members_that_decide_at_once_give_to_different_members(shares: dict[str, int]) -> None:
    takers = [gift.to for gift in gifts(shares).values()]
    assert len(takers) == len(set(takers))
    assert not set(takers) & set(gifts(shares))


@given(rosters(), st.randoms(use_true_random=False), st.booleans())
def test_shares_converge_and_their_sum_stays(
    shares: dict[str, int], random: object, at_once: bool
) -> None:
    total, equal = sum(shares.values()), sum(shares.values()) // len(shares)
    rounds = 0
    while found := gifts(shares):
        chosen = list(found) if at_once else [random.choice(list(found))]  # type: ignore[attr-defined]
        before = sum(share != equal for share in shares.values())
        for me in chosen:
            give(shares, me, found[me])
        # Each gift makes the share of one of the two equal.
        assert sum(share != equal for share in shares.values()) <= before - len(chosen)
        rounds += 1
    assert rounds < len(NAMES)
    assert sum(shares.values()) == total
    assert min(shares.values()) >= 0
    above = [share for share in shares.values() if share * len(shares) * 4 > total * 5]
    assert not above or min(shares.values()) >= equal, "what is left is the rest of a division"
    assert all(share - equal < len(shares) for share in above)
