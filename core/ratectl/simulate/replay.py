"""Replay of traffic through policies in virtual time, on the engine that agents run.

Times are those of the log, in nanoseconds since 1970 (UTC), so quotas and exceptions see the days
of the log. Memory depends on distinct keys and on the sorting window, not on the length of the log.

A log has the start of each request but not its duration: each request ends at once. Therefore a
concurrency limit refuses only a request with a cost above its ``max``.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Final

from ratectl.compiler.activation import activate_tree
from ratectl.engine import open_engine
from ratectl.policy.resolution.algorithms.registry import holds_slots
from ratectl.runtime.gc_pause import paused_collector
from ratectl.simulate.report import Change, Report, ScopeCount, Side, Slice, limit_counts
from ratectl.simulate.timeline import Timeline

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ratectl.engine.api import Engine, LimitCounts
    from ratectl.engine.cost import Cost
    from ratectl.engine.decision import Decision
    from ratectl.policy.language.model import PolicyTree
    from ratectl.simulate.calls import Call
    from ratectl.simulate.sources import Traffic

__all__ = ["replay"]

_MAX_ALIASES: Final = 100_000

_Row = tuple[str, str, bool, tuple[str, ...]]
"""Key of a row of counts: scope, name, True for a budget, and overrides."""


def replay(traffic: Traffic, policies: Sequence[tuple[str, PolicyTree]]) -> Report:
    """Send ``traffic`` through each of one or two named sets of policies, in one pass.

    :raises BundleError: policies cannot be enforced.
    :raises UsageError: the header of a CSV file lacks a column that the map names.
    :raises OSError: the log cannot be read.
    """
    players = [_Player(name, tree) for name, tree in policies]
    scopes = _Scopes([player.engine for player in players])
    for player in players:
        player.counts = _Counts(scopes)
    timeline = Timeline(len(players))
    differences = _Differences(scopes)
    span = _Span()
    with paused_collector():
        for batch in _started(traffic.batches(), players, span):
            if len(players) == 1:
                _play(batch, players[0], timeline)
            else:
                _play_both(batch, players[0], players[1], timeline, differences)
    return Report(
        traffic.reading,
        span.requests,
        span.first_ns,
        span.last_ns,
        tuple(player.side() for player in players),
        differences.changes(),
        timeline.start_ns,
        timeline.width_ns,
        tuple(Slice.of(bucket) for bucket in timeline.buckets()),
    )


class _Span:
    """Number of requests, and the instants of the first and the last."""

    def __init__(self) -> None:
        self.requests = 0
        self.first_ns: int | None = None
        self.last_ns: int | None = None


def _started(
    batches: Iterator[list[Call]], players: Sequence[_Player], span: _Span
) -> Iterator[list[Call]]:
    """Start the engines at the first call, yield the batches, and advance time after each."""
    for batch in batches:
        if span.first_ns is None:
            span.first_ns = batch[0][0]
            for player in players:
                player.start(span.first_ns)
        for part in _between_changes(batch, players):
            yield part
            span.requests += len(part)
            span.last_ns = part[-1][0]
            for player in players:
                player.now = part[-1][0]


def _between_changes(batch: list[Call], players: Sequence[_Player]) -> Iterator[list[Call]]:
    """Yield the batch in parts during which no exception starts or ends."""
    while batch:
        for player in players:
            player.keep_time(batch[0][0])
        until = min((player.until for player in players if player.until is not None), default=None)
        cut = len(batch)
        if until is not None:
            cut = next((n for n, call in enumerate(batch) if call[0] >= until), cut)
        yield batch[:cut]
        batch = batch[cut:]


class _Player:
    """Engine in virtual time with the counts of its decisions."""

    def __init__(self, name: str, tree: PolicyTree) -> None:
        self.name = name
        self.now = 0
        self.until: int | None = None
        self._tree = tree
        self._ended: dict[_Row, list[LimitCounts]] = {}
        activate_tree(tree, 1)
        self.engine: Engine = open_engine(lambda: self.now)
        self.counts = _Counts(_Scopes([self.engine]))
        self.check = self.engine.check
        if holds_slots(tree):
            self.check = self._check_and_release

    def _check_and_release(
        self, scope: str, attributes: Mapping[str, str], cost: Cost = 1, now: int | None = None
    ) -> Decision:
        with self.engine.check(scope, attributes, cost, now) as decision:
            return decision

    def start(self, now: int) -> None:
        self.now = now
        self._swap(now)

    def keep_time(self, now: int) -> None:
        """Let exceptions start and end up to ``now``, each at its instant."""
        while self.until is not None and self.until <= now:
            self._swap(self.until)

    def _swap(self, now: int) -> None:
        plans = activate_tree(self._tree, 1, now_ns=now)
        before = self._rows()
        self.engine.swap(plans, now)
        self.until = plans.until_ns
        self._keep_ended(before, self._rows())

    def _rows(self) -> dict[_Row, LimitCounts]:
        """Return the counts of each limit; nothing if no exception can end a limit."""
        if not self._tree.exceptions:
            return {}
        rows = self.engine.usage().limits
        return {(row.scope, row.limit, row.budget, row.overrides): row for row in rows}

    def _keep_ended(
        self, before: Mapping[_Row, LimitCounts], after: Mapping[_Row, LimitCounts]
    ) -> None:
        """Keep the counts of buckets that ended with an exception: the engine drops them."""
        for row, usage in after.items():
            counted = usage.allowed + usage.refused + usage.never + usage.shadow_refused
            if counted and row not in before and self._ended.get(row):
                self._ended[row].pop()  # the engine still has the counts, and goes on with them
        for row, usage in before.items():
            if row not in after:
                self._ended.setdefault(row, []).append(usage)

    def side(self) -> Side:
        rows = self.counts.rows
        ordered = sorted(rows, key=lambda scope: (scope is None, scope or ""))
        scopes = tuple(ScopeCount.of(scope, rows[scope]) for scope in ordered)
        usage = self.engine.usage()
        limits = (*chain.from_iterable(self._ended.values()), *usage.limits)
        return Side(self.name, scopes, limit_counts(replace(usage, limits=limits)))


class _Scopes:
    """Lookup of the declared scope of a request in reports: the deepest of all sides."""

    def __init__(self, engines: Sequence[Engine]) -> None:
        self._engines = engines

    def of(self, scope: str) -> str | None:
        plans = [engine.plan(scope) for engine in self._engines]
        return max((plan.scope for plan in plans if plan), key=len, default=None)


class _Counts(dict[str, "Counter[str]"]):
    """Counters of reasons by requested scope; scopes of one declared scope share a counter."""

    def __init__(self, scopes: _Scopes) -> None:
        super().__init__()
        self.rows: dict[str | None, Counter[str]] = {}
        self._scopes = scopes

    def __missing__(self, scope: str) -> Counter[str]:
        if len(self) >= _MAX_ALIASES:
            self.clear()
        row = self[scope] = self.rows.setdefault(self._scopes.of(scope), Counter())
        return row


class _Differences:
    """Counts of requests with different decisions, by declared scope: refused now, admitted now."""

    def __init__(self, scopes: _Scopes) -> None:
        self._scopes = scopes
        self._pairs: dict[str | None, list[int]] = {}

    def add(self, scope: str, *, refused: bool) -> None:
        pair = self._pairs.setdefault(self._scopes.of(scope), [0, 0])
        pair[0 if refused else 1] += 1

    def changes(self) -> tuple[Change, ...]:
        ordered = sorted(self._pairs, key=lambda scope: (scope is None, scope or ""))
        return tuple(Change(scope, *self._pairs[scope]) for scope in ordered)


def _play(batch: list[Call], player: _Player, timeline: Timeline) -> None:
    check, counts = player.check, player.counts
    ends, (bucket,) = timeline.bucket(batch[0][0])
    for at, scope, attributes, cost in batch:
        if at >= ends:
            ends, (bucket,) = timeline.bucket(at)
        reason = check(scope, attributes, cost, at).reason
        counts[scope][reason] += 1
        bucket[reason] += 1


def _play_both(
    batch: list[Call], new: _Player, old: _Player, timeline: Timeline, differences: _Differences
) -> None:
    check_new, check_old = new.check, old.check
    ends, (bucket, bucket_old) = timeline.bucket(batch[0][0])
    for at, scope, attributes, cost in batch:
        if at >= ends:
            ends, (bucket, bucket_old) = timeline.bucket(at)
        one = check_new(scope, attributes, cost, at)
        other = check_old(scope, attributes, cost, at)
        new.counts[scope][one.reason] += 1
        old.counts[scope][other.reason] += 1
        bucket[one.reason] += 1
        bucket_old[other.reason] += 1
        if one.allowed is not other.allowed:
            differences.add(scope, refused=not one.allowed)
