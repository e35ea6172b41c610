"""The protocol over real sockets: members lend their shares, draw tokens, and take shares back."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, cast

from link_support import unix

from ratectl.cluster.protocol.capacity import size_of
from ratectl.cluster.protocol.lender import Lender
from ratectl.cluster.protocol.messages import OwnerId, PoolId
from ratectl.cluster.protocol.owner import Owner
from ratectl.cluster.protocol.timing import SECOND, Timing
from ratectl.cluster.transport.links import Links
from simulation.buckets import DictWallets, OwnBuckets

if TYPE_CHECKING:
    from pathlib import Path

    from ratectl.cluster.protocol.messages import ToMember, ToOwner

TIMING = Timing(lease=30 * SECOND)  # a busy machine may pause the test
POOL = PoolId("limit", "")
BURST = 1_000


class Peer:
    """A member, its links and its wallets."""

    def __init__(self, name: str, share: int, stack: ExitStack) -> None:
        sizes = {"limit": size_of(1, 3_600 * SECOND, BURST, TIMING.drift)}
        self.links = stack.enter_context(Links(name, "env"))
        self.wallets = DictWallets()
        own = OwnBuckets(sizes, share, time.monotonic_ns(), full=True)
        self.lender = Lender(name, TIMING, self.wallets, own)
        self.lender.share = share
        self.lender.set_sizes(sizes, (POOL,))
        self.spent = 0


class Cluster:
    """Ten members and an owner."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.address = unix(folder)
        self.peers = [Peer(f"m{number}", 100_000, stack) for number in range(10)]
        self.links = stack.enter_context(Links("owner", "env", self.address))
        self.owner = Owner(OwnerId("0.owner", 1), TIMING, time.monotonic_ns(), lambda _: 100_000)
        self.hint: str | None = "0.owner"

    def turn(self) -> None:
        now = time.monotonic_ns()
        replies = self.owner.tick(now)
        for _, message in self.links.poll(0.001):
            replies += self.owner.receive(cast("ToOwner", message), now)
        for reply in replies:
            self.links.reply(reply.member, reply)
        for peer in self.peers:
            answers: list[ToOwner] = []
            for _, message in peer.links.poll(0):
                answers += peer.lender.receive(cast("ToMember", message), now)
            self.send(peer, answers + peer.lender.tick(now, self.hint))

    def send(self, peer: Peer, messages: list[ToOwner]) -> None:
        for message in messages:
            peer.links.send(self.address, message)


def test_one_member_draws_the_tokens_of_all(tmp_path: Path) -> None:
    with ExitStack() as stack:
        cluster = Cluster(tmp_path, stack)
        hot, end = cluster.peers[0], time.monotonic() + 60
        while len(cluster.owner.sessions) < 10 or hot.spent < 600:
            assert time.monotonic() < end, (len(cluster.owner.sessions), hot.spent)
            cluster.turn()
            hot.spent += hot.wallets.spend(POOL, 1, time.monotonic_ns())
        assert hot.spent <= BURST + 1  # its own share is 100 tokens
        cluster.hint = None
        for peer in cluster.peers:
            cluster.send(peer, peer.lender.close(time.monotonic_ns()))
        while any(peer.lender.lent for peer in cluster.peers):
            assert time.monotonic() < end
            cluster.turn()
        assert cluster.owner.sessions == {}
        for links in (cluster.links, *(peer.links for peer in cluster.peers)):
            assert links.counters.refused == links.counters.lost == links.counters.dropped == 0
