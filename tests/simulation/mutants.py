"""Faulty protocols, each wrong in one place. The simulation must find every one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ratectl.cluster.protocol.capacity import GRAINS
from ratectl.cluster.protocol.draw import Draw
from ratectl.cluster.protocol.lender import Lender
from ratectl.cluster.protocol.membership import Membership, Reaper
from ratectl.cluster.protocol.messages import Lending
from ratectl.cluster.protocol.owner import Owner
from ratectl.cluster.protocol.pool import Account, LentLimit, Pool
from ratectl.cluster.protocol.timing import FOREVER, Timing
from simulation.buckets import DictWallets
from simulation.world import Parts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pytest

    from ratectl.cluster.protocol.messages import Close, Drawn, Granted, OwnerId, Poll


# Members ------------------------------------------------------------------------------------------


class SpendsAfterExpiry(DictWallets):
    def usable(self, now: int) -> bool:
        return True


class LeaseFromReceipt(Lender):
    def _lease_from(self, sent: int, now: int) -> int:
        return now + self._timing.lease


class LendsToAnyOwner(Lender):
    def _may_lend_to(self, owner: OwnerId, now: int) -> bool:
        return True

    def _may_lend_to_name(self, owner: str) -> bool:
        return True


class ResumesEarly(Timing):
    @property
    def resume_after(self) -> int:
        return self.lease


class ResumesWithoutTokensLost(Timing):
    """Waits until the owner does not count the share any more, not until its tokens are spent."""

    @property
    def resume_after(self) -> int:
        return self.stretched(self.lend_for)


class DeltaDraw(Draw):
    """Adds what each reply says, instead of the difference to the total."""

    def grant(self, granted: Granted) -> int:
        before = self._granted
        self._granted = max(before, granted.granted)
        return granted.granted - before if granted.granted > before else granted.granted // 2


class RevivesTokens(Lender):
    """Prolongs a lease that has ended: tokens that count as spent can be spent again."""

    def tick(self, now: int, owner: str | None) -> Any:
        deadline, self._wallets.deadline = self._wallets.deadline, FOREVER
        try:
            return super().tick(now, owner)
        finally:
            if self._wallets.deadline == FOREVER:
                self._wallets.deadline = deadline

    def _reply(self, message: Any, now: int) -> Any:
        if self.session is not None and now >= self._wallets.deadline:
            self._wallets.deadline = now + 1
        return super()._reply(message, now)


class KeepsShareAfterEntry(Membership):
    @property
    def lend_until(self) -> int:
        return FOREVER

    def renewed(self, sent: int) -> None:
        self.use_until = FOREVER


class RenewsFromReceipt(Membership):
    """Counts its entry from the time of the answer, not of the request."""

    clock: Callable[[], int]

    def renewed(self, sent: int) -> None:
        self.use_until = max(self.use_until, self.clock() + self._lasts)


class BringsAgain(Lender):
    """Brings the same tokens with every session."""

    def _brought(self, owner: OwnerId, now: int) -> Mapping[str, Lending] | None:
        if not self.lent:
            self._before = super()._brought(owner, now)
        return self._before if hasattr(self, "_before") else {}


class ClosesWithoutAnswer(Lender):
    def close(self, now: int) -> Any:
        messages = super().close(now)
        if messages:
            self._resume_at = now
        return messages


class ClosesWithTokens(Lender):
    """Keeps the tokens that it holds when it takes its share back."""

    def close(self, now: int) -> Any:
        deadline = self._wallets.deadline
        held = (
            {}
            if self.session is None
            else {p: self._wallets.read(p).tokens for p in self.session.draws}
        )
        messages = super().close(now)
        for pool, tokens in held.items():
            self._wallets.add(pool, tokens)
        self._wallets.deadline = deadline
        return messages


class GivesBeforeTheAnswer(Lender):
    """Gives a part of its share away that the owner still counts."""

    def set_share(self, share: int) -> None:
        super().set_share(share)
        self.counted = share


class IgnoresHold(Lender):
    def _granted(self, session: Any, granted: Granted) -> None:
        super()._granted(session, granted._replace(hold=None))


# Owners -------------------------------------------------------------------------------------------


class VoidsEarly(Timing):
    @property
    def void_after(self) -> int:
        return self.lease // 4


class LendsFromReceipt(Owner):
    def _lent_at(self, session: Any, poll: Poll, now: int) -> int | None:
        return now


class RevivesSessions(Owner):
    def _is_over(self, message: Poll | Close) -> bool:
        return False

    def _begin(self, poll: Poll, old: Any, now: int) -> Any:
        opened = self._openings._opened
        opened.setdefault(poll.member, (poll.session, __import__("collections").deque()))
        number, replies = opened[poll.member]
        if number >= poll.session:
            replies.append((poll.echo, now))
            opened[poll.member] = (poll.session, replies)
        return super()._begin(poll, old, now)


class ClosesAtOnce(Owner):
    """Says that it has nothing of a share, while tokens of it are still out."""

    def _recalls(self) -> bool:
        return False


class TrustsMembers(Owner):
    def _lend(self, session: Any, poll: Poll, now: int) -> None:
        share_of, self._share_of = self._share_of, lambda member: 10**6
        super()._lend(session, poll, now)
        self._share_of = share_of


class ReaperEarly(Reaper):
    def __init__(self, lasts: int, timing: Timing) -> None:
        super().__init__(lasts // 4, timing)


# Pools --------------------------------------------------------------------------------------------


def stock_not_counted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Pool, "room", lambda self, lent: lent.capacity)


def no_recall(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Pool, "recall", lambda self, lent: None)


def returns_twice(patch: pytest.MonkeyPatch) -> None:
    def report(self: Account, drawn: Drawn) -> int:
        self.spent = max(self.spent, drawn.spent)
        self.voided = max(self.voided, drawn.voided)
        self.returned = max(self.returned, drawn.returned)
        return drawn.returned

    patch.setattr(Account, "report", report)


def void_tokens_are_free(patch: pytest.MonkeyPatch) -> None:
    void = Pool.void

    def void_and_credit(self: Pool, member: str, lent: Any) -> None:
        self.level += self.accounts[member].held * GRAINS
        void(self, member, lent)

    patch.setattr(Pool, "void", void_and_credit)


def untouched_pool_is_full(patch: pytest.MonkeyPatch) -> None:
    """Takes a key that it has not heard of for one that nobody has used."""
    pool = LentLimit.pool

    def full(self: LentLimit, key: str, now: int) -> Pool:
        is_new = key not in self.pools
        found = pool(self, key, now)
        if is_new:
            found.level = self.lent.capacity
        return found

    patch.setattr(LentLimit, "pool", full)


def brings_without_touched(patch: pytest.MonkeyPatch) -> None:
    lend = LentLimit.lend

    def lend_all(self: LentLimit, size: Any, share: int, brought: Lending | None, now: int) -> None:
        lend(self, size, share, brought and brought._replace(touched={}), now)

    patch.setattr(LentLimit, "lend", lend_all)


def brings_every_time(patch: pytest.MonkeyPatch) -> None:
    lend = Owner._lend

    def again(self: Owner, session: Any, poll: Poll, now: int) -> None:
        if session.has_lent and poll.lending and session.lending:
            for name, size in session.sizes.items():
                self.limits[name].lend(size, session.share, poll.lending.get(name), now)
                self.limits[name].change(size, -session.share, now)
        lend(self, session, poll, now)

    patch.setattr(Owner, "_lend", again)


def resize_without_settling(patch: pytest.MonkeyPatch) -> None:
    """Counts the new rate from the time when the old one was counted last."""

    def change(self: LentLimit, size: Any, share: int, now: int, unused: int = 0) -> Lending:
        self.lent.add(size, share)
        for pool in self._all():
            pool.settle(now, self.lent)
            pool.recall(self.lent)
        return Lending(unused, {})

    patch.setattr(LentLimit, "change", change)


NAMED: Final[Mapping[str, Parts]] = {
    "spends after expiry": Parts(wallets=SpendsAfterExpiry),
    "lease from receipt": Parts(lender=LeaseFromReceipt),
    "voids early": Parts(owner_timing=VoidsEarly),
    "resumes early": Parts(member_timing=ResumesEarly),
    "resumes while tokens are out": Parts(member_timing=ResumesWithoutTokensLost),
    "lends from receipt": Parts(owner=LendsFromReceipt),
    "lends to any owner": Parts(lender=LendsToAnyOwner),
    "resumes at start": Parts(resumes_at_start=True),
    "revives sessions": Parts(owner=RevivesSessions),
    "revives tokens": Parts(lender=RevivesTokens),
    "removes early": Parts(reaper=ReaperEarly),
    "keeps its share after its entry": Parts(membership=KeepsShareAfterEntry),
    "renews from receipt": Parts(membership=RenewsFromReceipt),
    "brings tokens again": Parts(lender=BringsAgain),
    "closes without an answer": Parts(lender=ClosesWithoutAnswer),
    "closes with tokens": Parts(lender=ClosesWithTokens),
    "answers a close at once": Parts(owner=ClosesAtOnce),
    "ignores a recall": Parts(lender=IgnoresHold),
    "gives at once": Parts(donates_at_once=True),
    "gives before the answer": Parts(lender=GivesBeforeTheAnswer),
}
PATCHED: Final = {
    function.__name__.replace("_", " "): function
    for function in (
        stock_not_counted, no_recall, returns_twice, void_tokens_are_free,
        untouched_pool_is_full, brings_without_touched, brings_every_time, resize_without_settling,
    )
}  # fmt: skip
