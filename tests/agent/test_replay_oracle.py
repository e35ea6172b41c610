"""Replayed traffic: a real agent decides each request as a naive limiter does."""

from __future__ import annotations

import random
from itertools import islice
from typing import TYPE_CHECKING, Any

import pytest

import ratectl.agent.agent as agent_module
from engine.engines import ENGINES
from oracle import Answer, Oracle, documents
from ratectl import Agent
from ratectl.policy.read import load_valid
from ratectl.publishing._publish import publish
from ratectl.publishing.provenance import Provenance
from ratectl.stores import open_store
from ratectl.traffic import AccessLog, Request, generate, ordered
from ratectl.traffic.request import NS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from ratectl.engine.decision import Decision

WEBSITE = """
apiVersion: ratectl/v1
scope: /
limits:
  hourly: {algorithm: sliding-window, rate: 20_000/h, per: client}
  spike: {rate: 50/s, burst: 100, per: client}
caps:
  spike: {rate: 500/s, burst: 1000}
---
apiVersion: ratectl/v1
scope: /web
limits:
  part: {algorithm: sliding-window, rate: 120/min, per: [client, route], mode: shadow}
  spike: {rate: 10/s, burst: 40}
  steady: {algorithm: sliding-window, rate: 300/min, per: client}
overrides:
  - name: crawlers
    match: {agent: "*bot*"}
    limits: {crawl: {algorithm: sliding-window, rate: 60/min, per: agent}}
---
apiVersion: ratectl/v1
scope: /web/files
limits:
  spike: {rate: 1/s, burst: 10}
  uplink: {rate: 150/s, burst: 300, per: []}
---
apiVersion: ratectl/v1
scope: /web/search
unset: [part]
limits:
  agent: {algorithm: sliding-window, rate: 600/min, per: agent}
  spike: {rate: 30/min, burst: 10}
"""
"""The parts of the example tree that the oracle supports: no budgets, quotas, exceptions.

Limits are in the order of their names, as in a bundle: of equal shares left, the first one counts.
"""


def tightened(text: str) -> str:
    """The website with lower and higher limits, changed modes, one scope more and one less."""
    for old, new in [
        ("spike: {rate: 10/s, burst: 40}", "spike: {rate: 2/s, burst: 8}"),
        ("spike: {rate: 1/s, burst: 10}", "spike: {rate: 3/s, burst: 25}"),
        ("rate: 300/min, per: client}", "rate: 90/min, per: client, mode: shadow}"),
        (
            "rate: 120/min, per: [client, route], mode: shadow}",
            "rate: 40/min, per: [client, route]}",
        ),
        ("per: agent}", "per: [agent, method]}"),
    ]:
        assert old in text, old
        text = text.replace(old, new)
    return text + (
        "\n---\n{apiVersion: ratectl/v1, scope: /web/articles, limits: {spike: {rate: 4/s}}}\n"
    )


def reworked(text: str) -> str:
    """The website with other window lengths and exchanged algorithms."""
    for old, new in [
        ("rate: 300/min, per: client}", "rate: 120/30s, per: client}"),
        ("spike: {rate: 10/s, burst: 40}", "spike: {algorithm: sliding-window, rate: 50/10s}"),
        (
            "algorithm: sliding-window, rate: 600/min, per: agent}",
            "rate: 5/s, burst: 50, per: agent}",
        ),
        ("spike: {rate: 30/min, burst: 10}", "spike: {algorithm: token-bucket, rate: 30/min}"),
        (
            "spike: {rate: 1/s, burst: 10}",
            "spike: {algorithm: token-bucket, rate: 0.5/s, burst: 12}",
        ),
    ]:
        assert old in text, old
        text = text.replace(old, new)
    # A capped limit must not change its algorithm.
    return text.replace("  spike: {rate: 500/s, burst: 1000}", "  hourly: {rate: 500/s}")


ODD = """
{apiVersion: ratectl/v1, scope: /web, limits: {
  fast: {rate: 3/s, per: client}, slow: {rate: 7/min, burst: 30, per: [client, route]},
  none: {rate: unlimited}, asleep: {rate: 1/day, mode: off},
  window: {algorithm: sliding-window, rate: 100/7s, per: method},
  watched: {rate: 1/s, burst: 3, per: agent, mode: shadow}}}
---
{apiVersion: ratectl/v1, scope: /web/files, limits: {fast: {rate: 0/s}}}
---
{apiVersion: ratectl/v1, scope: /web/images, unset: [fast, slow, window, watched]}
---
{apiVersion: ratectl/v1, scope: /web/articles,
 caps: {fast: {rate: 1/s, burst: 2}, window: {rate: 5/s, burst: 30}},
 limits: {slow: {rate: 0.25/s, burst: 1}}}
"""
"""Special cases: no policy at the root, refuse all, unlimited, off, defaults, clipping caps."""

