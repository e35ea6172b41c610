"""A story is played on an engine, and judged: too much admitted, or refused without a rule.

Stories are plain values, so that one that fails can be cut down, printed, and replayed by hand.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.publications.ideal import Ideal
from engine.publications.promise import Charge, Excess, Ledger, Time
from engine.publications.resolving import Attributes, Documents, Ruling, resolve
from engine.publications.rules import Slots
from engine.publications.world import World

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from engine.engines import MakeEngine
    from ratectl.engine.decision import Decision

Step = tuple[Any, ...]
"""A name and its arguments: a method of `Player` that begins with ``do_``."""
FIELDS = (
    "allowed", "reason", "limit", "scope", "capacity", "remaining", "retry_after_ns",
    "reset_after_ns",
)  # fmt: skip
DRAIN = (16, 4, 1)
LONGEST = 3_600 * 10**9
"""Nanoseconds that a story waits for a named instant."""


class Request(NamedTuple):
    scope: str
    attributes: Attributes


@dataclass(frozen=True)
class Story:
    """Requests of a small world, and what happens there, beginning with a publication."""

    requests: tuple[Request, ...]
    steps: tuple[Step, ...]
    max_buckets: int | None = None


@dataclass
class Seen:
    """Everything known of one request."""

    request: Request
    rulings: dict[str, Ruling] = field(default_factory=dict)
    ledgers: dict[str, Ledger] = field(default_factory=dict)
    ideals: dict[str, Ideal] = field(default_factory=dict)
    twin: World | None = None
    """Engine that only this request asks, and that saw only the first publication."""
    shared: bool = False
    """True once another request may have used one of its buckets."""
    moved: str = ""
    """Kind of the last publication that changed one of its identities."""
    changed: str = ""
    """Kind of the last publication that changed its parameters in place."""


class Kept(NamedTuple):
    """An admitted decision, with its charges, to be settled or released later."""

    decision: Decision
    twin: Decision | None
    seen: Seen
    charges: list[tuple[Ledger, Charge, bool]]
    """Where it was noted, and whether the limit was one of concurrency."""
    ideals: list[Ideal]
    """Ideal buckets that were charged."""
    cost: int
    generation: int


class Failure(Exception):
    """A decision that no reading of the rules allows."""


class Looser(Failure):
    """Too much was admitted."""

    def __init__(self, who: str, excess: Excess) -> None:
        rules = "; ".join(f"{s.elapsed / 1e9:g} s of {s.rule}" for s in excess.spans[:9])
        super().__init__(f"{who}: {excess.total} admitted where {excess.most:g} are due: {rules}")
        self.kinds = sorted({span.rule.kind for span in excess.spans})


class Touched(Failure):
    """A request that no publication touched was decided in another way."""


class Misnamed(Failure):
    """A refusal named an instant at which the request is not admitted, or a later one than due."""


class Player(World):
    """Plays one story on one engine; raises a `Failure` at the first decision that is wrong."""

    def __init__(self, make: MakeEngine, story: Story) -> None:
        self.make, self.story = make, story
        self.seen = [Seen(request) for request in story.requests]
        self.shared: dict[Any, Ledger] = {}
        self.kept: list[Kept] = []
        self.passed, self.last, self.furthest, self.stepped = 0, 0, 0, False
        self.kind = "start"
        self.counts: Counter[str] = Counter()
        self.documents: Documents = {}
        self.exceptions: Sequence[Mapping[str, Any]] = ()
        self.position = 0
        """Steps begun."""
        self.strangers_came = any(step[0] == "strangers" for step in story.steps)

    def play(self) -> Counter[str]:
        for step in self.story.steps:
            self.position += 1
            getattr(self, f"do_{step[0]}")(*step[1:])
        return self.counts

    # Steps

    def do_publish(
        self, kind: str, documents: Documents, exceptions: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        self.kind, self.documents, self.exceptions = kind, documents, exceptions
        if hasattr(self, "engine"):
            self.publish(documents, exceptions)
        else:
            super().__init__(self.make, documents, max_buckets=self.story.max_buckets)
            self._twins()

    def do_wait(self, duration: int) -> None:
        if duration < 0:
            self._step_back()
        self.pass_ns(duration)
        self._time()

    def do_wall(self, duration: int) -> None:
        if duration < 0:
            self._step_back()
        self.offset.ns += duration
        for seen in self.seen:
            if seen.twin is not None:
                seen.twin.offset.ns += duration
        self.pass_ns(0)
        self._time()

    def do_ask(self, number: int, cost: int) -> bool:
        seen, at = self.seen[number], self._time()
        decision = self._decide(seen, cost, at)
        twin = self._compare(seen, decision, cost)
        self.counts["decisions"] += 1
        if not decision:
            self._stricter(seen, cost, at)
        elif cost:
            self.kept.append(Kept(decision, twin, seen, [], [], cost, self.generation))
            self._admitted(self.kept[-1], cost, at)
        return decision.allowed

    def do_drain(self, number: int) -> None:
        for cost in DRAIN:
            for _ in range(12):
                if not self.do_ask(number, cost):
                    break

    def do_named(self, number: int, cost: int) -> None:
        """Ask; if it is refused for a while, ask 1 ns before the named instant, and at it."""
        if self.do_ask(number, cost) or self.stepped:
            return
        scope, attributes = self.seen[number].request
        refused = self.engine.check(scope, attributes, cost, self.now)
        wait = refused.retry_after_ns
        if wait is None or wait > LONGEST or self._changes_within(wait):
            return
        self.do_wait(wait - 1)
        early = self.do_ask(number, cost)
        self.do_wait(1)
        if early or not self.do_ask(number, cost):
            told = "it was admitted 1 ns before" if early else "it was refused then as well"
            raise Misnamed(f"{_shown(self.seen[number].request)}, cost {cost}: {refused!r}, {told}")

    def _changes_within(self, duration: int) -> bool:
        return self._until is not None and self._until - self.offset.ns <= self.now + duration

    def do_strangers(self, count: int, scope: str, attributes: Attributes) -> None:
        self._time()
        self.strangers(count, scope, **attributes)

    def do_settle(self, number: int, actual: int) -> None:
        if not self.kept:
            return
        kept, at = self.kept[number % len(self.kept)], self._time()
        self.engine.settle(kept.decision, actual, self.now)
        if kept.twin is not None and kept.seen.twin is not None:
            kept.seen.twin.engine.settle(kept.twin, actual, self.now)
        del self.kept[number % len(self.kept)]
        for ledger, charge, slot in kept.charges:
            if not slot and (actual < charge.cost or kept.generation == self.generation):
                ledger.settle(charge, actual, at)
        if actual > kept.cost:
            for ideal in kept.ideals:
                ideal.charge(None, actual - kept.cost, at)

    def do_release(self, number: int) -> None:
        if not self.kept:
            return
        kept = self.kept.pop(number % len(self.kept))
        kept.decision.release()
        if kept.twin is not None:
            kept.twin.release()
        for _, charge, slot in kept.charges:
            charge.released = slot

    # Time and publications

    def _time(self) -> Time:
        self.passed += max(0, self.now - self.last)
        self.last = self.now
        wall = self.now + self.offset.ns
        self.furthest = max(self.furthest, wall)
        return Time(self.passed, wall, self.furthest, self.stepped)

    def _step_back(self) -> None:
        self.stepped = True
        for seen in self.seen:
            seen.twin = None

    def _swap(self) -> None:
        super()._swap()
        at, wall = self._time(), self.now + self.offset.ns
        for seen in self.seen:
            self._follow(seen, resolve(self.documents, self.exceptions, *seen.request, wall), at)
        self._share(at)

    def _follow(self, seen: Seen, rulings: dict[str, Ruling], at: Time) -> None:
        first, before, seen.rulings = not seen.ledgers, seen.rulings, rulings
        for name in {*before, *rulings}:
            old, new = before.get(name), rulings.get(name)
            if not first and (old is None or new is None or old.identity != new.identity):
                seen.moved = self.kind
            elif old is not None and new is not None and old.fields != new.fields:
                seen.changed = self.kind
        if not first and before != rulings:
            seen.twin = None
        for name in {*rulings, *seen.ledgers}:
            rule = rulings[name].rule if name in rulings else None
            seen.ledgers.setdefault(name, Ledger()).rule(rule, at)
            seen.ideals.setdefault(name, Ideal()).rule(rule, at)

    def _share(self, at: Time) -> None:
        """Find requests that share a bucket, and follow every bucket in force."""
        users: dict[Any, int] = Counter()
        in_force: dict[Any, Any] = {}
        for seen in self.seen:
            for ruling in seen.rulings.values():
                users[ruling.place] += 1
                in_force[ruling.identity] = ruling.rule
        for seen in self.seen:
            for ruling in seen.rulings.values():
                open_to_all = self.strangers_came and "tenant" not in ruling.place[2]
                if users[ruling.place] > 1 or open_to_all:
                    seen.shared, seen.twin = True, None
        for identity in {*in_force, *self.shared}:
            self.shared.setdefault(identity, Ledger()).rule(in_force.get(identity), at)

    def _twins(self) -> None:
        for seen in self.seen:
            if not seen.shared:
                bound = self.story.max_buckets
                seen.twin = World(self.make, self.documents, max_buckets=bound)

    # Judging

    def _decide(self, seen: Seen, cost: int, at: Time) -> Decision:
        scope, attributes = seen.request
        return self.engine.check(scope, attributes, cost, self.now)

    def _compare(self, seen: Seen, decision: Decision, cost: int) -> Decision | None:
        if seen.twin is None:
            return None
        scope, attributes = seen.request
        twin = seen.twin.engine.check(scope, attributes, cost, self.now)
        mine, other = ([getattr(each, name) for name in FIELDS] for each in (decision, twin))
        self.counts["compared with an engine without publications"] += 1
        if mine != other and not self.engine.usage().overflowed:
            told = f"{_shown(seen.request)}, cost {cost}: {decision!r} where {twin!r} is due"
            raise Touched(f"no publication touched it, {told}")
        return twin

    def _admitted(self, kept: Kept, cost: int, at: Time) -> None:
        for name, ruling in kept.seen.rulings.items():
            slot = isinstance(ruling.rule, Slots)
            own, common = kept.seen.ledgers[name], self.shared[ruling.identity]
            for ledger, who in ((own, _shown(kept.seen.request)), (common, str(ruling.identity))):
                charge, excess = ledger.admit(at, cost)
                kept.charges.append((ledger, charge, slot))
                if excess is not None:
                    raise Looser(f"{name} of {who}", excess)
                if ledger is own:
                    kept.seen.ideals[name].charge(charge, cost, at)
                    kept.ideals.extend([] if slot else [kept.seen.ideals[name]])

    def _stricter(self, seen: Seen, cost: int, at: Time) -> None:
        self.counts["refused"] += 1
        if all(seen.ideals[name].admits(cost, at) for name in seen.rulings):
            why = seen.moved or seen.changed or "untouched"
            if self.stepped:
                why = "a clock stepped back"
            elif seen.shared:
                why = "shared"
            elif self.engine.usage().overflowed:
                why = "no room for buckets"
            self.counts[f"stricter: {why}"] += 1


def _shown(request: Request) -> str:
    return f"{request.scope} {request.attributes}"
