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
    from collections.abc import Callable, Mapping

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
    """Token bucket: tokens per nanosecond, and its capacity. State: (tokens, at)."""

    pace: Fraction
    most: int

    def fresh(self, now: int) -> Any:
        return (Fraction(self.most), now)

    def at(self, state: Any, now: int) -> tuple[Fraction, int]:
        tokens, since = state
        return (min(Fraction(self.most), tokens + (now - since) * self.pace), now)

    def free(self, state: Any, now: int) -> int:
        return math.floor(self.at(state, now)[0])

    def wait(self, state: Any, cost: int, now: int) -> float:
        if cost > self.most or not self.pace:
            return NEVER
        missing = cost - self.at(state, now)[0]
        return math.ceil(missing / self.pace) if missing > 0 else 0

    def take(self, state: Any, cost: int, now: int) -> Any:
        return (self.at(state, now)[0] - cost, now)

    def stricter(self, one: Any, other: Any, now: int) -> Any:
        return (min(self.at(one, now)[0], self.at(other, now)[0]), now)

    def settles(self) -> float:
        return math.ceil(self.most / self.pace) if self.pace else NEVER


@dataclass(frozen=True)
class Window:
    """Sliding window. State: a log of (instant, cost) admitted."""

    most: int
    window: int

    def fresh(self, now: int) -> Any:
        return ()

    def at(self, state: Any, now: int) -> tuple[tuple[int, int], ...]:
        """Return the state at ``now``: a request counts until the window has passed."""
        return tuple((t, cost) for t, cost in state if t + self.window > now)

    def free(self, state: Any, now: int) -> int:
        return max(0, self.most - sum(cost for _, cost in self.at(state, now)))

    def wait(self, state: Any, cost: int, now: int) -> float:
        if cost > self.most or not self.most:
            return NEVER
        for until in [now, *sorted(t + self.window for t, _ in self.at(state, now))]:
            if cost <= self.most - sum(c for _, c in self.at(state, until)):
                return until - now
        raise AssertionError("an empty window admits what is not above its count")

    def take(self, state: Any, cost: int, now: int) -> Any:
        return (*self.at(state, now), (now, cost))

    def stricter(self, one: Any, other: Any, now: int) -> Any:
        """Return a log that counts, after each instant, the larger of two counts."""
        logs = self.at(one, now), self.at(other, now)
        log: list[tuple[int, int]] = []
        for instant in sorted({t for each in logs for t, _ in each}, reverse=True):
            most = max(sum(c for t, c in each if t >= instant) for each in logs)
            log.append((instant, most - sum(c for _, c in log)))
        return tuple(log)

    def settles(self) -> float:
        return self.window


Rule = Bucket | Window


def changed(old: Rule, new: Rule, state: Any, now: int) -> Any:
    """Return a bucket's state after a change of parameters at ``now``."""
    state = old.at(state, now)
    if isinstance(old, Bucket) and isinstance(new, Bucket):
        return (min(state[0], Fraction(new.most)), now)
    if isinstance(old, Bucket):
        assert isinstance(new, Window)
        return ((now, math.ceil(old.most - state[0])),)
    counted = sum(cost for _, cost in state)
    if isinstance(new, Bucket):
        return (Fraction(max(0, new.most - counted)), now)
    return new.at(state, now)


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
    """All buckets of one limit, and the one that no request has touched.

    A limit that changes gets a new group; what its buckets were before is asked of the old one,
    which stands still from then on. A scope newly declared, or one whose overrides changed, asks
    the group that served the request before, which may be living still; but only for as long as any
    bucket takes to fill.
    """

    limit: Limit
    untouched: Any
    before: Callable[[Mapping[str, str], int], list[Group]] | None = None
    """Group that a request's bucket is read from, with the key there."""
    before_until: float = NEVER
    buckets: dict[Any, Any] = field(default_factory=dict)
    since: int = 0
    stands: float = NEVER
    """Time at which this group was replaced."""

    def key(self, attributes: Mapping[str, str]) -> tuple[str | None, ...]:
        return tuple(attributes.get(name) for name in self.limit.per)

    def pristine(self, attributes: Mapping[str, str], now: int) -> bool:
        """Return True if a request's bucket equals that of an untouched key."""
        state, at = self.state(attributes, now)
        return self.limit.rule.at(state, at) == self.limit.rule.at(self.untouched, at)

    def state(self, attributes: Mapping[str, str], now: int) -> tuple[Any, int]:
        """Return the bucket of a request with its time: now, or when the group was replaced."""
        key, here = self.key(attributes), int(min(now, self.stands))
        if key in self.buckets:
            return self.buckets[key], here
        if self.before is None or here >= self.before_until:
            return self.untouched, here
        found = [self._from(old, attributes, now) for old in self.before(attributes, now)]
        if not found:
            return self.untouched, here
        here = max(here, *(at for _, at in found))
        state = found[0][0]
        for other, _ in found[1:]:
            state = self.limit.rule.stricter(state, other, here)
        return state, here

    def _from(self, old: Group, attributes: Mapping[str, str], now: int) -> tuple[Any, int]:
        state, at = old.state(attributes, now)
        at = max(at, self.since)
        return changed(old.limit.rule, self.limit.rule, state, at), at


