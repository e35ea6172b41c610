"""The checks of `ratectl doctor`: each looks at one thing and never raises."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from ratectl.errors import RatectlError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from ratectl.history.generations import Live
    from ratectl.stores.base import Store

__all__ = ["Finding", "examine_engine", "examine_link", "examine_store"]

Verdict = Literal["ok", "warning", "failed", "skipped"]

_SKEW_SECONDS: Final = 5.0
_STALE_SECONDS: Final = 10.0
"""Agents report every two seconds."""

_GRACE_SECONDS: Final = 5.0
"""How long an agent may be behind a fresh generation."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    check: str
    verdict: Verdict
    detail: str
    more: Mapping[str, Any] = field(default_factory=dict)


def examine_engine() -> Finding:
    """Whether this process can decide."""
    import time

    from ratectl.engine import describe_engine, open_engine

    try:
        engine = open_engine(time.monotonic_ns)
        decision = engine.check("/", {})
    except RatectlError as error:
        return Finding("engine", "failed", str(error))
    if not decision.allowed or decision.reason != "no_policy":
        return Finding("engine", "failed", f"{engine.name} answers {decision!r} without policies")
    return Finding("engine", "ok", describe_engine())


def examine_link(url: str) -> Iterator[Finding]:
    """Transport security and credentials, as set: no connection is made."""
    if not url.startswith(("etcd://", "etcds://")):
        yield Finding("tls", "skipped", "a local file needs none")
        yield Finding("auth", "skipped", "file permissions decide")
        return
    from ratectl.stores.etcd.settings import Settings

    settings = Settings.from_url(url)
    if settings.tls:
        mutual = ", with a client certificate" if settings.cert else ""
        yield Finding("tls", "ok", f"on{mutual}")
    elif all(address.is_loopback for address in settings.addresses):
        yield Finding("tls", "ok", "off, but nothing leaves this machine")
    else:
        yield Finding("tls", "warning", "off: anybody on the way can read and change policies")
    who = f"user {settings.user}" if settings.user else "client certificate"
    if settings.user or settings.cert:
        yield Finding("auth", "ok", who)
    else:
        yield Finding("auth", "warning", "none: whoever reaches the store can publish")


def examine_store(store: Store, at: datetime) -> Iterator[Finding]:
    """Everything that needs the store to answer."""
    try:
        yield from _status(store)
        yield from _contents(store, at)
    except RatectlError as error:
        yield Finding("store", "failed", str(error))


def _status(store: Store) -> Iterator[Finding]:
    status = store.status()
    address = status.detail.get("address") or status.detail.get("path") or store.url
    found = f"{status.backend} {status.version} at {address}"
    yield Finding(
        "store",
        "warning" if status.absent else "ok",
        f"{found}: nothing is there yet; the first apply makes it" if status.absent else found,
        {
            "backend": status.backend,
            "version": status.version,
            "revision": status.revision,
            "compacted": status.compacted,
            "size_bytes": status.size_bytes,
            "properties": dict(status.detail),
        },
    )
    for problem in status.problems:
        yield Finding("store", "failed", problem)


def _contents(store: Store, at: datetime) -> Iterator[Finding]:
    from ratectl.history.generations import read_environment, read_live

    environment = read_environment(store)
    live = read_live(store)
    if live.head is None:
        yield Finding("policies", "warning", "nothing is published: ratectl apply PATH")
    else:
        yield _policies(store, live)
        if environment is None:
            yield Finding("policies", "failed", "the environment's identity is gone")
        elif live.head.signature is not None:
            detail = f"generation {live.generation} is signed, for environment {environment.id}"
            yield Finding("signature", "ok", detail, {"environment": environment.id})
    yield from _rollout(store, live)
    yield from _agents(store, live, at)


