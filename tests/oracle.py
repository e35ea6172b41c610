"""A naive rate limiter, written from the documentation alone: what an agent is compared with.

It shares no code with ratectl. Documents are read with PyYAML's plainest loader, limits merged with
dictionaries, tokens are fractions, windows are lists of what was admitted. Slow, and obvious.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Answer", "Oracle", "documents"]

SECONDS = {"s": 1, "min": 60, "h": 3600, "day": 86_400, "week": 604_800}
NS = 10**9
NEVER = math.inf


class Answer(NamedTuple):
    """What must be equal, field by field, to an agent's decision."""

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
    """Policies by scope."""
    # BaseLoader: every scalar is the text that stands there; YAML 1.1 reads `off` as false.
    found = [each for text in texts for each in yaml.load_all(text, Loader=yaml.BaseLoader)]
    return {each["scope"]: each for each in found}


def path_to(scope: str) -> list[str]:
    parts = [part for part in scope.split("/") if part]
    return ["/"] + ["/" + "/".join(parts[: n + 1]) for n in range(len(parts))]


def parse_rate(text: str) -> tuple[Fraction, int] | None:
    """Count and window in nanoseconds; None for unlimited."""
    if text == "unlimited":
        return None
    match = re.fullmatch(r"([\d_.]+)/(\d*)([a-z]+)", text)
    assert match, text
    window = int(match[2] or 1) * SECONDS[match[3]] * NS
    return Fraction(match[1].replace("_", "")), window


def in_force(tree: Mapping[str, dict[str, Any]], scope: str) -> list[Limit] | None:
    """The limits of a declared scope, in order; None where no policy covers it."""
    path = [tree[each] for each in path_to(scope) if each in tree]
    if not path:
        return None
    merged: dict[str, dict[str, Any]] = {}
    caps: dict[str, list[dict[str, Any]]] = {}
    for document in path:
        for name in document.get("unset", []):
            merged.pop(name, None)
        for name, said in document.get("limits", {}).items():
            inherited = dict(merged.get(name, {}))
            if said.get("algorithm") == "sliding-window":
                inherited.pop("burst", None)
            merged[name] = {**inherited, **said}
        for name, cap in document.get("caps", {}).items():
            caps.setdefault(name, []).append(cap)
    declared = path[-1]["scope"]
    finished = [finish(declared, name, said, caps.get(name, [])) for name, said in merged.items()]
    return [limit for limit in finished if limit is not None]


def finish(scope: str, name: str, said: dict[str, Any], caps: list[dict[str, Any]]) -> Limit | None:
    """A limit after caps; None where it has nothing to decide."""
    written = parse_rate(said["rate"])
    per = said.get("per", [])
    per = [per] if isinstance(per, str) else per
    window_kind = said.get("algorithm") == "sliding-window"
    rates = [parse_rate(cap["rate"]) for cap in caps if "rate" in cap]
    bursts = [int(cap["burst"]) for cap in caps if "burst" in cap]
    if said.get("mode") == "off" or written is None:
        assert not caps, "the oracle does not know capped unlimited limits"
        return None
    count, window = written
    if window_kind:
        most = min([int(count), *(math.floor(c * window / w) for c, w in filter(None, rates))])
        rule: Rule = Window(min([most, *bursts]), window)
    else:
        pace = count / window
        burst = int(said.get("burst", max(1, math.ceil(pace * NS))))
        rule = Bucket(min([pace, *(c / w for c, w in filter(None, rates))]), min([burst, *bursts]))
    return Limit(scope, name, tuple(per), said.get("mode") == "shadow", rule)


# Algorithms -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bucket:
    """Token bucket: tokens a nanosecond, and the most it holds. State: (tokens, at)."""

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

    def settles(self) -> float:
        return math.ceil(self.most / self.pace) if self.pace else NEVER


