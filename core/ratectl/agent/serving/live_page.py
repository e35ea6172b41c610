"""The page of one agent: what it has counted, and the limits that it enforces now."""

from __future__ import annotations

import os
import socket
from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from ratectl.agent.serving.server import Answer
from ratectl.agent.usage.pools import joined
from ratectl.page import numbers
from ratectl.page.document import content_policy, page_text
from ratectl.page.view import Alert, Fact, Key, LimitView, Minute, ScopeView, UsageView, View
from ratectl.policy.language.scopes import sorted_scopes
from ratectl.runtime.cooperative import cooperative
from ratectl.runtime.times import ago
from ratectl.runtime.wording import percent
from ratectl.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ratectl.agent.agent import Agent
    from ratectl.agent.in_force import LimitInForce
    from ratectl.agent.serving.server import Asked
    from ratectl.agent.state import AgentStatus
    from ratectl.agent.usage.summary import AgentUsage, LimitUsage, PoolUsage

__all__ = ["live_page"]

_REFRESH_SECONDS: Final = 5
_MOST_BYTES: Final = 400_000
"""The page is made in the process of the service, so it is much smaller than that of a fleet."""
_MOST_SCOPES: Final = 500
_MOST_KEYS: Final = 10


def live_page(agent: Agent) -> Callable[[Asked], Answer]:
    """Return the page. ``?refresh=off`` asks for one that a browser does not load again."""

    def show(asked: Asked) -> Answer:
        refresh = None if ("refresh", "off") in asked.query else _REFRESH_SECONDS
        with cooperative():
            text = page_text(_view(agent, refresh))
        return Answer(text.encode(), "text/html; charset=utf-8", headers=_headers())

    return show


def _headers() -> dict[str, str]:
    return {
        "Content-Security-Policy": f"{content_policy(live=True)}; frame-ancestors 'none'",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Resource-Policy": "same-origin",
    }


def _view(agent: Agent, refresh: int | None) -> View:
    usage, status, now = agent.usage(), agent.status, datetime.now(UTC)
    scopes, left_out = _scopes(agent, usage)
    notes = [
        f"Made at {now:%Y-%m-%d %H:%M:%S} UTC by ratectl {__version__}.",
        f"Counting began {ago(usage.since, now)}, in this process.",
    ]
    if left_out:
        notes.append(f"{left_out:,} more scopes had no request, and are left out.")
    return View(
        title=f"Agent {usage.id}",
        subtitle=f"Process {os.getpid()} on {socket.gethostname()}",
        facts=list(_facts(usage, status, now)),
        alerts=list(_alerts(usage, status)),
        scopes=scopes,
        agents=None,
        notes=notes,
        refresh=refresh,
        live=True,
        most_bytes=_MOST_BYTES,
    )


def _facts(usage: AgentUsage, status: AgentStatus, now: datetime) -> Iterator[Fact]:
    yield Fact("Generation", numbers.count(status.generation) if status.generation else "none")
    if status.applied is not None:
        yield Fact("In force since", ago(status.applied, now))
    yield Fact("Read from", status.source)
    yield Fact("Store", "answers" if status.connected else "does not answer")
    yield Fact("Engine", status.engine)
    yield Fact("Memory of buckets", f"{usage.bytes / 1e6:.1f} of {usage.max_bytes / 1e6:.0f} MB")
    yield Fact("Requests that wait", numbers.count(usage.waiting))
    yield Fact("Covered by no policy", numbers.count(usage.no_policy))


def _alerts(usage: AgentUsage, status: AgentStatus) -> Iterator[Alert]:
    for switch in status.panic:
        mode = "open" if switch.mode == "open" else "in shadow"
        source = " by a file on this machine" if switch.source == "file" else ""
        text = f"Limits are {mode} at and below {switch.scope}{source}."
        yield Alert("danger", "Kill switch.", text)
    if status.error is not None:
        yield Alert("warning", "Problem.", status.error)
    failed = usage.failed_allowed + usage.failed_refused
    if failed:
        text = (
            f"on_error answered {failed:,} requests: {usage.failed_allowed:,} allowed, "
            f"{usage.failed_refused:,} refused."
        )
        yield Alert("danger", "The limiter failed.", text)
    if usage.overflowed:
        text = f"{usage.overflowed:,} requests shared a bucket because there was no room."
        yield Alert("warning", "Buckets are full.", text)


# Limits -----------------------------------------------------------------------------------------