def _rollout(store: Store, live: Live) -> Iterator[Finding]:
    """Whether somebody would notice that a candidate is bad, where agents enforce one."""
    from ratectl.rollout import controller_of
    from ratectl_cli.prompts.rollouts import controller_text

    candidate = live.candidate
    if candidate is None or candidate.mode == "shadow":
        return
    what = f"generation {candidate.generation} is tried at {candidate.percent:g}%"
    controller = controller_of(store, candidate.rollout)
    if controller is not None:
        yield Finding("rollout", "ok", f"{what}, controlled by {controller_text(controller)}")
        return
    yield Finding(
        "rollout",
        "warning",
        f"{what}, and nobody controls it: `ratectl rollout run` goes on, `ratectl rollout abort` "
        "ends it",
        {"generation": candidate.generation},
    )


def _policies(store: Store, live: Live) -> Finding:
    from ratectl.compiler.activation import activate
    from ratectl.history.generations import read_blob
    from ratectl_cli.render.times import now_ns

    assert live.head is not None
    generation, bundle = live.generation, live.head.bundle
    try:
        plans = activate(read_blob(store, bundle), bundle, generation, now_ns=now_ns())
    except RatectlError as error:
        return Finding("policies", "failed", f"generation {generation} cannot be enforced: {error}")
    count = len(plans.scopes)
    return Finding(
        "policies", "ok", f"generation {generation}, {count} scopes", {"generation": generation}
    )


def _agents(store: Store, live: Live, at: datetime) -> Iterator[Finding]:
    from ratectl.fleet.usage import read_agents, read_beats, read_usage
    from ratectl_cli.commands.agents import agent_data
    from ratectl_cli.diagnosis_panic import examine_switches

    unreadable: list[str] = []
    seen = {record.id: record.reported for record in read_beats(store, unreadable.append)}
    records = read_agents(store, unreadable.append)
    read_usage(store, unreadable.append)
    yield from (Finding("reports", "warning", problem) for problem in unreadable)
    switches, findings = examine_switches(store, records, at)
    yield from findings
    agents = [agent_data(agent, live, seen, switches.sequence) for agent in records]
    if not agents:
        yield Finding("clock", "skipped", "no agent to compare with")
        yield Finding("agents", "warning", "none has reported lately")
        return
    yield from _clock(agents, at)
    fresh = _is_fresh(store, live, at)
    troubles = [finding for agent in agents for finding in _agent(agent, live, at, fresh=fresh)]
    yield from troubles
    if not troubles:
        yield Finding("agents", "ok", f"{len(agents)} serving generation {live.generation}")


def _is_fresh(store: Store, live: Live, at: datetime) -> bool:
    """Whether the live generation is so new that agents may still be fetching it."""
    from ratectl.history.generations import read_entry
    from ratectl_cli.render.times import seconds_since

    if live.head is None:
        return False
    age = seconds_since(read_entry(store, live.generation).time, at)
    return age is not None and age < _GRACE_SECONDS


def _clock(agents: Sequence[Mapping[str, Any]], at: datetime) -> Iterator[Finding]:
    from ratectl_cli.render.times import seconds_since

    ahead = {
        agent["id"]: -age
        for agent in agents
        if (age := seconds_since(agent["last_seen"], at)) is not None and age < -_SKEW_SECONDS
    }
    for name, seconds in ahead.items():
        text = f"the clock of agent {name} is {seconds:.0f} s ahead of this machine's"
        yield Finding("clock", "warning", text)
    if not ahead:
        yield Finding("clock", "ok", "no agent's is ahead of this machine's")


def _agent(agent: Mapping[str, Any], live: Live, at: datetime, *, fresh: bool) -> Iterator[Finding]:
    from ratectl_cli.render.times import ago, seconds_since

    name = agent["id"]
    if agent["state"] == "rejected":
        yield Finding("agents", "failed", f"{name}: {agent['error']}")
    elif agent["behind"] and not fresh:
        what = f"generation {agent['generation']}" if agent["generation"] else "none"
        yield Finding(
            "agents", "failed", f"{name} enforces {what}; generation {live.generation} is live"
        )
    elif agent["error"]:
        yield Finding("agents", "warning", f"{name}: {agent['error']}")
    age = seconds_since(agent["last_seen"], at)
    if age is None or age > _STALE_SECONDS:
        yield Finding("agents", "warning", f"{name} was last seen {ago(agent['last_seen'], at)}")
