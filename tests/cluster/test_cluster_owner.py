"""The owner's side, message by message: repeated, late, old and dishonest ones."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from cluster.small_cluster import KEYED, ONE, TIMING, SmallCluster, limits
from ratectl.cluster.protocol.capacity import GRAINS, WHOLE, Size
from ratectl.cluster.protocol.messages import (
    Close,
    Closed,
    Drawn,
    Granted,
    Lending,
    Open,
    OwnerId,
    Poll,
    PoolId,
    Reply,
    ToMember,
    Unknown,
    Welcome,
)
from ratectl.cluster.protocol.owner import Owner
from ratectl.cluster.protocol.timing import MILLISECOND as MS
from ratectl.cluster.protocol.timing import SECOND

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratectl.cluster.protocol.pool import Pool

ID = OwnerId("o", 1)
SIZES = limits(1_000, 100)
HALF = WHOLE // 2
FULL = {name: Lending(50 * GRAINS, {}) for name in SIZES}


class Peer:
    """A member that says what a test wants it to say."""

    def __init__(self, owner: Owner, name: str, session: int = 1) -> None:
        self.owner = owner
        self.name = name
        self.session = session
        self.number = self.echo = 0
        self.draws: dict[PoolId, int] = {}

    def open(self, now: int) -> list[ToMember]:
        answers = self.owner.receive(Open(self.name, self.session, "o"), now)
        for answer in answers:
            assert isinstance(answer, Welcome)
            self.echo = answer.reply
        return answers

    def poll(
        self,
        *drawn: Drawn,
        share: int = HALF,
        sizes: Mapping[str, Size] | None = SIZES,
        lending: Mapping[str, Lending] = FULL,
    ) -> Poll:
        self.number += 1
        args = (self.name, self.session, ID, self.number, self.echo, share, sizes, lending, drawn)
        return Poll(*args)

    def send(self, now: int, *drawn: Drawn, **changes: object) -> dict[PoolId, Granted]:
        return self.sent(self.poll(*drawn, **changes), now)  # type: ignore[arg-type]

    def sent(self, poll: Poll, now: int) -> dict[PoolId, Granted]:
        (answer,) = self.owner.receive(poll, now)
        assert isinstance(answer, Reply)
        self.echo = answer.number
        return {granted.pool: granted for granted in answer.granted}


def drawn(
    want: int, *, spent: int = 0, returned: int = 0, least: int = 0, draw: int = 1,
    pool: PoolId = ONE,
) -> Drawn:  # fmt: skip
    return Drawn(pool, draw, spent, 0, returned, want, least)


def new_owner(**options: object) -> Owner:
    return Owner(ID, TIMING, 0, lambda member: HALF, **options)  # type: ignore[arg-type]


def lending_peer(owner: Owner, name: str, now: int = 0, **changes: object) -> Peer:
    peer = Peer(owner, name)
    peer.open(now)
    peer.send(now, **changes)
    return peer


def pool_of(owner: Owner, name: PoolId = ONE) -> Pool:
    return owner.limits[name.limit].pools[name.key]


def test_repeated_and_overtaken_polls_change_nothing() -> None:
    owner = new_owner()
    peer = lending_peer(owner, "m0")
    first, second = peer.poll(drawn(10)), peer.poll(drawn(10, spent=4, returned=6))
    assert peer.sent(second, MS)[ONE].granted == 10  # nothing was granted: nothing comes back
    before = (pool_of(owner).level, pool_of(owner).held)
    for poll in (first, second, second):
        assert owner.receive(poll, MS) == []
    assert (pool_of(owner).level, pool_of(owner).held) == before
    assert before[0] + before[1] * GRAINS == 50 * GRAINS


def test_tokens_are_brought_once() -> None:
    owner = new_owner()
    peer = lending_peer(owner, "m0")
    peer.send(MS, drawn(50))
    assert pool_of(owner).held == 50
    for _ in range(3):
        peer.send(MS, drawn(50, spent=50))
    assert pool_of(owner).level == 0
    # Not after a lapse either.
    later = 2 * TIMING.lend_for
    for now in range(MS, later, 10 * MS):
        peer.echo = 1
        peer.send(now, drawn(0, spent=50))
    assert owner.limits["one"].lent.capacity == 0
    welcome = owner.sessions["m0"].replies[-1][0]
    peer.echo = welcome
    peer.send(later, drawn(0, spent=50))
    assert owner.limits["one"].lent.capacity == 50 * GRAINS
    assert pool_of(owner).level == 30 * GRAINS  # what had accrued until the lapse


def test_old_session_gets_nothing_and_a_new_one_voids_it() -> None:
    owner = new_owner()
    old = lending_peer(owner, "m0")
    old.send(0, drawn(20))
    new = Peer(owner, "m0", session=2)
    new.open(MS)
    late = old.poll(drawn(20, returned=20))
    new.send(MS, drawn(0), lending={})
    assert pool_of(owner).held == 0
    assert pool_of(owner).level <= 31 * GRAINS  # what it held counts as spent
    assert owner.receive(late, MS) == [Unknown("m0", 1, ID)]
    assert old.open(MS) == []
    assert pool_of(owner).level <= 31 * GRAINS


def test_silent_session_is_void_and_nothing_revives_it() -> None:
    owner = new_owner()
    peer = lending_peer(owner, "m0")
    peer.send(0, drawn(20))
    end = TIMING.void_after
    owner.tick(end - 1)
    assert "m0" in owner.sessions
    owner.tick(end)
    assert not owner.sessions
    assert owner.receive(peer.poll(drawn(20, returned=20)), end) == [Unknown("m0", 1, ID)]
    assert peer.open(end) == []
    assert pool_of(owner).level == 0


def test_poll_that_echoes_an_old_welcome_begins_nothing() -> None:
    owner = new_owner()
    peer = Peer(owner, "m0")
    peer.open(0)
    poll = peer.poll()
    assert owner.receive(poll, TIMING.lend_for) == [Unknown("m0", 1, ID)]
    assert not owner.sessions


def test_close_that_overtakes_the_first_poll_refuses_it() -> None:
    owner = new_owner()
    peer = Peer(owner, "m0")
    peer.open(0)
    poll = peer.poll()
    assert owner.receive(Close("m0", 1, ID), MS) == [Closed("m0", 1, ID, {})]
    assert owner.receive(poll, 2 * MS) == [Unknown("m0", 1, ID)]
    assert owner.receive(Close("m0", 1, OwnerId("o", 2)), MS) == [Unknown("m0", 1, OwnerId("o", 2))]


def test_close_is_answered_when_tokens_of_the_share_are_spent() -> None:
    owner = new_owner()
    m0, m1 = lending_peer(owner, "m0"), lending_peer(owner, "m1")
    assert m0.send(0, drawn(80))[ONE].granted == 80
    assert owner.receive(Close("m1", 1, ID), MS) == []
    assert m0.send(2 * MS, drawn(80))[ONE].hold == 50
    assert owner.receive(Close("m1", 1, ID), 3 * MS) == []
    m0.send(4 * MS, drawn(80, spent=30))
    (closed,) = owner.receive(Close("m1", 1, ID), 5 * MS)
    assert isinstance(closed, Closed)
    assert closed.lending["one"].touched == {"": 20 * GRAINS}  # all that was left
    del m1


def test_close_is_answered_though_a_member_holds_too_much_and_is_silent() -> None:
    owner = new_owner()
    m0 = lending_peer(owner, "m0")
    lending_peer(owner, "m1")
    m0.send(0, drawn(80))
    owner.receive(Close("m1", 1, ID), MS)
    (closed,) = owner.receive(Close("m1", 1, ID), TIMING.void_after)
    assert isinstance(closed, Closed)
    assert closed.lending["one"].touched == {"": 20 * GRAINS}


def test_session_that_starts_during_a_recall_ends_it() -> None:
    owner = new_owner()
    m0 = lending_peer(owner, "m0")
    lending_peer(owner, "m1")
    m0.send(0, drawn(80))
    owner.receive(Close("m1", 1, ID), MS)
    assert pool_of(owner).recalling
    lending_peer(owner, "m2", 2 * MS, lending={})
    assert not pool_of(owner).recalling
    assert pool_of(owner).accounts["m0"].hold is None
    assert pool_of(owner).level + 80 * GRAINS <= 100 * GRAINS


def test_time_never_runs_backwards() -> None:
    """Two threads read their clocks, and came in the other order: a key was filled twice."""
    owner = new_owner()
    peer = lending_peer(owner, "m0", lending={})
    peer.send(50 * MS, drawn(0, pool=PoolId("keyed", "b")))
    peer.send(10 * MS, drawn(1, pool=KEYED))
    peer.send(50 * MS, drawn(1, pool=KEYED))
    pool = pool_of(owner, KEYED)
    assert pool.level + pool.held * GRAINS <= 25 * GRAINS


# Memory -------------------------------------------------------------------------------------------


def test_thousands_of_opens_without_a_poll_are_forgotten() -> None:
    owner = new_owner()
    for i in range(3_000):
        owner.receive(Open(f"m{i}", 1, "o"), 0)
        owner.receive(Open("same", 1, "o"), 0)
        owner.receive(Open("grows", i + 1, "o"), 0)
        owner.receive(Close(f"nobody{i}", 1, ID), 0)
    assert len(owner._openings._opened["same"][1]) <= 1_024
    owner.tick(2 * SECOND)
    assert not owner._openings._opened
    assert not owner._openings._ended
    # It may open as ever.
    lending_peer(owner, "same", 2 * SECOND)
    assert "same" in owner.sessions


def test_session_that_ended_long_ago_is_forgotten_and_stays_ended() -> None:
    owner = new_owner()
    peer = lending_peer(owner, "m0")
    peer.send(0, drawn(20))
    late = peer.poll(drawn(0, returned=20))
    owner.tick(2 * SECOND)
    assert not owner._openings._opened
    assert not owner._openings._ended
    assert owner.receive(late, 2 * SECOND) == [Unknown("m0", 1, ID)]
    # An OPEN on a long way is answered, and the late poll echoes another answer than that.
    assert owner.receive(Open("m0", 1, "o"), 2 * SECOND) != []
    assert owner.receive(late, 2 * SECOND) == [Unknown("m0", 1, ID)]


def test_pools_of_one_member_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ratectl.cluster.protocol.owner._POOLS_PER_MEMBER", 100)
    owner = new_owner()
    peer = lending_peer(owner, "m0")
    peer.send(0, *(drawn(1, pool=PoolId("keyed", f"k{i}")) for i in range(1_000)))
    assert len(owner.limits["keyed"].pools) == 100
    assert peer.send(0, drawn(2, pool=PoolId("keyed", "k7")))[PoolId("keyed", "k7")].granted == 2


def test_limits_that_nobody_lends_are_forgotten() -> None:
    owner = new_owner()
    peer = lending_peer(owner, "m0")
    for i in range(500):
        peer.send(0, drawn(1, pool=PoolId(f"l{i}", "a")), drawn(0, pool=PoolId(f"k{i}", "a")))
    owner.tick(SECOND)  # the member is silent: its session is over
    owner.tick(2 * SECOND + 1)
    owner.tick(3 * SECOND + 2)
    assert not owner.limits
    assert not owner._waiting
    lending_peer(owner, "m1", 4 * SECOND)
    assert owner.limits.keys() == SIZES.keys()


def test_limit_that_is_removed_and_added_again_begins_empty() -> None:
    owner = new_owner()
    peer = lending_peer(owner, "m0")
    peer.send(0, drawn(20))
    granted = peer.send(MS, sizes={})
    assert granted[ONE].hold == 0
    peer.send(2 * MS, drawn(20, spent=20))
    assert pool_of(owner).held == 0
    peer.send(3 * MS, sizes=SIZES)
    pool = pool_of(owner)
    assert pool.level == 0
    peer.send(13 * MS, drawn(20, spent=20))
    assert pool.held == 5


# Liars --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [HALF + 1, WHOLE, 10**30, -1])
def test_share_is_bounded_by_the_roster(share: int) -> None:
    owner = new_owner()
    peer = lending_peer(owner, "liar", share=share)
    peer.send(MS, share=share)
    assert 0 <= owner.limits["one"].lent.capacity <= 50 * GRAINS
    assert 0 <= owner.limits["one"].lent.rate <= SIZES["one"].rate * HALF


@pytest.mark.parametrize("grains", [10**300, -(10**300)], ids=["huge", "negative"])
def test_brought_tokens_are_at_most_the_share_of_the_burst(grains: int) -> None:
    owner = new_owner()
    lending_peer(owner, "m1")
    lending_peer(owner, "m2", lending={})
    liar = Lending(grains, {"a": grains})
    lending_peer(owner, "liar", lending={"one": liar, "keyed": liar})
    for name in (ONE, KEYED):
        level = owner.limits[name.limit].pool(name.key, 0).level
        assert level == 50 * GRAINS + (50 * GRAINS if grains > 0 else 0)


def test_member_that_wants_everything_gets_no_more_than_there_is() -> None:
    owner = new_owner()
    liar, other = lending_peer(owner, "liar"), lending_peer(owner, "m1")
    assert liar.send(0, drawn(10**300, least=10**300))[ONE].granted == 100
    other.send(0, drawn(1))
    assert pool_of(owner).level == 0
    # What it says it spent is at most what it had; its wish blocks nobody.
    liar.send(10 * MS, drawn(10**300, spent=10**300, least=10**300))
    for now in range(10, 20):
        owner.tick(now * MS)
    assert pool_of(owner).accounts["m1"].granted == 1
    assert pool_of(owner).held <= 20


# Both sides ---------------------------------------------------------------------------------------


def test_tokens_of_keys_that_are_asked_for_at_times_are_never_lost() -> None:
    """Grants crossed the end of the interest: the pool of the key was smaller and smaller."""
    cluster = SmallCluster(3, rate=200, burst=6, delay=5 * MS)
    cluster.run(100 * MS)
    for round_ in range(40):
        cluster.run(
            37 * MS, lambda step, r=round_: step < 15 and cluster.ask((r + step) % 3, KEYED)
        )
    cluster.run(1_000 * MS)
    assert cluster.tokens(KEYED) >= 5.9


@pytest.mark.parametrize("seed", [*range(12), 78])
def test_both_sides_agree_when_the_messages_have_arrived(seed: int) -> None:
    """The wallets have the tokens that the owner takes for held, whatever was lost or late."""
    rnd = random.Random(seed)
    cluster = SmallCluster(3, rate=400, burst=rnd.choice([6, 20, 60]), loss=rnd)
    for _ in range(12):
        cluster.run(rnd.randrange(90) * MS)
        busy = rnd.sample(range(3), rnd.randint(1, 3))
        cost = rnd.choice([1, 1, 1, 5])
        cluster.run(
            rnd.randrange(60) * MS,
            lambda step, busy=busy, cost=cost: [cluster.ask(i, KEYED, cost) for i in busy],  # type: ignore[misc]
        )
    cluster.loss = None
    cluster.run(800 * MS)
    for name in (ONE, KEYED):
        pool = cluster.owner.limits[name.limit].pool(name.key, cluster.now)
        assert pool.held == sum(wallets.live(name, cluster.now) for wallets in cluster.wallets)
        assert pool.held == sum(account.held for account in pool.accounts.values())
        assert cluster.tokens(name) >= cluster.sizes[name.limit].burst - 0.1
