"""A naive rate limiter, written from the documentation only, as a reference for agents.

It shares no code with ratectl. Documents are read with PyYAML's plainest loader, limits merged with
dictionaries, tokens are fractions, windows are lists of what was admitted. Slow, and obvious.
"""

from __future__ import annotations

import ipaddress
import math
import re
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Answer", "Oracle", "documents"]

SECONDS = {"s": 1, "min": 60, "h": 3600, "day": 86_400, "week": 604_800}
NS = 10**9
NEVER = math.inf


class Answer(NamedTuple):
    """The oracle's decision; each field must equal an agent's."""

    allowed: bool
    reason: str
    scope: str | None
    limit: str | None
    capacity: int | None
    remaining: int | None
    retry_after_ns: int | None
    generation: int


# Documents --------------------------------------------------------------------------------------


def documents(*texts: str) -> dict[str, dict[str, Any]]:
    """Return the policies by scope."""
    # BaseLoader: every scalar is its text; YAML 1.1 would read `off` as false.
    found = [each for text in texts for each in yaml.load_all(text, Loader=yaml.BaseLoader)]
    return {each["scope"]: each for each in found if each.get("kind", "Policy") == "Policy"}


def path_to(scope: str) -> list[str]:
    parts = [part for part in scope.split("/") if part]
    return ["/"] + ["/" + "/".join(parts[: n + 1]) for n in range(len(parts))]


def parse_rate(text: str) -> tuple[Fraction, int] | None:
    """Return count and window in nanoseconds; None for unlimited."""
    if text == "unlimited":
        return None
    match = re.fullmatch(r"([\d_.]+)/(\d*)([a-z]+)", text)
    assert match, text
    window = int(match[2] or 1) * SECONDS[match[3]] * NS
    return Fraction(match[1].replace("_", "")), window


def conditions(tree: Mapping[str, dict[str, Any]], scope: str) -> list[dict[str, Any]]:
    """Return the overrides along the path, each with a unique name."""
    return [
        {**override, "ref": f"{override['name']}@{each}"}
        for each in path_to(scope)
        if each in tree
        for override in tree[each].get("overrides", [])
    ]


def holds(override: Mapping[str, Any], attributes: Mapping[str, str]) -> bool:
    return all(fits(wanted, attributes.get(name)) for name, wanted in override["match"].items())


def fits(wanted: Any, value: str | None) -> bool:
    """Return True if a value satisfies a matcher."""
    if isinstance(wanted, dict):
        ((form, inner),) = wanted.items()
        if form == "exists":
            return (value is not None) == (inner == "true")
        if form == "not":
            return value is None or not fits(inner, value)
        networks = [inner] if isinstance(inner, str) else inner
        return value is not None and any(
            ipaddress.ip_address(value) in ipaddress.ip_network(each) for each in networks
        )
    if value is None:
        return False
    if isinstance(wanted, list):
        return any(fits(each, value) for each in wanted)
    pattern = "".join(".*" if char == "*" else re.escape(char) for char in wanted)
    return re.fullmatch(pattern, value, re.DOTALL) is not None


class Merging:
    """The fields of each limit, and which overrides set them ("" for a document's own limits)."""

    def __init__(self) -> None:
        self.fields: dict[str, dict[str, Any]] = {}
        self.by: dict[str, dict[str, list[str]]] = {}

    def document(self, document: Mapping[str, Any], matched: frozenset[str]) -> None:
        for name in document.get("unset", []):
            self.fields.pop(name, None)
            self.by.pop(name, None)
        for name, fields in document.get("limits", {}).items():
            self.merge(name, fields, "")
        for override in document.get("overrides", []):
            ref = f"{override['name']}@{document['scope']}"
            if ref in matched:
                for name, fields in override["limits"].items():
                    self.merge(name, fields, ref)

    def merge(self, name: str, fields: Mapping[str, Any], ref: str) -> None:
        inherited, by = dict(self.fields.get(name, {})), dict(self.by.get(name, {}))
        if fields.get("algorithm") == "sliding-window":
            inherited.pop("burst", None)
            by.pop("burst", None)
        self.fields[name] = {**inherited, **fields}
        for field_ in fields:
            # An override that changed the algorithm dropped fields: it always selects the bucket.
            by[field_] = [*(by.get(field_, []) if field_ == "algorithm" else []), ref]
        self.by[name] = by


