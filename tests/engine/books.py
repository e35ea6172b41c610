"""The oracle's buckets of one limit, without shortcuts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

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
    unit: str = "requests"
    skips: bool = False
    """True if it does not apply to requests that lack one of its attributes."""

    @property
    def identity(self) -> Identity:
        return (self.scope, self.name, self.budget)


class Book:
    """The buckets of one limit and ``per``, as long as the limit is in force."""

    def __init__(self, limit: Limit, now: int) -> None:
        self.limit = limit
        self.rule = limit.rule
        self.untouched: Bucket = limit.rule.full(now)
        """The bucket of a key that was never touched."""
        self.kept: dict[Key, Bucket] = {}
        self._saved: dict[int, tuple[Rule, dict[Key, Bucket], Bucket]] = {}

    def key(self, attributes: Mapping[str, object]) -> Key:
        """Return the key: the values in order; an absent value is a separate value."""
        values = [attributes.get(name) for name in self.limit.per]
        return tuple([None if value is None else str(value) for value in values])

    def lacks(self, attributes: Mapping[str, object]) -> bool:
        """Return True if a request lacks an attribute that the limit counts per."""
        return None in self.key(attributes)

    def bucket(self, key: Key) -> Bucket:
        return self.kept.get(key, self.untouched)

    def end(self, generation: int) -> None:
        """Save all buckets as they are at the end of a generation."""
        self._saved[generation] = (self.rule, dict(self.kept), self.untouched)

    def left(self, generation: int, attributes: Mapping[str, object], now: int) -> Bucket:
        """Return what a request left here at the end of a generation, at ``now``."""
        rule, kept, untouched = self._saved[generation]
        return rule.absolute(kept.get(self.key(attributes), untouched), untouched, now)

    def join(self, key: Key, brought: Bucket, now: int) -> None:
        """Add what a request carries over to its bucket."""
        own = self.bucket(key)
        joined = self.rule.stricter(own, self.rule.relative(brought, self.untouched, now), now)
        if not self.rule.same(joined, own, now):
            self.kept[key] = joined

    def follow(self, limit: Limit, now: int) -> None:
        """Take the parameters of a new generation; all buckets change in place."""
        old, new, untouched = self.rule, limit.rule, self.untouched
        self.limit, self.rule = limit, new
        if old == new:
            return
        after = migrate(old, new, old.absolute(untouched, untouched, now), now)
        self.untouched = new.relative(after, after, now)
        for key, bucket in self.kept.items():
            moved = migrate(old, new, old.absolute(bucket, untouched, now), now)
            self.kept[key] = new.relative(moved, self.untouched, now)


class Generation(NamedTuple):
    """Policies that were in force from an instant on."""

    number: int
    since: int
    published: Mapping[str, tuple[Limit, ...]]
    books: dict[Identity, Book]

    def covering(self, scope: str) -> str | None:
        """Return ``scope`` if it is published, else its nearest published ancestor."""
        return next((path for path in reversed(path_of(scope)) if path in self.published), None)

    def book(self, scope: str, limit: Limit) -> Book | None:
        """Return the book of a limit of this name and unit that counted requests of a scope."""
        home = limit.scope if limit.budget else self.covering(scope)
        book = None if home is None else self.books.get((home, limit.name, limit.budget))
        return book if book is not None and book.limit.unit == limit.unit else None

    def rule(self, book: Book) -> Rule:
        """Return the rule of a book in this generation."""
        return next(
            limit.rule for limits in self.published.values() for limit in limits
            if self.books[limit.identity] is book
        )  # fmt: skip


def path_of(scope: str) -> list[str]:
    """From ``/`` down."""
    parts = [part for part in scope.split("/") if part]
    return ["/" + "/".join(parts[:depth]) for depth in range(len(parts) + 1)]