@dataclass
class Shelf:
    """Groups of one limit, by the overrides that select them."""

    scope: str
    name: str
    conditions: list[dict[str, Any]]
    variants: dict[frozenset[str], Limit]
    declarations: Any
    """Everything that the documents set for the limit."""
    groups: dict[tuple[str, ...], Group] = field(default_factory=dict)

    def matched(self, attributes: Mapping[str, str]) -> frozenset[str]:
        return frozenset(each["ref"] for each in self.conditions if holds(each, attributes))

    def group(self, attributes: Mapping[str, str]) -> Group | None:
        limit = self.variants.get(self.matched(attributes))
        return None if limit is None else self.groups[limit.touched]

    def shape(self) -> Any:
        plans = {mask: (limit.touched, limit.per) for mask, limit in self.variants.items()}
        return [(each["ref"], each["match"]) for each in self.conditions], plans

    def replaced(self, now: int) -> None:
        for group in self.groups.values():
            group.stands = now

    def sources(self, touched: tuple[str, ...]) -> Callable[[Mapping[str, str], int], list[Group]]:
        """Return the groups to inherit from: the earlier one, and the own one if charged."""

        def found(attributes: Mapping[str, str], now: int) -> list[Group]:
            served, own = self.group(attributes), self.groups.get(touched)
            groups = [served] if served is not None else []
            if own is not None and own is not served and not own.pristine(attributes, now):
                groups.append(own)
            return groups

        return found


def _only(group: Group | None) -> Callable[[Mapping[str, str], int], list[Group]]:
    return lambda attributes, now: [] if group is None else [group]


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
        declarations = [_declared(tree[each], name) for each in path_to(scope) if each in tree]
        if variants:
            found.append(Shelf(scope, name, relevant, variants, declarations))
    return found


def _all_names(tree: Mapping[str, dict[str, Any]], scope: str) -> list[str]:
    return [name for each in conditions(tree, scope) for name in sorted(each["limits"])]


def _declared(document: Mapping[str, Any], name: str) -> Any:
    overrides = [
        (each["name"], each["match"], each["limits"][name])
        for each in document.get("overrides", [])
        if name in each["limits"]
    ]
    declared = [name in document.get("unset", []), *(
        document.get(part, {}).get(name) for part in ("limits", "caps")
    ), overrides]  # fmt: skip
    return [document["scope"], *declared] if any(declared) else None


class Oracle:
    """Decides requests by the documents last given."""

    def __init__(self) -> None:
        self.generation = 0
        self.tree: Mapping[str, dict[str, Any]] = {}
        self.shelves: dict[tuple[str, str], Shelf] = {}

    def reload(self, tree: Mapping[str, dict[str, Any]], now: int) -> None:
        """Replace all policies at once, without losing a bucket or making tokens."""
        old_tree, old = self.tree, self.shelves
        self.generation, self.tree, self.shelves = self.generation + 1, tree, {}
        for scope in tree:
            served = next((s for s in reversed(path_to(scope)) if s in old_tree), None)
            for shelf in shelves(tree, scope):
                before = old.get((served, shelf.name)) if served else None
                self._succeed(before, shelf, now)
                self.shelves[scope, shelf.name] = shelf
        living = {id(g) for shelf in self.shelves.values() for g in shelf.groups.values()}
        for shelf in old.values():
            for group in shelf.groups.values():
                if id(group) not in living:
                    group.stands = now

    def _succeed(self, old: Shelf | None, new: Shelf, now: int) -> None:
        for limit in new.variants.values():
            new.groups.setdefault(limit.touched, Group(limit, limit.rule.fresh(now), since=now))
        if old is None:
            return
        same = old.shape() == new.shape()
        plain = not old.conditions and not new.conditions
        if plain and old.scope == new.scope:
            (was,), (limit,) = old.groups.values(), (each.limit for each in new.groups.values())
            if (was.limit.per, was.limit.rule) == (limit.per, limit.rule):
                was.limit = limit
                new.groups = {(): was}
            else:
                self._follow(old, new, now, same=True)
        elif old.scope == new.scope and same and old.declarations == new.declarations:
            new.groups = old.groups
        else:
            self._follow(old, new, now, same=same)

    def _follow(self, old: Shelf, new: Shelf, now: int, *, same: bool) -> None:
        """Make every bucket inherit its old state, for as long as that has an effect."""
        for touched, group in new.groups.items():
            was = old.groups.get(touched)
            if was is not None and same:
                group.untouched = changed(was.limit.rule, group.limit.rule, was.untouched, now)
            group.before = old.sources(touched)
            if same and old.conditions:
                group.before = _only(was)
            group.before_until = now + group.limit.rule.settles()

    def check(self, scope: str, attributes: Mapping[str, str], cost: int, now: int) -> Answer:
        declared = next((s for s in reversed(path_to(scope)) if s in self.tree), None)
        if declared is None:
            return Answer(True, "no_policy", None, None, None, None, 0, self.generation)
        chosen = [
            shelf.group(attributes) for shelf in self.shelves.values() if shelf.scope == declared
        ]
        seen = [(g, g.key(attributes), g.state(attributes, now)[0]) for g in chosen if g]
        waits = [g.limit.rule.wait(state, cost, now) for g, _, state in seen]
        enforced = [n for n, (g, _, _) in enumerate(seen) if not g.limit.shadow]
        if any(waits[n] for n in enforced):
            worst = max(enforced, key=lambda n: waits[n])
            return self._answer(seen[worst][0], seen[worst][2], now, waits[worst])
        return self._admit(declared, seen, waits, cost, now)

    def _admit(
        self, declared: str, seen: list[Any], waits: list[float], cost: int, now: int
    ) -> Answer:
        """Charge the admitting limits; the decision names the limit with the least left."""
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
            left = rule.free(after, now)
            if not group.limit.shadow and (
                named is None or left < named[0].limit.rule.free(named[1], now)
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