ODD_AFTER = ODD.replace("rate: 0/s", "rate: 2/s").replace("3/s, per: client", "9/s, per: client")


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


@pytest.fixture(params=ENGINES)
def clock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of every agent made in the test, with each engine."""
    virtual = Clock()
    make = ENGINES[request.param]
    monkeypatch.setattr(agent_module, "open_engine", lambda _clock, **_kw: make(virtual))
    return virtual


@pytest.fixture(params=["store", "directory"])
def followed(
    request: pytest.FixtureRequest, tmp_path: Path, clock: Clock
) -> Iterator[tuple[Agent, Callable[[str, int], None]]]:
    """An agent that follows a store or a directory, and a function that changes its policies."""
    folder = tmp_path / "policies"
    folder.mkdir()
    file = folder / "all.yaml"
    file.write_text("{apiVersion: ratectl/v1, scope: /unused}\n", encoding="utf-8")
    url = f"sqlite:///{tmp_path / 'rates.db'}"
    source: str | Path = folder
    if request.param == "store":
        source = url
        with open_store(url) as store:
            publish(store, load_valid([folder]).tree, Provenance("tests"))
    with Agent(source, state_dir=tmp_path / "state") as agent:

        def give(text: str, generation: int) -> None:
            file.write_text(text, encoding="utf-8")
            if request.param == "store":
                with open_store(url) as store:
                    publish(store, load_valid([folder]).tree, Provenance("tests"))
            assert agent.wait_for_generation(generation, 10), agent.status

        yield agent, give


def scope_of(request: Request) -> str:
    """Return the scope of a path: each part is a segment, unless it is not allowed in a scope."""
    route = request.attributes.get("route", "/")
    return f"/web{route}" if route != "/" and route.isascii() and "%" not in route else "/web"


def replay(
    followed: tuple[Agent, Callable[[str, int], None]],
    clock: Clock,
    requests: Sequence[Request],
    texts: Sequence[str],
    speed: int,
) -> dict[str, int]:
    """Replay with policy changes at even distances; return the number of decisions by reason."""
    agent, give = followed
    oracle = Oracle()
    oracle.reload(documents("{scope: /unused}"), 0)
    chance = random.Random(1)
    reasons: dict[str, int] = {}
    every = -(-len(requests) // len(texts))
    for number, request in enumerate(requests):
        clock.now = (request.at_ns - requests[0].at_ns) // speed
        if number % every == 0:
            text = texts[number // every]
            give(text, oracle.generation + 1)
            oracle.reload(documents(text), clock.now)
        scope = scope_of(request)
        cost = chance.choices([0, 1, 2, 5, 50], [4, 80, 10, 5, 1])[0]
        found = agent.check(scope, request.attributes, cost)
        wanted = oracle.check(scope, request.attributes, cost, clock.now)
        if seen(found) != wanted:
            pytest.fail(
                f"request {number} of cost {cost} at {clock.now}: {request}\n"
                f"agent  {seen(found)}\noracle {wanted}"
            )
        reasons[found.reason] = reasons.get(found.reason, 0) + 1
    return reasons


def seen(found: Decision) -> Answer:
    return Answer(*(getattr(found, name) for name in Answer._fields))


PLAYS: dict[str, Any] = {
    "website": [WEBSITE, tightened(WEBSITE), WEBSITE, reworked(WEBSITE), tightened(WEBSITE)],
    "odd": [ODD, ODD_AFTER, ODD],
}


@pytest.mark.parametrize("play", PLAYS)
def test_generated_traffic_is_decided_as_by_the_oracle(
    followed: tuple[Agent, Callable[[str, int], None]], clock: Clock, play: str
) -> None:
    """8,000 generated requests through reloads, thousands of times faster than real time."""
    requests = list(islice(generate(20), 8_000))
    reasons = replay(followed, clock, requests, PLAYS[play], 2_000)
    assert reasons.keys() >= {"ok", "limited", "never", "shadow"}
    assert all(count > 20 for count in reasons.values()), reasons


@pytest.mark.reallog
@pytest.mark.parametrize("play", PLAYS)
def test_recorded_traffic_is_decided_as_by_the_oracle(
    followed: tuple[Agent, Callable[[str, int], None]],
    clock: Clock,
    play: str,
    real_log: Path,
) -> None:
    """The recorded requests of four days, in order of time, within two and a half minutes."""
    log = AccessLog(real_log)
    requests = list(ordered(log, 60 * NS))
    assert (len(requests), log.report.malformed) == (9_999, 1)
    reasons = replay(followed, clock, requests, PLAYS[play], 2_000)
    assert reasons.keys() >= {"ok", "limited", "never", "shadow"}