def _scopes(agent: Agent, usage: AgentUsage) -> tuple[list[ScopeView], int]:
    """Return scopes with their limits, and how many scopes were left out."""
    used: dict[str, list[LimitUsage]] = defaultdict(list)
    for limit in usage.limits:
        used[limit.scope].append(limit)
    declared = agent._following.enforcement.scopes  # noqa: SLF001
    silent = [scope for scope in declared if scope not in used]
    room = max(0, _MOST_SCOPES - len(used))
    scopes = sorted_scopes([*used, *silent[:room]])
    owned = joined((*usage.owned, *usage.heard))
    views = [
        _scope(agent, scope, used.get(scope, []), owned, declared=scope in declared)
        for scope in scopes
    ]
    return views, len(silent[room:])


def _scope(
    agent: Agent,
    scope: str,
    used: list[LimitUsage],
    owned: Mapping[str, PoolUsage],
    *,
    declared: bool,
) -> ScopeView:
    in_force = agent.limits(scope) or []
    own = {(limit.name, limit.budget): limit for limit in in_force if limit.scope == scope}
    limits = [
        _limit(limit, own.get((limit.limit, limit.budget)), owned.get(limit.pool)) for limit in used
    ]
    known = {(limit.limit, limit.budget) for limit in used if not limit.overrides}
    limits += [_silent(limit) for name, limit in own.items() if name not in known]
    limits.sort(key=lambda limit: (limit.budget, limit.name, limit.overrides))
    above = [f"budget {each.name} @ {each.scope}" for each in in_force if each.scope != scope]
    return ScopeView(
        scope=scope, owner=None, description=None, declared=declared, limits=tuple(limits),
        budgets_above=tuple(above),
    )  # fmt: skip


def _silent(limit: LimitInForce) -> LimitView:
    return LimitView(
        scope=limit.scope, name=limit.name, overrides=(), budget=limit.budget,
        size=_size(limit), per=limit.per, slots=limit.slots,
        mode="shadow" if limit.shadow else "enforce",
        clipped=False, values=(), usage=None, silence="No request has met this limit yet.",
    )  # fmt: skip


def _limit(usage: LimitUsage, rule: LimitInForce | None, owned: PoolUsage | None) -> LimitView:
    size = None
    if usage.overrides:
        size = _capacity(usage.capacity, usage.unit)
    elif rule is not None:
        size = _size(rule)
    return LimitView(
        scope=usage.scope, name=usage.limit, overrides=usage.overrides, budget=usage.budget,
        size=size, per=usage.per, slots=rule is not None and rule.slots,
        mode="shadow" if usage.shadow else "enforce", clipped=False, values=(),
        usage=_usage(usage, owned),
    )  # fmt: skip


def _size(limit: LimitInForce) -> str:
    """Return ``at most 200 at once, 100/s in the long run``."""
    if limit.per_second is None:
        return f"at most {limit.capacity:,} in progress"
    capacity = _capacity(limit.capacity, limit.unit)
    return f"{capacity}, {numbers.rate(limit.per_second)}/s in the long run"


def _capacity(capacity: int, unit: str) -> str:
    return f"at most {capacity:,}{'' if unit == 'requests' else f' {unit}'} at once"


def _shared(limit: LimitUsage, owned: PoolUsage | None) -> str:
    """Return a sentence about a limit that is one for all processes; empty for others."""
    if not limit.pool:
        return ""
    if owned is None:
        return (
            "One limit for all processes. Its owner has not reported lately, so nobody knows how "
            "full it is. The counts are those of this process."
        )
    age = ago(owned.reported, datetime.now(UTC))
    return (
        f"One limit for all processes: {percent(owned.used)} used, {owned.free:,} of "
        f"{owned.capacity:,} {limit.unit} free, {owned.held:,} held by {owned.members:,} members "
        f"({age}). The counts are those of this process."
    )


def _usage(usage: LimitUsage, owned: PoolUsage | None) -> UsageView:
    fields: dict[str, Any] = {
        name: getattr(usage, name)
        for name in (
            "peak", "allowed", "refused", "never", "shadow_refused", "waited", "absent", "keys",
            "near_keys", "rates", "refused_rates",
        )
    }  # fmt: skip
    error = usage.refused_error
    return UsageView(
        agents=1,
        trend=tuple(Minute(each.allowed, each.refused, each.peak) for each in usage.trend),
        busiest=tuple(
            Key(busy.key, busy.requests, busy.error, busy.use)
            for busy in usage.busiest[:_MOST_KEYS]
        ),
        most_refused=tuple(
            Key(key, number, min(error, number)) for key, number in usage.top_refused[:_MOST_KEYS]
        ),
        shared=_shared(usage, owned),
        **fields,
    )
