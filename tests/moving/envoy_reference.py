"""Decisions of envoyproxy/ratelimit, by its documentation: for comparison with ours.

A configuration is what a YAML reader makes of its file.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

__all__ = ["SECONDS", "Asked", "Reference"]

SECONDS = {
    "second": 1,
    "minute": 60,
    "hour": 3_600,
    "day": 86_400,
    "week": 604_800,
}


class Asked(NamedTuple):
    """A descriptor of a request: its entries, and its hits."""

    entries: tuple[tuple[str, str], ...]
    hits: int = 1


class _Found(NamedTuple):
    limit: dict[str, Any]
    shadow: bool
    counted: tuple[str, ...]
    """Texts that name the counter."""


@dataclass
class Reference:
    """One service. ``stops``: with its setting STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT."""

    domains: dict[str, dict[str, Any]]
    stops: bool = False
    counters: Counter[tuple[object, ...]] = field(default_factory=Counter)

    def admits(self, domain: str, descriptors: list[Asked], now: int) -> bool:
        """Decide a request; ``now`` is in seconds since 1970."""
        found = [self.found(domain, each.entries) for each in descriptors]
        replaced = {
            other["name"]
            for each in found
            if each is not None
            for other in each.limit.get("replaces", ())
        }
        counted = [
            (each, asked.hits, self._counter(domain, each, now))
            for each, asked in zip(found, descriptors, strict=True)
            if each is not None
            and not each.limit.get("unlimited")
            and each.limit.get("name") not in replaced
        ]
        if self.stops:
            over = next((number for number, each in enumerate(counted) if self._over(*each)), None)
            if over is not None:
                self.counters[counted[over][2]] += counted[over][1]
                return counted[over][0].shadow
        for _, hits, counter in counted:
            self.counters[counter] += hits
        return not any(
            self.counters[counter] > each.limit["requests_per_unit"] and not each.shadow
            for each, _, counter in counted
        )

    def _over(self, found: _Found, hits: int, counter: tuple[object, ...]) -> bool:
        return self.counters[counter] + hits > found.limit["requests_per_unit"]

    def _counter(self, domain: str, found: _Found, now: int) -> tuple[object, ...]:
        seconds = SECONDS[found.limit["unit"]]
        return (domain, *found.counted, now // seconds * seconds)

    def found(self, domain: str, entries: tuple[tuple[str, str], ...]) -> _Found | None:
        """Return the limit of a descriptor: of the node at which its last entry arrives."""
        above = self.domains.get(domain)
        counted: list[str] = []
        for key, value in entries:
            node = None if above is None else _below(above, key, value)
            if node is None:
                return None
            shares = node.get("share_threshold", False)
            counted += (key, node["value"] if shares else value)
            above = node
        if above is None or not entries or "rate_limit" not in above:
            return None
        return _Found(above["rate_limit"], above.get("shadow_mode", False), tuple(counted))


def _below(above: dict[str, Any], key: str, value: str) -> dict[str, Any] | None:
    """Return the node that an entry leads to: the exact one, a wildcard, or that of the key."""
    nodes = {_text(node): node for node in above.get("descriptors", ())}
    exact = nodes.get(f"{key}_{value}")
    if exact is not None:
        return exact
    for text, node in nodes.items():
        if text.endswith("*") and f"{key}_{value}".startswith(text[:-1]):
            return node
    return nodes.get(key)


def _text(node: dict[str, Any]) -> str:
    return f"{node['key']}_{node['value']}" if node.get("value") else node["key"]
