"""An oracle for engines: the written rules, slowly and without shortcuts.

It shares no code with an engine. Nothing is ever evicted; every limit has its buckets from the
moment it is published; and a change of parameters migrates every bucket at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from engine.rules import migrate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from engine.rules import Bucket, Rule


class Verdict(NamedTuple):
    """What a decision says; the fields and their order are those of ``Decision``."""

    allowed: bool
    reason: str
    generation: int
    limit: str | None = None
    scope: str | None = None
    capacity: int | None = None
    remaining: int | None = None
    retry_after_ns: int | None = 0
    reset_after_ns: int | None = 0


@dataclass(frozen=True)
class Limit:
    """A limit as it is published."""

    scope: str
    name: str
    rule: Rule
    per: tuple[str, ...] = ()
    shadow: bool = False

    @property
    def identity(self) -> tuple[str, str]:
        return (self.scope, self.name)


Published = dict[str, tuple[Limit, ...]]
Key = tuple[str | None, ...]


class Book:
    """The buckets of one limit under one rule."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.genesis: Bucket | None = None
        self.kept: dict[Key, Bucket] = {}
        self.closed: int | None = None
        self.seed: Book | None = None
        self.seed_until: int | None = None
        self.passed: list[tuple[int, Rule]] = []

    @property
    def rule(self) -> Rule:
        return self.limit.rule

    def key(self, attributes: Mapping[str, object]) -> Key:
        """Values in order; an absent one is a value of its own."""
        values = [attributes.get(name) for name in self.limit.per]
        return tuple([None if value is None else str(value) for value in values])

    def bucket(self, attributes: Mapping[str, object], now: int) -> tuple[Bucket, int]:
        """The bucket of a request, and the instant it stands at: that of its closing, if closed."""
        own = now if self.closed is None else min(now, self.closed)
        kept = self.kept.get(self.key(attributes))
        if kept is not None:
            return kept, own
        if not self.seeded(own):
            self.seed = None
            return self.genesis or self.rule.full(own), own
        assert self.seed is not None
        bucket, at = self.seed.bucket(attributes, now)
        before = self.seed.rule
        for since, rule in self.passed:
            at = max(at, since)
            bucket = migrate(before, rule, bucket, at)
            before = rule
        return bucket, max(at, own)

    def seeded(self, now: int) -> bool:
        return self.seed is not None and (self.seed_until is None or now < self.seed_until)

    def follow(self, seed: Book, passed: list[tuple[int, Rule]], now: int) -> None:
        self.seed, self.passed = seed, passed
        settle = self.rule.settle
        self.seed_until = None if settle is None else now + settle


def _genesis(old: Book, rule: Rule, now: int) -> Bucket | None:
    bucket = migrate(old.rule, rule, old.genesis or old.rule.full(now), now)
    return None if rule.is_full(rule.look(bucket, now)) else bucket


@dataclass
class Tally:
    allowed: int = 0
    refused: int = 0
    never: int = 0
    shadow_refused: int = 0
    lowest: int | None = None


