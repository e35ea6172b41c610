"""The oracle's buckets of one limit, with their lineage, without shortcuts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.rules import migrate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine.rules import Bucket, Rule

Identity = tuple[str, str, bool]
Key = tuple[str | None, ...]


@dataclass(frozen=True)
class Limit:
    """A published limit or budget."""

    scope: str
    name: str
    rule: Rule
    per: tuple[str, ...] = ()
    shadow: bool = False
    budget: bool = False

    @property
    def identity(self) -> Identity:
        return (self.scope, self.name, self.budget)


class Book:
    """The buckets of one limit under one rule."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.rule = limit.rule
        self.genesis: Bucket | None = None
        self.kept: dict[Key, Bucket] = {}
        self.closed: int | None = None
        self.seed: Book | None = None
        self.seed_until: int | None = None
        self.passed: list[tuple[int, Rule]] = []
        self.lineage = False
        """True if its buckets ever inherited from another limit, or another limit's from them."""

    def key(self, attributes: Mapping[str, object]) -> Key:
        """Return the key: the values in order; an absent value is a separate value."""
        values = [attributes.get(name) for name in self.limit.per]
        return tuple([None if value is None else str(value) for value in values])

    def bucket(self, attributes: Mapping[str, object], now: int) -> tuple[Bucket, int]:
        """Return the bucket of a request, with its instant: the closing time of a closed book."""
        own = now if self.closed is None else min(now, self.closed)
        kept = self.kept.get(self.key(attributes))
        if kept is not None:
            return kept, own
        self.expire(own)
        if self.seed is None:
            return self.untouched(own), own
        bucket, at = self.seed.bucket(attributes, now)
        before = self.seed.rule
        for since, rule in self.passed:
            at = max(at, since)
            bucket = migrate(before, rule, bucket, at)
            before = rule
        return bucket, max(at, own)

    def untouched(self, now: int) -> Bucket:
        """Return the bucket of a key that was never touched and inherits nothing."""
        return self.rule.full(now) if self.genesis is None else self.genesis

    def expire(self, now: int) -> None:
        """Drop a seed that would only give full buckets."""
        if self.seed_until is not None and now >= self.seed_until:
            self.seed = None

    def followed(self, limit: Limit, now: int) -> Book:
        """Return the book of ``limit``, which takes over the requests of this book at ``now``."""
        genesis = migrate(self.rule, limit.rule, self.untouched(now), now)
        kept = None if limit.rule.is_full(genesis, now) else genesis
        same = (self.limit.identity, self.limit.per) == (limit.identity, limit.per)
        if same and self.rule == limit.rule:
            self.limit, self.genesis = limit, kept
            return self
        book = Book(limit)
        book.genesis = kept
        if same:
            book.kept = {
                key: migrate(self.rule, limit.rule, bucket, now)
                for key, bucket in self.kept.items()
            }
            book.lineage = self.lineage
            self.expire(now)
            if self.seed is not None:
                book._begin(self.seed, [*self.passed, (now, limit.rule)], now)
        else:
            book._begin(self, [(now, limit.rule)], now)
        return book

    def _begin(self, seed: Book, passed: list[tuple[int, Rule]], now: int) -> None:
        self.seed, self.passed = seed, passed
        self.lineage = seed.lineage = True
        settle = self.rule.settle
        self.seed_until = None if settle is None else now + settle
