"""Answers about more keys than one message tells of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.test_cluster_owner import ID, drawn, lending_peer, new_owner
from ratectl.cluster.protocol import owner as owners
from ratectl.cluster.protocol.messages import Close, PoolId, Reply
from ratectl.cluster.protocol.timing import MILLISECOND as MS

if TYPE_CHECKING:
    import pytest

KEYS = [PoolId("keyed", key) for key in "abcde"]


def test_an_answer_that_leaves_out_recalled_tokens_prolongs_no_lease(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A member spent on in wallets that it was to empty, as its lease went on."""
    owner = new_owner()
    m0 = lending_peer(owner, "m0")
    lending_peer(owner, "m1")
    m0.send(0, *[drawn(80, pool=pool) for pool in KEYS])
    owner.receive(Close("m1", 1, ID), MS)  # half of the capacity is gone
    monkeypatch.setattr(owners, "MOST_GRANTED", 2)
    told: list[PoolId] = []
    answered = []
    for step in range(3):
        poll = m0.poll()
        (answer,) = owner.receive(poll, (2 + step) * MS)
        assert isinstance(answer, Reply)
        m0.echo = answer.number
        told += [granted.pool for granted in answer.granted if granted.hold == 50]
        answered.append(answer.poll == poll.number)
    assert set(told) == set(KEYS)
    assert answered == [False, False, True]
