"""Imported configurations decide as envoyproxy/ratelimit does."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from moving.both import both
from moving.envoy_random import configuration, descriptor, pause
from ratectl import FakeClock
from soak import scaled

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from moving.envoy_reference import Asked

CONFIGURATIONS = 200
REQUESTS = scaled(200, 100_000)
GROUP = 10
"""Configurations of one test."""


def drawn(seed: int) -> tuple[Random, dict[str, Any], FakeClock]:
    chance = Random(seed)
    config = configuration(chance, f"domain-{seed}")
    clock = FakeClock("2026-11-28T23:59:40Z")
    clock.advance(chance.random() * 10**6)
    return chance, config, clock


@pytest.mark.parametrize("first", range(0, CONFIGURATIONS, GROUP))
def test_requests_of_one_descriptor_and_one_hit_are_decided_alike(
    first: int, tmp_path: Path
) -> None:
    refused = 0
    for seed in range(first, first + GROUP):
        chance, config, clock = drawn(seed)
        with both(tmp_path / str(seed), [config], clock) as services:
            for number in range(REQUESTS):
                clock.advance(pause(chance))
                asked = descriptor(chance, config)
                ours, theirs = services.decide(config["domain"], asked)
                assert ours == theirs, (seed, number, asked, config)
                refused += not ours
    assert refused > REQUESTS * GROUP // 50


@pytest.mark.parametrize("seed", range(20))
def test_requests_of_one_descriptor_with_hits_of_its_own_are_decided_alike(
    seed: int, tmp_path: Path
) -> None:
    """Such hits are counted also where they are refused, as costs that come at the end are."""
    chance, config, clock = drawn(seed)
    refused = 0
    with both(tmp_path / "config", [config], clock) as services:
        for number in range(REQUESTS):
            clock.advance(pause(chance))
            asked = descriptor(chance, config, chance.choice((1, 1, 2, 3, 5)))
            ours, theirs = services.decide(config["domain"], asked)
            assert ours == theirs, (number, asked, config)
            refused += not ours
    assert refused or not any(_all_limits(config["descriptors"]))


def _all_limits(level: list[dict[str, Any]]) -> Iterator[bool]:
    """Yield True for each limit that can refuse."""
    for node in level:
        limit = node.get("rate_limit", {"unlimited": True})
        yield not (limit.get("unlimited") or node.get("shadow_mode"))
        yield from _all_limits(node.get("descriptors", []))


@pytest.mark.parametrize("seed", range(20))
def test_a_request_that_theirs_admits_is_admitted(seed: int, tmp_path: Path) -> None:
    """Several descriptors and hits: theirs counts also what it refuses, so it refuses more."""
    chance, config, clock = drawn(seed)
    with both(tmp_path / "config", [config], clock) as services:
        for number in range(REQUESTS):
            clock.advance(pause(chance))
            asked = [
                descriptor(chance, config, chance.choice((1, 1, 2, 5)))
                for _ in range(chance.randint(1, 4))
            ]
            ours, theirs = services.decide(config["domain"], *asked)
            assert ours or not theirs, (number, asked, config)


def without_shadow(level: list[dict[str, Any]]) -> None:
    for node in level:
        node.pop("shadow_mode", None)
        without_shadow(node.get("descriptors", []))


@pytest.mark.parametrize("seed", range(20))
def test_several_descriptors_are_decided_alike_if_theirs_stops_counting(
    seed: int, tmp_path: Path
) -> None:
    chance, config, clock = drawn(seed)
    without_shadow(config["descriptors"])
    with both(tmp_path / "config", [config], clock, stops=True) as services:
        for number in range(REQUESTS):
            clock.advance(pause(chance))
            asked = {descriptor(chance, config) for _ in range(chance.randint(1, 4))}
            if _share_a_counter(services, config["domain"], asked):
                continue
            ours, theirs = services.decide(config["domain"], *sorted(asked))
            assert ours == theirs, (number, asked, config)


def _share_a_counter(services: Any, domain: str, asked: set[Asked]) -> bool:
    """Return True if one request would charge a counter twice."""
    found = [services._theirs.found(domain, each.entries) for each in asked]
    counters = [each.counted for each in found if each is not None]
    return len(set(counters)) < len(counters)
