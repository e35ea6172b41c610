"""Configurations of envoyproxy/ratelimit by chance, and requests that find their limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moving.envoy_reference import SECONDS, Asked

if TYPE_CHECKING:
    from random import Random

__all__ = ["configuration", "descriptor", "pause"]

KEYS = ("generic_key", "remote_address", ":path", "user", "Größe")
VALUES = ("a", "ab", "abc", "b", "/x/y", "/x/z", "10.0.0.1", "*", "ab*", "", "true", "404")
NAMES = ("first", "second", "third")


def configuration(chance: Random, domain: str) -> dict[str, Any]:
    """Return the file of a domain."""
    return {"domain": domain, "descriptors": _level(chance, 3)}


def _level(chance: Random, depth: int) -> list[dict[str, Any]]:
    nodes: dict[tuple[str, str], dict[str, Any]] = {}
    for _ in range(chance.randint(1, 5)):
        node: dict[str, Any] = {"key": chance.choice(KEYS[: depth + 2])}
        value = chance.choice(("", "", *VALUES))
        if value:
            node["value"] = value
        if value.endswith("*") and chance.random() < 0.4:
            node["share_threshold"] = True
        if chance.random() < 0.7:
            node["rate_limit"] = _limit(chance)
        if chance.random() < 0.15:
            node["shadow_mode"] = True
        if chance.random() < 0.1:
            node["detailed_metric"] = True
        if depth > 1 and chance.random() < 0.5:
            node["descriptors"] = _level(chance, depth - 1)
        nodes.setdefault((node["key"], value), node)
    return list(nodes.values())


def _limit(chance: Random) -> dict[str, Any]:
    limit: dict[str, Any] = {}
    if chance.random() < 0.1:
        limit["unlimited"] = True
    else:
        limit["unit"] = chance.choice(tuple(SECONDS))
        limit["requests_per_unit"] = chance.choice((0, 1, 1, 2, 3, 7))
    if chance.random() < 0.3:
        name, other = chance.sample(NAMES, 2)
        limit["name"] = name
        if chance.random() < 0.5:
            limit["replaces"] = [{"name": other}]
    return limit


def descriptor(chance: Random, config: dict[str, Any], hits: int = 1) -> Asked:
    """Return a descriptor that leads into a configuration, mostly to an end of it."""
    entries = []
    above: dict[str, Any] | None = config
    while above is not None and above.get("descriptors"):
        node = chance.choice(above["descriptors"])
        wanted = node.get("value", "")
        value = chance.choice(VALUES[:7])
        if wanted and chance.random() < 0.8:
            is_beginning = wanted.endswith("*") and chance.random() < 0.8
            value = wanted[:-1] + value if is_beginning else wanted
        elif chance.random() < 0.1:
            value = chance.choice(VALUES)
        entries.append((node["key"], value))
        above = node if chance.random() < 0.75 else None
    if chance.random() < 0.05:
        entries.append((chance.choice(KEYS), chance.choice(VALUES)))
    return Asked(tuple(entries), hits)


def pause(chance: Random) -> float:
    """Return the seconds to the next request: mostly few, at times until later windows."""
    if chance.random() < 0.02:
        return chance.choice((40.0, 1_800.0, 50_000.0, 400_000.0))
    return chance.choice((0.0, 0.0, 0.05, 0.3, 0.7))
