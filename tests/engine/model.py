"""An oracle for engines: the written rules, slowly and without shortcuts.

It shares no code with an engine. Nothing is ever evicted or forgotten; every limit has its buckets
from the moment it is published; a change of parameters migrates every bucket at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

from engine.books import Book, Generation, Limit, path_of
from engine.rules import Slots, gravity, migrate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from engine.books import Identity, Key
    from engine.rule_slots import Slot
    from engine.rules import Bucket, Rule, Wait

__all__ = ["Charge", "Cost", "Limit", "Oracle", "Published", "Verdict"]

Cost = int | dict[str, int]

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
    unit: str | None = None

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
    cost: int

    def share(self, now: int) -> Fraction:
        """Return what is left, as a share of what a full bucket holds."""
        rule = self.book.rule
        return Fraction(rule.remaining(self.bucket, now), rule.most or 1)


@dataclass
class Charge:
    """Charge of an admitted request, for ``settle`` and ``release``."""

    looks: Sequence[Look]
    attributes: Mapping[str, object]
    since: int
    costs: dict[str, tuple[int, int]]
    """For each unit: the cost that was given last, and the lowest that was ever given."""
    mapped: bool
    """True if the cost was a mapping of units."""
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
    absent: int = 0
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
            if old is not None and (old.limit.per, old.limit.unit) == (limit.per, limit.unit):
                old.follow(limit, now)
                books[limit.identity] = old
            else:
                books[limit.identity] = Book(limit, now)
        self.tallies = {i: self._tally(i, book) for i, book in books.items()}
        self.past.append(Generation(len(self.past), now, published, books))
        self.generation = generation
        self._found, self._carried = {}, set()

    def _tally(self, identity: Identity, book: Book) -> Tally:
        """Return the counts so far; a limit that counts another unit begins to count again."""
        old = self.books.get(identity)
        if old is None or old.limit.unit != book.limit.unit:
            return Tally()
        return self.tallies[identity]

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
                path += [last.number, id(before), before.key(attributes)]
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

    def check(self, scope: str, attributes: Mapping[str, object], cost: Cost, now: int) -> Verdict:
        self.charge = None
        governing = self.governing(scope)
        if governing is None:
            self.no_policy += 1
            return Verdict(True, "no_policy", self.generation)
        covering, books = governing
        for book in books:
            self.carry(scope, book, attributes, now)
        costs = [(book, _cost_in(cost, book.limit.unit)) for book in books]
        for book, each in costs:
            self.tallies[book.limit.identity].absent += each is not None and book.lacks(attributes)
        costs = [(book, each) for book, each in costs if not _skips(book, attributes)]
        looks = [_look(book, attributes, each, now) for book, each in costs if each is not None]
        refusing = [look for look in looks if look.wait != 0]
        enforced = [look for look in refusing if not look.book.limit.shadow]
        for look in refusing:
            if look.book.limit.shadow:
                self.tallies[look.book.limit.identity].shadow_refused += 1
        if enforced:
            return self._refuse(enforced, now)
        taken, slots = self._take([look for look in looks if look.wait == 0], now)
        named = {book.limit.unit: each for book, each in costs if each is not None}
        named |= {"requests": cost} if isinstance(cost, int) else {"requests": 1, **cost}
        charges = {unit: (each, each) for unit, each in named.items()}
        self.charge = Charge(taken, attributes, now, charges, not isinstance(cost, int), slots)
        if refusing:
            return self._verdict(gravest(refusing), now, "shadow", 0)
        left = [(look.share(now), look) for look in taken if not look.book.limit.shadow]
        if not left:
            return Verdict(True, "ok", self.generation, scope=covering)
        return self._verdict(min(left, key=lambda pair: pair[0])[1], now, "ok", 0)

    def _take(self, looks: Sequence[Look], now: int) -> tuple[list[Look], list[Slot]]:
        after, slots = [], []
        for look in looks:
            book, key, cost = look.book, look.key, look.cost
            taken = book.rule.take(look.bucket, cost, now)
            if cost or key in book.kept:
                book.kept[key] = taken
            if cost and isinstance(book.rule, Slots):
                slots.append(taken.slots[-1][0])
            tally = self.tallies[book.limit.identity]
            tally.allowed += 1
            tally.least(book.rule.remaining(taken, now))
            after.append(look._replace(bucket=taken))
        return after, slots

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
        book, key, bucket, *_ = look
        rule = book.rule
        if key in book.kept:
            book.kept[key] = rule.reported(bucket, now)
        if wait is not None and wait < 0:
            wait = None
        return Verdict(
            reason in ("ok", "shadow"), reason, self.generation, book.limit.name, book.limit.scope,
            rule.most, rule.remaining(bucket, now), wait, rule.reset(bucket, now), book.limit.unit,
        )  # fmt: skip

    # -- afterwards

    def settle(self, charge: Charge, scope: str, actual: Cost, now: int) -> None:
        """Correct a cost; only valid if nothing was published since the request."""
        for unit, number in (
            {"requests": actual}.items() if isinstance(actual, int) else actual.items()
        ):
            if unit not in charge.costs:
                charge.costs[unit] = (0, 0)
                _, books = self.governing(scope) or ("", [])
                counting = [book for book in books if book.limit.unit == unit]
                asked = [book for book in counting if not _skips(book, charge.attributes)]
                newly = [_look(book, charge.attributes, 0, now)._replace(wait=0) for book in asked]
                charge.looks = [*charge.looks, *newly]
            last, least = charge.costs[unit]
            looks = [look for look in charge.looks if look.book.limit.unit == unit]
            self._correct(looks, number - last, charge.since, least, now)
            charge.costs[unit] = (number, min(least, number))

    def _correct(self, looks: Sequence[Look], more: int, since: int, least: int, now: int) -> None:
        for book, key, *_ in looks if more else ():
            if more < 0 and key not in book.kept:
                continue
            bucket = book.bucket(key)
            corrected = book.rule.corrected(bucket, more, now, since, least)
            book.kept[key] = corrected
            if more > 0:
                left = book.rule.remaining(corrected, now)
                self.tallies[book.limit.identity].least(left)


def _cost_in(cost: Cost, unit: str) -> int | None:
    """Return a cost in a unit; None if its limits have no part in the request."""
    if isinstance(cost, int):
        return {"requests": cost}.get(unit, None if cost else 0)
    return {"requests": 1, **cost}.get(unit)


def _skips(book: Book, attributes: Mapping[str, object]) -> bool:
    return book.limit.skips and book.lacks(attributes)


def _look(book: Book, attributes: Mapping[str, object], cost: int, now: int) -> Look:
    key = book.key(attributes)
    bucket = book.bucket(key)
    wait = book.rule.wait(bucket, cost, now)
    if key in book.kept:
        bucket = book.kept[key] = book.rule.looked(bucket, cost, now)
    return Look(book, key, bucket, wait, cost)


def gravest(refusing: list[Look]) -> Look:
    """Return the worst refusal; of equal ones, the first in order."""
    return max(refusing, key=lambda look: gravity(look.wait))
