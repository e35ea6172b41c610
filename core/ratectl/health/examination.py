"""Examination of an environment: store, policies, rollout, agents, and this process's engine.

It changes nothing.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Final

from ratectl.compiler.activation import activate
from ratectl.engine import describe_engine, open_engine
from ratectl.environments import Target
from ratectl.errors import RatectlError
from ratectl.health.agents import check_agents
from ratectl.health.attributes import check_attributes
from ratectl.health.checks import Check
from ratectl.health.cluster import check_cluster
from ratectl.health.environment import check_environment, unknown_environment
from ratectl.health.units import check_units
from ratectl.health.usage_report import read_usage_report
from ratectl.history.generations import read_blob, read_live
from ratectl.rollout import controller_of
from ratectl.runtime.times import ago
from ratectl.signing.continuation import read_environment
from ratectl.stores import open_store, security_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from datetime import datetime

    from ratectl.history.generations import Live
    from ratectl.stores.base import Store

__all__ = ["examine"]

_ORDER: Final = (
    "environment",
    "store",
    "tls",
    "auth",
    "policies",
    "signature",
    "rollout",
    "panic",
    "agents",
    "reports",
    "cluster",
    "attributes",
    "units",
    "clock",
    "engine",
)


def examine(
    target: Target | str,
    at: datetime,
    connect: Callable[[], AbstractContextManager[Store]] | None = None,
) -> list[Check]:
    """Examine an environment, or the one of a store's URL.

    ``at`` is the time that reports are compared with: now. ``connect`` opens the store; default:
    ``open_store(url)``.

    :raises UsageError: the URL names no store, or a setting of it is wrong.
    """
    if isinstance(target, str):
        target = Target(target)
    checks = list(_check_security(target.url))
    try:
        with (connect or partial(open_store, target.url))() as store:
            for check in _check_store(store, target, at):
                checks.append(check)  # noqa: PERF402 - those before an error count
    except RatectlError as error:
        checks.append(Check("store", "failed", str(error)))
        if not any(check.name == "environment" for check in checks):
            checks.append(unknown_environment(target))
    checks.append(_check_engine())
    return sorted(checks, key=lambda check: _ORDER.index(check.name))


def _check_security(url: str) -> Iterator[Check]:
    """Check encryption and credentials as they are set; nothing is connected."""
    security = security_of(url)
    yield Check("tls", security.transport.state, security.transport.detail)
    yield Check("auth", security.access.state, security.access.detail)


def _check_engine() -> Check:
    """Check that this process can decide."""
    try:
        engine = open_engine(time.monotonic_ns)
        decision = engine.check("/", {})
    except RatectlError as error:
        return Check("engine", "failed", str(error))
    if not decision.allowed or decision.reason != "no_policy":
        return Check("engine", "failed", f"{engine.name} answers {decision!r} without policies")
    return Check("engine", "ok", describe_engine())


def _check_store(store: Store, target: Target, at: datetime) -> Iterator[Check]:
    """Check everything that needs the store to answer.

    :raises RatectlError: the store does not answer, or holds records that nobody can read.
    """
    yield from _check_status(store)
    yield check_environment(store, target)
    environment = read_environment(store)
    live = read_live(store)
    if live.head is None:
        yield Check("policies", "warning", "nothing is published: `ratectl apply PATH`")
    else:
        yield _check_policies(store, live, at)
        if environment is None:
            yield Check("policies", "failed", "the environment's identity is gone")
        elif live.head.signature is not None:
            message = f"generation {live.generation} is signed, for environment {environment.id}"
            yield Check("signature", "ok", message, {"environment": environment.id})
    yield from _check_rollout(store, live, at)
    yield from check_agents(store, live, at)
    yield from check_cluster(store, live)
    if live.head is not None:
        rows = read_usage_report(store, None, lambda _: None, live=live).rows
        yield check_attributes(rows)
        yield from check_units(rows)


def _check_status(store: Store) -> Iterator[Check]:
    status = store.status()
    address = status.detail.get("address") or status.detail.get("path") or store.url
    name = f"{status.backend} {status.version} at {address}"
    yield Check(
        "store",
        "warning" if status.absent else "ok",
        f"{name}: nothing is there yet; the first apply makes it" if status.absent else name,
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
        yield Check("store", "failed", problem)


def _check_policies(store: Store, live: Live, at: datetime) -> Check:
    """Check that the live generation can be enforced."""
    assert live.head is not None
    generation, bundle = live.generation, live.head.bundle
    try:
        data = read_blob(store, bundle)
        plans = activate(data, bundle, generation, now_ns=round(at.timestamp() * 1_000) * 1_000_000)
    except RatectlError as error:
        return Check("policies", "failed", f"generation {generation} cannot be enforced: {error}")
    message = f"generation {generation}, {len(plans.scopes)} scopes"
    return Check("policies", "ok", message, {"generation": generation})


def _check_rollout(store: Store, live: Live, at: datetime) -> Iterator[Check]:
    """Check that a controller would notice a bad candidate, where agents enforce one."""
    candidate = live.candidate
    if candidate is None or candidate.mode == "shadow":
        return
    trial = f"generation {candidate.generation} is tried at {candidate.percent:g}%"
    controller = controller_of(store, candidate.rollout)
    if controller is not None:
        since = ago(controller.since, at)
        yield Check("rollout", "ok", f"{trial}, controlled by {controller}, started {since}")
        return
    yield Check(
        "rollout",
        "warning",
        f"{trial}, and nobody controls it: `ratectl rollout run` goes on, `ratectl rollout abort` "
        "ends it",
        {"generation": candidate.generation},
    )
