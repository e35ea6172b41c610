"""An oracle for engines: the written rules, slowly and without shortcuts.

It shares no code with an engine. Nothing is ever evicted; every limit has its buckets from the
moment it is published; and a change of parameters migrates every bucket at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from engine.books import Book, Limit
from engine.rules import Slots, gravity

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from engine.books import Identity, Key
    from engine.rule_slots import Slot
    from engine.rules import Bucket, Wait

__all__ = ["Charge", "Limit", "Oracle", "Published", "Verdict"]

Published = dict[str, tuple[Limit, ...]]


class Verdict(NamedTuple):
    """The oracle's decision; the fields and their order are those of ``Decision``."""

    allowed: bool
    reason: str
    generation: int
    limit: str | None = None
    scope: str | None = None
    capacity: int | None = None
    remaining: int | None = None
    retry_after_ns: int | None = 0
    reset_after_ns: int | None = 0

    def later(self, lag: int) -> Verdict:
        """Return the verdict for a clock that is ``lag`` behind the instant of the decision."""
        retry, reset = self.retry_after_ns, self.reset_after_ns
        return self._replace(
            retry_after_ns=retry and retry + lag, reset_after_ns=reset and reset + lag
        )


class Look(NamedTuple):
    """Answer of one limit's bucket to a request."""

    book: Book
    key: Key
    bucket: Bucket
    wait: Wait


@dataclass
class Charge:
    """Charge of an admitted request, for ``settle`` and ``release``."""

    looks: Sequence[Look]
    attributes: Mapping[str, object]
    since: int
    cost: int
    least: int
    """The lowest cost that was ever given for it."""
    slots: Sequence[Slot] = ()

    def release(self) -> None:
        for slot in self.slots:
            slot.over = True


@dataclass
class Tally:
    allowed: int = 0
    refused: int = 0
    never: int = 0
    shadow_refused: int = 0
    lowest: int | None = None

    def least(self, left: int) -> None:
        self.lowest = left if self.lowest is None else min(self.lowest, left)