def in_force(
    tree: Mapping[str, dict[str, Any]], scope: str, matched: frozenset[str] = frozenset()
) -> list[Limit] | None:
    """Return the limits of a declared scope, in order, if the overrides in ``matched`` match.

    Returns None if no policy covers the scope.
    """
    path = [tree[each] for each in path_to(scope) if each in tree]
    if not path:
        return None
    merging = Merging()
    caps: dict[str, list[dict[str, Any]]] = {}
    for document in path:
        merging.document(document, matched)
        for name, cap in document.get("caps", {}).items():
            caps.setdefault(name, []).append(cap)
    declared = path[-1]["scope"]
    order = [each["ref"] for each in conditions(tree, scope)]
    found = []
    for name, fields in merging.fields.items():
        limit = finish(declared, name, fields, caps.get(name, []))
        if limit is not None:
            by = {ref for refs in merging.by[name].values() for ref in refs}
            touched = tuple(ref for ref in order if ref in by)
            found.append(replace(limit, touched=touched))
    return found


def finish(
    scope: str, name: str, fields: dict[str, Any], caps: list[dict[str, Any]]
) -> Limit | None:
    """Return a limit after caps; None if it never refuses."""
    written = parse_rate(fields["rate"])
    per = fields.get("per", [])
    per = [per] if isinstance(per, str) else per
    window_kind = fields.get("algorithm") == "sliding-window"
    rates = [parse_rate(cap["rate"]) for cap in caps if "rate" in cap]
    bursts = [int(cap["burst"]) for cap in caps if "burst" in cap]
    if fields.get("mode") == "off" or written is None:
        assert not caps, "the oracle does not know capped unlimited limits"
        return None
    count, window = written
    if window_kind:
        most = min([int(count), *(math.floor(c * window / w) for c, w in filter(None, rates))])
        rule: Rule = Window(min([most, *bursts]), window)
    else:
        pace = count / window
        burst = int(fields.get("burst", max(1, math.ceil(pace * NS))))
        rule = Bucket(min([pace, *(c / w for c, w in filter(None, rates))]), min([burst, *bursts]))
    return Limit(scope, name, tuple(per), fields.get("mode") == "shadow", rule)


# Algorithms -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bucket:
    """Token bucket: tokens per nanosecond, and its capacity. State: (tokens, hidden, at).

    ``hidden``: tokens that are missing beside those that an untouched bucket has and this one not.
    """

    pace: Fraction
    most: int

    def fresh(self, now: int) -> Any:
        return (Fraction(self.most), Fraction(0), now)

    def at(self, state: Any, now: int) -> tuple[Fraction, Fraction, int]:
        tokens, hidden, since = state
        grown = tokens + (now - since) * self.pace
        lost = max(Fraction(0), grown - self.most)
        return (grown - lost, max(Fraction(0), hidden - lost) if lost else hidden, now)

    def free(self, state: Any, now: int) -> int:
        return math.floor(self.at(state, now)[0])

    def wait(self, state: Any, cost: int, now: int) -> float:
        if cost > self.most or not self.pace:
            return NEVER
        missing = cost - self.at(state, now)[0]
        return math.ceil(missing / self.pace) if missing > 0 else 0

    def take(self, state: Any, cost: int, now: int) -> Any:
        tokens, hidden, _ = self.at(state, now)
        return (tokens - cost, hidden, now)

    def missing(self, state: Any, now: int) -> Fraction:
        tokens, hidden, _ = self.at(state, now)
        return self.most - tokens + hidden

    def stricter(self, one: Any, other: Any, now: int) -> Any:
        tokens = min(self.at(one, now)[0], self.at(other, now)[0])
        missing = max(self.missing(one, now), self.missing(other, now))
        return (tokens, missing - (self.most - tokens), now)

    def absolute(self, state: Any, untouched: Any, now: int) -> Any:
        """Return the state with all that is missing from a full bucket; hidden may be negative."""
        tokens, hidden, _ = self.at(state, now)
        return (tokens, hidden - (self.most - self.at(untouched, now)[0]), now)

    def relative(self, state: Any, untouched: Any, now: int) -> Any:
        tokens, hidden, _ = self.at(state, now)
        return (tokens, max(Fraction(0), hidden + self.most - self.at(untouched, now)[0]), now)


Cell = tuple[int, int]
"""Instant of the latest request, and cost."""


