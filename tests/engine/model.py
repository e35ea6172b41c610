"""An oracle for engines: the written rules, slowly and without shortcuts.

It shares no code with an engine. Nothing is ever evicted or forgotten; every limit has its buckets
from the moment it is published; a change of parameters migrates every bucket at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from engine.books import Book, Generation, Limit, path_of
from engine.rules import Slots, gravity, migrate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from engine.books import Identity, Key
    from engine.rule_slots import Slot
    from engine.rules import Bucket, Rule, Wait

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
    past: list[Generation] = field(default_factory=lambda: [Generation(0, 0, {}, {})])
    tallies: dict[Identity, Tally] = field(default_factory=dict)
    no_policy: int = 0
    charge: Charge | None = None
    """Charge of the last request, if it was admitted."""
    _found: dict[str, tuple[str, list[Book]] | None] = field(default_factory=dict)
    _carried: set[tuple[object, ...]] = field(default_factory=set)
    """Paths of the requests that have carried over what they left."""

    @property
    def published(self) -> Mapping[str, tuple[Limit, ...]]:
        return self.past[-1].published

    @property
    def books(self) -> dict[Identity, Book]:
        return self.past[-1].books

    def covering(self, scope: str) -> str | None:
        """Return ``scope`` if it is published, else its nearest published ancestor."""
        return self.past[-1].covering(scope)

    def governing(self, scope: str) -> tuple[str, list[Book]] | None:
        """Return the covering scope with its limits and budgets; concurrency limits come last."""
        if scope not in self._found:
            covering = self.covering(scope)
            found = None
            if covering is not None:
                own = [each for each in self.published[covering] if not each.budget]
                above = [self.published.get(path, ()) for path in path_of(covering)]
                budgets = [each for limits in above for each in limits if each.budget]
                books = [self.books[limit.identity] for limit in (*own, *budgets)]
                found = covering, sorted(books, key=lambda book: isinstance(book.rule, Slots))
            self._found[scope] = found
        return self._found[scope]

    # -- a change of policy

    def swap(self, generation: int, published: Published, now: int) -> None:
        for book in self.books.values():
            book.end(self.past[-1].number)
        books: dict[Identity, Book] = {}
        for limit in [limit for limits in published.values() for limit in limits]:
            old = self.books.get(limit.identity)
            if old is not None and old.limit.per == limit.per:
                old.follow(limit, now)
                books[limit.identity] = old
            else:
                books[limit.identity] = Book(limit, now)
        self.tallies = {i: self.tallies.get(i, Tally()) for i in books}
        self.past.append(Generation(len(self.past), now, published, books))
        self.generation = generation
        self._found, self._carried = {}, set()

    def carry(self, scope: str, book: Book, attributes: Mapping[str, object], now: int) -> None:
        """Carry over what a request left, at its first look at a bucket."""
        key = book.key(attributes)
        path: list[object] = [id(book), key]
        state: Bucket | None = None
        rule: Rule | None = None
        before: Book | None = None
        for last, generation in zip([None, *self.past], self.past, strict=False):
            served = generation.book(scope, book.limit)
            since = generation.since
            if before is not None and served is not before:
                assert last is not None
                assert rule is not None
                left = before.left(last.number, attributes, since)
                state = left if state is None else rule.stricter(state, left, since)
                path += [last.number, before.key(attributes)]
            if served is not None:
                now_rule = generation.rule(served)
                if state is not None:
                    assert last is not None
                    assert rule is not None
                    again = before is None  # the limit did not apply for a while
                    in_use = again or (served is not before and served in last.books.values())
                    state = migrate(rule, now_rule, state, since, in_use=in_use)
                rule = now_rule
            before = served
        if state is not None and tuple(path) not in self._carried:
            book.join(key, state, now)
            self._carried.add(tuple(path))

    # -- a request

    def check(self, scope: str, attributes: Mapping[str, object], cost: int, now: int) -> Verdict:
        self.charge = None
        governing = self.governing(scope)
        if governing is None:
            self.no_policy += 1
            return Verdict(True, "no_policy", self.generation)
        covering, books = governing
        for book in books:
            self.carry(scope, book, attributes, now)
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
            bucket = book.bucket(key)
            corrected = book.rule.corrected(bucket, more, now, charge.since, charge.least)
            book.kept[key] = corrected
            if more > 0:
                left = book.rule.remaining(corrected, now)
                self.tallies[book.limit.identity].least(left)
        charge.cost, charge.least = actual, min(charge.least, actual)


def _look(book: Book, attributes: Mapping[str, object], cost: int, now: int) -> Look:
    key = book.key(attributes)
    bucket = book.bucket(key)
    wait = book.rule.wait(bucket, cost, now)
    if key in book.kept:
        bucket = book.kept[key] = book.rule.looked(bucket, cost, now)
    return Look(book, key, bucket, wait)


def gravest(refusing: list[Look]) -> Look:
    """Return the worst refusal; of equal ones, the first in order."""
    return max(refusing, key=lambda look: gravity(look.wait))