@dataclass
class Oracle:
    """Reference for engines: not bounded, not fast, not thread-safe."""

    generation: int = 0
    published: Published = field(default_factory=dict)
    books: dict[Identity, Book] = field(default_factory=dict)
    tallies: dict[Identity, Tally] = field(default_factory=dict)
    no_policy: int = 0
    charge: Charge | None = None
    """Charge of the last request, if it was admitted."""
    _found: dict[str, tuple[str, list[Book]] | None] = field(default_factory=dict)

    def covering(self, scope: str) -> str | None:
        """Return ``scope`` if it is published, else its nearest published ancestor."""
        return next((path for path in reversed(_path(scope)) if path in self.published), None)

    def governing(self, scope: str) -> tuple[str, list[Book]] | None:
        """Return the covering scope with its limits and budgets; concurrency limits come last."""
        if scope not in self._found:
            covering = self.covering(scope)
            found = None
            if covering is not None:
                own = [each for each in self.published[covering] if not each.budget]
                above = [self.published.get(path, ()) for path in _path(covering)]
                budgets = [each for limits in above for each in limits if each.budget]
                books = [self.books[limit.identity] for limit in (*own, *budgets)]
                found = covering, sorted(books, key=lambda book: isinstance(book.rule, Slots))
            self._found[scope] = found
        return self._found[scope]

    # -- a change of policy

    def served(self, limit: Limit) -> Book | None:
        """Return the book whose requests ``limit`` will take over."""
        scope = limit.scope if limit.budget else self.covering(limit.scope)
        return self.books.get((scope or "", limit.name, limit.budget))

    def swap(self, generation: int, published: Published, now: int) -> None:
        books: dict[Identity, Book] = {}
        for limits in published.values():
            for limit in limits:
                old = self.served(limit)
                books[limit.identity] = Book(limit) if old is None else old.followed(limit, now)
        for identity, book in self.books.items():
            if books.get(identity) is not book:
                book.closed = now
            book.expire(now)
        self.tallies = {i: self.tallies.get(i, Tally()) for i in books}
        self.books, self.published, self.generation = books, published, generation
        self._found = {}

    # -- a request

    def check(self, scope: str, attributes: Mapping[str, object], cost: int, now: int) -> Verdict:
        self.charge = None
        governing = self.governing(scope)
        if governing is None:
            self.no_policy += 1
            return Verdict(True, "no_policy", self.generation)
        covering, books = governing
        looks = [_look(book, attributes, cost, now) for book in books]
        refusing = [look for look in looks if look.wait != 0]
        enforced = [look for look in refusing if not look.book.limit.shadow]
        for look in refusing:
            if look.book.limit.shadow:
                self.tallies[look.book.limit.identity].shadow_refused += 1
        if enforced:
            return self._refuse(enforced, now)
        taken = self._take([look for look in looks if look.wait == 0], attributes, cost, now)
        if refusing:
            return self._verdict(gravest(refusing), now, "shadow", 0)
        left = [(look.book.rule.remaining(look.bucket, now), look)
                for look in taken if not look.book.limit.shadow]  # fmt: skip
        if not left:
            return Verdict(True, "ok", self.generation, scope=covering)
        return self._verdict(min(left, key=lambda pair: pair[0])[1], now, "ok", 0)

    def _take(
        self, looks: Sequence[Look], attributes: Mapping[str, object], cost: int, now: int
    ) -> list[Look]:
        after, slots = [], []
        for look in looks:
            book, key = look.book, look.key
            taken = book.rule.take(look.bucket, cost, now)
            if cost or key in book.kept:
                book.kept[key] = taken
            if cost and isinstance(book.rule, Slots):
                slots.append(taken.slots[-1][0])
            tally = self.tallies[book.limit.identity]
            tally.allowed += 1
            tally.least(book.rule.remaining(taken, now))
            after.append(look._replace(bucket=taken))
        self.charge = Charge(looks, attributes, now, cost, cost, slots)
        return after

    def _refuse(self, refusing: list[Look], now: int) -> Verdict:
        for look in refusing:
            tally = self.tallies[look.book.limit.identity]
            if look.wait is None:
                tally.never += 1
            else:
                tally.refused += 1
        worst = gravest(refusing)
        return self._verdict(worst, now, "never" if worst.wait is None else "limited", worst.wait)

    def _verdict(self, look: Look, now: int, reason: str, wait: Wait) -> Verdict:
        book, key, bucket, _ = look
        rule = book.rule
        if key in book.kept:
            book.kept[key] = rule.reported(bucket, now)
        if wait is not None and wait < 0:
            wait = None
        return Verdict(
            reason in ("ok", "shadow"), reason, self.generation, book.limit.name, book.limit.scope,
            rule.most, rule.remaining(bucket, now), wait, rule.reset(bucket, now),
        )  # fmt: skip

    # -- afterwards

    def settle(self, charge: Charge, actual: int, now: int) -> None:
        """Correct a cost; only valid if nothing was published since the request."""
        more = actual - charge.cost
        for book, key, *_ in charge.looks if more else ():
            if more < 0 and key not in book.kept:
                continue
            bucket, _ = book.bucket(charge.attributes, now)
            corrected = book.rule.corrected(bucket, more, now, charge.since, charge.least)
            book.kept[key] = corrected
            if more > 0:
                left = book.rule.remaining(corrected, now)
                self.tallies[book.limit.identity].least(left)
        charge.cost, charge.least = actual, min(charge.least, actual)


def _path(scope: str) -> list[str]:
    """From ``/`` down."""
    parts = [part for part in scope.split("/") if part]
    return ["/" + "/".join(parts[:depth]) for depth in range(len(parts) + 1)]


def _look(book: Book, attributes: Mapping[str, object], cost: int, now: int) -> Look:
    key = book.key(attributes)
    bucket, _ = book.bucket(attributes, now)
    wait = book.rule.wait(bucket, cost, now)
    if key in book.kept:
        bucket = book.kept[key] = book.rule.looked(bucket, cost, now)
    return Look(book, key, bucket, wait)


def gravest(refusing: list[Look]) -> Look:
    """Return the worst refusal; of equal ones, the first in order."""
    return max(refusing, key=lambda look: gravity(look.wait))