@dataclass(frozen=True)
class Window:
    """Sliding window. State: cells, oldest first, and how many of these no refund can change.

    The first 16 instants have cells of their own. Then the newest cell collects up to a 24th of
    ``most`` before the next one begins, and at most 23 others remain. The instants of these are
    rounded up, and their counts are whole grains, so that both fit 32 bits.
    """

    most: int
    window: int

    @property
    def grain(self) -> int:
        """Smallest power of two of which 4,000 make ``most``."""
        return int(2 ** max(0, math.ceil(math.log2(self.most / 4_000)))) if self.most else 1

    def late(self, instant: int) -> int:
        """Return an instant rounded up to the time that fits beside a count."""
        bits = 32 - min(12, max(1, self.most.bit_length()))
        unit = 2 ** max(0, (self.window + 1).bit_length() - bits)
        return -(-instant // unit) * unit

    def fresh(self, now: int) -> Any:
        return ((), 0)

    def at(self, state: Any, now: int) -> tuple[tuple[Cell, ...], int]:
        """Return the state at ``now``: a cell counts until the window has passed."""
        cells, lasting = state
        kept = tuple([cell for cell in cells if cell[0] + self.window > now])
        return kept, max(0, lasting - (len(cells) - len(kept)))

    def used(self, state: Any, now: int) -> int:
        return sum(cost for _, cost in self.at(state, now)[0])

    def free(self, state: Any, now: int) -> int:
        return max(0, self.most - self.used(state, now))

    def wait(self, state: Any, cost: int, now: int) -> float:
        if cost > self.most or not self.most:
            return NEVER
        for until in [now, *sorted(t + self.window for t, _ in self.at(state, now)[0])]:
            if cost <= self.most - self.used(state, until):
                return until - now
        raise AssertionError("an empty window admits what is not above its count")

    def take(self, state: Any, cost: int, now: int) -> Any:
        cells, lasting = self.at(state, now)
        if not cost:
            return cells, lasting
        if not self.used(state, now):
            return ((now, cost),), 0
        *others, (latest, count) = cells
        part = math.ceil(math.ceil(self.most / 24) / self.grain) * self.grain
        full = count + cost > part and now >= self.late(latest)
        if latest < now and (full or len(others) < 15):
            return self.packed((*others, (latest, count), (now, cost)), lasting)
        return (*others, (now, count + cost)), lasting

    def packed(self, cells: tuple[Cell, ...], lasting: int) -> tuple[tuple[Cell, ...], int]:
        """Return at most 24 cells; if there are more than 16, all but the newest are rounded."""
        if len(cells) <= 16:
            return cells, lasting
        *others, (latest, newest) = cells
        kept: list[Cell] = []
        rest = 0
        for instant, count in others:
            rest += count
            if self.late(instant) <= latest:
                kept.append((self.late(instant), rest - rest % self.grain))
                rest %= self.grain
        lasting = min(lasting, len(kept) + 1)
        while len(kept) > 23:
            i = min(range(len(kept) - 1), key=lambda i: kept[i][1] + kept[i + 1][1])
            kept[i : i + 2] = [(kept[i + 1][0], kept[i][1] + kept[i + 1][1])]
            lasting -= lasting > i + 1
        return (*kept, (latest, newest + rest)), lasting

    def stricter(self, one: Any, other: Any, now: int) -> Any:
        """At every later instant, the larger of the two counts."""
        (cells, lasting), (others, _) = self.at(one, now), self.at(other, now)

        def count(log: Sequence[Cell], since: int) -> int:
            return sum(cost for t, cost in log if t >= since)

        if all(count(others, t) <= count(cells[:lasting], t) for t, _ in others):
            return cells, lasting
        log: list[Cell] = []
        for t in sorted({now, *(t for t, _ in (*cells, *others))}, reverse=True):
            cost = max(count(cells, t), count(others, t)) - count(log, t)
            log += [(t, cost)] if cost or t == now else []
        return self.packed(tuple(reversed(log)), len(log))

    def absolute(self, state: Any, untouched: Any, now: int) -> Any:
        return state

    relative = absolute


Rule = Bucket | Window


def changed(old: Rule, new: Rule, state: Any, now: int, *, in_use: bool = False) -> Any:
    """Return a bucket's state after a change of parameters at ``now``.

    ``in_use``: it is what a request carries over to a bucket that others have used.
    """
    state = old.at(state, now)
    if isinstance(old, Bucket) and isinstance(new, Bucket):
        missing = old.missing(state, now)
        tokens = min(Fraction(new.most), max(state[0], new.most - missing if in_use else 0))
        return (tokens, missing - (new.most - tokens), now)
    if isinstance(old, Bucket):
        assert isinstance(new, Window)
        return (((now, math.ceil(old.missing(state, now))),), 1)
    counted = old.used(state, now)
    if isinstance(new, Bucket):
        tokens = Fraction(max(0, new.most - counted))
        return (tokens, counted - (new.most - tokens), now)
    return new.packed(*new.at(state, now))


# Deciding ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Limit:
    scope: str
    name: str
    per: tuple[str, ...]
    shadow: bool
    rule: Rule
    touched: tuple[str, ...] = ()
    """Names of the overrides that select its bucket."""


@dataclass
class Group:
    """All buckets of one scope, limit, set of overrides and ``per``, while the limit is in force.

    ``saved``: for each generation that ended, the limit, the buckets, and that of untouched keys.
    """

    limit: Limit
    untouched: Any
    buckets: dict[Any, Any] = field(default_factory=dict)
    saved: dict[int, tuple[Limit, dict[Any, Any], Any]] = field(default_factory=dict)

    def key(self, attributes: Mapping[str, str]) -> tuple[str | None, ...]:
        return tuple(attributes.get(name) for name in self.limit.per)

    def left(self, generation: int, attributes: Mapping[str, str], now: int) -> Any:
        """Return what a request left here at the end of a generation, at ``now``."""
        limit, buckets, untouched = self.saved[generation]
        state = buckets.get(self.key(attributes), untouched)
        return limit.rule.absolute(state, untouched, now)

    def end(self, generation: int) -> None:
        self.saved[generation] = (self.limit, dict(self.buckets), self.untouched)

    def follow(self, limit: Limit, now: int) -> None:
        """Change every bucket in place."""
        old, new, untouched = self.limit.rule, limit.rule, self.untouched
        self.limit = limit
        if old == new:
            return
        after = changed(old, new, old.absolute(untouched, untouched, now), now)
        self.untouched = new.relative(after, after, now)
        for key, state in self.buckets.items():
            moved = changed(old, new, old.absolute(state, untouched, now), now)
            self.buckets[key] = new.relative(moved, self.untouched, now)


@dataclass
class Shelf:
    """One limit of a scope, for every set of overrides."""

    scope: str
    name: str
    conditions: list[dict[str, Any]]
    variants: dict[frozenset[str], Limit]

    def limit(self, attributes: Mapping[str, str]) -> Limit | None:
        matched = frozenset(each["ref"] for each in self.conditions if holds(each, attributes))
        return self.variants.get(matched)


def group_name(limit: Limit) -> tuple[Any, ...]:
    return (limit.scope, limit.name, limit.touched, limit.per)


class Generation(NamedTuple):
    """Policies that were in force from an instant on."""

    number: int
    since: int
    declared: list[str]
    shelves: dict[tuple[str, str], Shelf]
    groups: dict[tuple[Any, ...], Group]

    def limit(self, scope: str, name: str, attributes: Mapping[str, str]) -> Limit | None:
        """Return the limit of a name that a request had."""
        home = next((s for s in reversed(path_to(scope)) if s in self.declared), None)
        shelf = self.shelves.get((home, name)) if home else None
        return None if shelf is None else shelf.limit(attributes)


def shelves(tree: Mapping[str, dict[str, Any]], scope: str) -> list[Shelf]:
    """Return every limit that a scope has for any request, in the order of the engine's plan."""
    every = conditions(tree, scope)
    names = [limit.name for limit in in_force(tree, scope) or []]
    names += [name for name in _all_names(tree, scope) if name not in names]
    found = []
    for name in names:
        relevant = [each for each in every if name in each["limits"]]
        variants = {}
        for size in range(len(relevant) + 1):
            for chosen in combinations([each["ref"] for each in relevant], size):
                for limit in in_force(tree, scope, frozenset(chosen)) or []:
                    if limit.name == name:
                        variants[frozenset(chosen)] = limit
        if variants:
            found.append(Shelf(scope, name, relevant, variants))
    return found


def _all_names(tree: Mapping[str, dict[str, Any]], scope: str) -> list[str]:
    return [name for each in conditions(tree, scope) for name in sorted(each["limits"])]


class Oracle:
    """Decides requests by the documents last given. It forgets nothing."""

    def __init__(self) -> None:
        self.generation = 0
        self.past: list[Generation] = []
        self.done: set[tuple[Any, ...]] = set()
        """Keys and paths of the requests that have carried over what they left."""

    def reload(self, tree: Mapping[str, dict[str, Any]], now: int) -> None:
        """Replace all policies at once."""
        old = self.past[-1].groups if self.past else {}
        for group in old.values():
            group.end(self.generation)
        self.generation += 1
        found = {(scope, shelf.name): shelf for scope in tree for shelf in shelves(tree, scope)}
        groups: dict[tuple[Any, ...], Group] = {}
        for limit in [limit for shelf in found.values() for limit in shelf.variants.values()]:
            name = group_name(limit)
            if name in groups:
                continue
            if name in old:
                old[name].follow(limit, now)
            groups[name] = old.get(name) or Group(limit, limit.rule.fresh(now))
        self.past.append(Generation(self.generation, now, list(tree), found, groups))

    def carried(
        self, scope: str, name: str, attributes: Mapping[str, str]
    ) -> tuple[Any, tuple[Any, ...]]:
        """Return what a request carries over to the bucket that serves it now; None for nothing.

        And its path: the buckets that it left.
        """
        path: list[Any] = []
        state: Any = None
        rule: Rule | None = None
        before: Group | None = None
        for generation in self.past:
            limit = generation.limit(scope, name, attributes)
            group = None if limit is None else generation.groups[group_name(limit)]
            if before is not None and group is not before:
                assert rule is not None
                left = before.left(generation.number - 1, attributes, generation.since)
                path += [generation.number, id(before), before.key(attributes)]
                state = left if state is None else rule.stricter(state, left, generation.since)
            if limit is not None:
                if state is not None:
                    assert rule is not None
                    again = before is None  # the limit did not apply for a while
                    in_use = again or (
                        group is not before and self._was_in_force(group, generation)
                    )
                    state = changed(rule, limit.rule, state, generation.since, in_use=in_use)
                rule = limit.rule
            before = group
        return state, (len(self.past), id(before), *path)

    def _was_in_force(self, group: Group | None, generation: Generation) -> bool:
        before = next((each for each in self.past if each.number == generation.number - 1), None)
        return before is not None and any(each is group for each in before.groups.values())

    def look(
        self, scope: str, name: str, attributes: Mapping[str, str], now: int
    ) -> tuple[Group, Any, Any] | None:
        """Return the group, key and state of the bucket that serves a request, if it has one."""
        limit = self.past[-1].limit(scope, name, attributes)
        if limit is None:
            return None
        group = self.past[-1].groups[group_name(limit)]
        key, rule = group.key(attributes), limit.rule
        state = group.buckets.get(key, group.untouched)
        brought, path = self.carried(scope, name, attributes)
        if brought is not None and (key, *path) not in self.done:
            self.done.add((key, *path))
            brought = rule.relative(brought, group.untouched, now)
            state = group.buckets[key] = rule.stricter(state, brought, now)
        return group, key, state

    def check(self, scope: str, attributes: Mapping[str, str], cost: int, now: int) -> Answer:
        present = self.past[-1] if self.past else None
        declared = None
        if present is not None:
            declared = next((s for s in reversed(path_to(scope)) if s in present.declared), None)
        if present is None or declared is None:
            return Answer(True, "no_policy", None, None, None, None, 0, self.generation)
        names = [name for of, name in present.shelves if of == declared]
        looks = [self.look(scope, name, attributes, now) for name in names]
        seen = [look for look in looks if look is not None]
        waits = [g.limit.rule.wait(state, cost, now) for g, _, state in seen]
        enforced = [n for n, (g, _, _) in enumerate(seen) if not g.limit.shadow]
        if any(waits[n] for n in enforced):
            worst = max(enforced, key=lambda n: waits[n])
            return self._answer(seen[worst][0], seen[worst][2], now, waits[worst])
        return self._admit(declared, seen, waits, cost, now)

    def _admit(
        self, declared: str, seen: list[Any], waits: list[float], cost: int, now: int
    ) -> Answer:
        """Charge the admitting limits; the decision names the one with the least share left."""
        named: tuple[Group, Any] | None = None
        shadowed: tuple[Group, Any] | None = None
        for (group, key, state), wait in zip(seen, waits, strict=True):
            if wait:
                shadowed = (group, state)
                continue
            rule = group.limit.rule
            after = rule.take(state, cost, now) if cost else state
            if cost:
                group.buckets[key] = after
            if not group.limit.shadow and (
                named is None or _share(group, after, now) < _share(*named, now)
            ):
                named = (group, after)
        if shadowed is not None:
            return self._answer(*shadowed, now, 0, "shadow")
        if named is None:
            return Answer(True, "ok", declared, None, None, None, 0, self.generation)
        return self._answer(*named, now, 0)

    def _answer(
        self, group: Group, state: Any, now: int, wait: float, reason: str = "ok"
    ) -> Answer:
        if wait:
            reason = "never" if wait == NEVER else "limited"
        return Answer(
            not wait, reason, group.limit.scope, group.limit.name, group.limit.rule.most,
            group.limit.rule.free(state, now), None if wait == NEVER else int(wait),
            self.generation,
        )  # fmt: skip


def _share(group: Group, state: Any, now: int) -> Fraction:
    """Return what is left in a bucket, as a share of what it holds when full."""
    rule = group.limit.rule
    return Fraction(rule.free(state, now), rule.most or 1)