@dataclass(frozen=True)
class Window:
    """Sliding window of sixteen sub-windows. State: a list of (sub-window, cost) admitted."""

    most: int
    window: int

    @property
    def sub(self) -> int:
        return math.ceil(self.window / 15)

    def fresh(self, now: int) -> Any:
        return ()

    def at(self, state: Any, now: int) -> tuple[tuple[int, int], ...]:
        """What is still counted: a request until its whole sub-window is older than the window."""
        return tuple((s, cost) for s, cost in state if (s + 16) * self.sub > now)

    def free(self, state: Any, now: int) -> int:
        return max(0, self.most - sum(cost for _, cost in self.at(state, now)))

    def wait(self, state: Any, cost: int, now: int) -> float:
        if cost > self.most or not self.most:
            return NEVER
        for until in [now, *sorted((s + 16) * self.sub for s, _ in self.at(state, now))]:
            if cost <= self.most - sum(c for _, c in self.at(state, until)):
                return until - now
        raise AssertionError("an empty window admits what is not above its count")

    def take(self, state: Any, cost: int, now: int) -> Any:
        counted = dict(self.at(state, now))
        counted[now // self.sub] = counted.get(now // self.sub, 0) + cost
        return tuple(counted.items())

    def settles(self) -> float:
        return 16 * self.sub


Rule = Bucket | Window


def changed(old: Rule, new: Rule, state: Any, now: int) -> Any:
    """A bucket's state after a change of parameters at ``now``."""
    state = old.at(state, now)
    if isinstance(old, Bucket) and isinstance(new, Bucket):
        return (min(state[0], Fraction(new.most)), now)
    if isinstance(old, Bucket):
        assert isinstance(new, Window)
        return ((now // new.sub, math.ceil(old.most - state[0])),)
    counted = sum(cost for _, cost in state)
    if isinstance(new, Bucket):
        return (Fraction(max(0, new.most - counted)), now)
    if old.sub == new.sub:
        return state
    moved: Any = ()
    for s, cost in state:  # each to the latest instant at which it may have been admitted
        moved = new.take(moved, cost, min((s + 1) * old.sub - 1, now))
    return moved


# Deciding ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Limit:
    scope: str
    name: str
    per: tuple[str, ...]
    shadow: bool
    rule: Rule


@dataclass
class Group:
    """Every bucket of one limit, and the one that no request has touched.

    A limit that changes gets a new group; what its buckets were before is asked of the old one,
    which stands still from then on. A scope newly declared asks the group that served it before,
    which may be living still; but only for as long as any bucket takes to fill.
    """

    limit: Limit
    untouched: Any
    before: Group | None = None
    before_until: float = NEVER
    buckets: dict[Any, Any] = field(default_factory=dict)
    stands: float = NEVER
    """When this group was replaced."""

    def state(self, attributes: Mapping[str, str], now: int) -> tuple[Any, Any]:
        """The key of a request, and its bucket."""
        key = tuple(attributes.get(name) for name in self.limit.per)
        if key in self.buckets:
            return key, self.buckets[key]
        old = self.before
        if old is None or min(now, self.stands) >= self.before_until:
            return key, self.untouched
        at = int(min(now, old.stands))
        return key, changed(old.limit.rule, self.limit.rule, old.state(attributes, at)[1], at)


class Oracle:
    """Decides requests by the documents last given."""

    def __init__(self) -> None:
        self.generation = 0
        self.tree: Mapping[str, dict[str, Any]] = {}
        self.groups: dict[tuple[str, str], Group] = {}

    def reload(self, tree: Mapping[str, dict[str, Any]], now: int) -> None:
        """Replace all policies at once; no bucket is lost, and no token made."""
        old_tree, old = self.tree, self.groups
        self.generation, self.tree, self.groups = self.generation + 1, tree, {}
        for scope in tree:
            for limit in in_force(tree, scope) or []:
                served = next((s for s in reversed(path_to(scope)) if s in old_tree), None)
                group = old.get((served, limit.name)) if served else None
                self.groups[scope, limit.name] = self._succeed(group, limit, now)
        for group in old.values():
            if all(group is not kept for kept in self.groups.values()):
                group.stands = now

    def _succeed(self, old: Group | None, limit: Limit, now: int) -> Group:
        if old is None:
            return Group(limit, limit.rule.fresh(now))
        was = old.limit
        if (was.scope, was.per, was.rule) == (limit.scope, limit.per, limit.rule):
            old.limit = limit
            return old
        untouched = changed(was.rule, limit.rule, old.untouched, now)
        until = NEVER if was.scope == limit.scope else now + limit.rule.settles()
        return Group(limit, untouched, old, until)

    def check(self, scope: str, attributes: Mapping[str, str], cost: int, now: int) -> Answer:
        declared = next((s for s in reversed(path_to(scope)) if s in self.tree), None)
        if declared is None:
            return Answer(True, "no_policy", None, None, None, None, 0, self.generation)
        groups = [g for (where, _), g in self.groups.items() if where == declared]
        seen = [(g, *g.state(attributes, now)) for g in groups]
        waits = [g.limit.rule.wait(state, cost, now) for g, _, state in seen]
        enforced = [n for n, (g, _, _) in enumerate(seen) if not g.limit.shadow]
        if any(waits[n] for n in enforced):
            worst = max(enforced, key=lambda n: waits[n])
            return self._answer(seen[worst][0], seen[worst][2], now, waits[worst])
        return self._admit(declared, seen, waits, cost, now)

    def _admit(
        self, declared: str, seen: list[Any], waits: list[float], cost: int, now: int
    ) -> Answer:
        """Charge what admits; the limit with the least left is the one that is named."""
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