class Oracle:
    """What an engine must answer. Not bounded, not fast, not shared."""

    def __init__(self) -> None:
        self.generation = 0
        self.published: Published = {}
        self.books: dict[tuple[str, str], Book] = {}
        self.tallies: dict[tuple[str, str], Tally] = {}
        self.no_policy = 0

    def covering(self, scope: str) -> str | None:
        """``scope``, if it is published, or its nearest published ancestor."""
        parts = [part for part in scope.split("/") if part]
        paths = ["/" + "/".join(parts[:depth]) for depth in range(len(parts), -1, -1)]
        return next((path for path in paths if path in self.published), None)

    # -- a change of policy

    def swap(self, generation: int, published: Published, now: int) -> None:
        before = {scope: self.covering(scope) for scope in published}
        books: dict[tuple[str, str], Book] = {}
        for scope, limits in published.items():
            for limit in limits:
                old = self.books.get((before[scope] or "", limit.name))
                books[limit.identity] = self._successor(old, limit, now)
        for identity, book in self.books.items():
            if books.get(identity) is not book:
                book.closed = now
        self.tallies = {i: self.tallies.get(i, Tally()) for i in books}
        self.books, self.published, self.generation = books, published, generation

    def _successor(self, old: Book | None, limit: Limit, now: int) -> Book:
        book = Book(limit)
        if old is None:
            return book
        genesis = _genesis(old, limit.rule, now)
        if old.limit.identity == limit.identity and old.limit.per == limit.per:
            if old.rule == limit.rule:
                old.limit, old.genesis = limit, genesis
                return old
            for key, bucket in old.kept.items():
                book.kept[key] = migrate(old.rule, limit.rule, bucket, now)
            if old.seeded(now):
                assert old.seed is not None
                book.follow(old.seed, [*old.passed, (now, limit.rule)], now)
        else:
            book.follow(old, [(now, limit.rule)], now)
        book.genesis = genesis
        return book

    # -- a request

    def check(self, scope: str, attributes: Mapping[str, object], cost: int, now: int) -> Verdict:
        covering = self.covering(scope)
        if covering is None:
            self.no_policy += 1
            return Verdict(True, "no_policy", self.generation)
        books = [self.books[limit.identity] for limit in self.published[covering]]
        waits: list[tuple[Book, int | None]] = []
        for book in books:
            bucket, _ = book.bucket(attributes, now)
            waits.append((book, book.rule.wait(bucket, cost, now)))
            if book.key(attributes) in book.kept:
                book.kept[book.key(attributes)] = book.rule.settled_look(bucket, now)
        refusing = [(book, wait) for book, wait in waits if wait != 0]
        for book, _ in refusing:
            if book.limit.shadow:
                self.tallies[book.limit.identity].shadow_refused += 1
        enforced = [(book, wait) for book, wait in refusing if not book.limit.shadow]
        if enforced:
            return self._refuse(enforced, attributes, now)
        self._charge([book for book, wait in waits if wait == 0], attributes, cost, now)
        if refusing:
            return self._verdict(worst(refusing)[0], attributes, now, "shadow", 0)
        if all(book.limit.shadow for book in books):
            return Verdict(True, "ok", self.generation, scope=covering)
        left = [(self._left(book, attributes, cost, now), book) for book in books
                if not book.limit.shadow]  # fmt: skip
        return self._verdict(min(left, key=lambda pair: pair[0])[1], attributes, now, "ok", 0)

    def _left(self, book: Book, attributes: Mapping[str, object], cost: int, now: int) -> int:
        return book.rule.remaining(book.bucket(attributes, now)[0], now)

    def _charge(
        self, books: Sequence[Book], attributes: Mapping[str, object], cost: int, now: int
    ) -> None:
        for book in books:
            key = book.key(attributes)
            taken = book.rule.take(book.bucket(attributes, now)[0], cost, now)
            if cost or key in book.kept:
                book.kept[key] = taken
            tally = self.tallies[book.limit.identity]
            tally.allowed += 1
            left = book.rule.remaining(taken, now)
            tally.lowest = left if tally.lowest is None else min(tally.lowest, left)

    def _refuse(
        self, refusing: list[tuple[Book, int | None]], attributes: Mapping[str, object], now: int
    ) -> Verdict:
        for book, wait in refusing:
            tally = self.tallies[book.limit.identity]
            if wait is None:
                tally.never += 1
            else:
                tally.refused += 1
        book, wait = worst(refusing)
        return self._verdict(book, attributes, now, "never" if wait is None else "limited", wait)

    def _verdict(
        self, book: Book, attributes: Mapping[str, object], now: int, reason: str, wait: int | None
    ) -> Verdict:
        bucket, _ = book.bucket(attributes, now)
        rule = book.rule
        return Verdict(
            reason in ("ok", "shadow"), reason, self.generation, book.limit.name, book.limit.scope,
            rule.most, rule.remaining(bucket, now), wait, rule.reset(bucket, now),
        )  # fmt: skip


def worst(refusing: list[tuple[Book, int | None]]) -> tuple[Book, int | None]:
    """Never beats not now; then the longest wait; then the first in order."""
    never = [pair for pair in refusing if pair[1] is None]
    return never[0] if never else max(refusing, key=lambda pair: pair[1] or 0)
