"""Lies of one member hurt nobody else. ``make fuzz`` tells more of them."""

import pytest
from liar import damage, lie

from soak import scaled


@pytest.mark.parametrize("seed", range(scaled(5, 60)))
def test_a_member_that_lies_hurts_its_own_share_only(seed: int) -> None:
    while_it_lied, after = lie(seed)
    assert while_it_lied > 0.95
    assert after > 0.95


@pytest.mark.parametrize("seed", range(5))
def test_damaged_frames_are_refused_or_are_messages(seed: int) -> None:
    assert damage(seed, 300) > 0
