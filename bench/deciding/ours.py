"""ratectl itself: each available engine, through the agent and alone.

``agent.check(scope, attributes)`` is the public API. A gate is bound to a scope and takes the
values of its attributes; it answers yes or no.
"""

from __future__ import annotations

import atexit
import inspect
import os
import tempfile
import time
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.deciding.candidate import KEY, Candidate

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.deciding.candidate import Builder, Setting, Side
    from ratectl import Agent

__all__ = [
    "CHECK", "EXPORTED", "GATE", "GATE_WIDE", "GATE_WINDOW", "KEYED", "LOCAL", "MANY", "POOLED",
    "POOLED_BY_KEY", "SIDECAR", "SIDECAR_REFUSED", "SIDECAR_THREE", "SIX", "SLOTS",
    "SLOTS_BESIDE", "WINDOW", "agent_on", "engine_on", "engines", "of",
]  # fmt: skip

CHECK = "agent.check"
EXPORTED = "agent.check, with metrics"
SIX = "agent.check, 3 levels, 6 limits"
MANY = "agent.check_many, 32 of one key"
WINDOW = "agent.check, sliding window"
SLOTS = "agent.check and release, slots"
SLOTS_BESIDE = "agent.check and release, slots and rate"
LOCAL = "engine.check, one bucket"
POOLED = "engine.check, one bucket across processes"
POOLED_BY_KEY = "engine.check, per key across processes"
SIDECAR = "sidecar, request with one descriptor"
SIDECAR_THREE = "sidecar, request with three descriptors"
SIDECAR_REFUSED = "sidecar, request that is refused"
GATE = "gate"
GATE_WINDOW = "gate, sliding window"
GATE_WIDE = "gate, sliding window of 10^9"

_BATCH = 32
_FEW = 100
"""A limit of fewer is used up before the sidecar is measured."""
_DEEP = "/api/payments/checkout"

_BUCKET = "{{rate: {per_day}/day, burst: {most}, per: tenant}}"
_WINDOW = "{{algorithm: sliding-window, rate: {most}/day, per: tenant}}"
_WIDE = "{{algorithm: sliding-window, rate: 1_000_000_000/day, per: tenant}}"
_SLOTS = "{{algorithm: concurrency, max: {most}, per: tenant}}"
_POLICY = "---\napiVersion: ratectl/v1\nscope: {scope}\nlimits:\n"


def policies(setting: Setting) -> str:
    """Return policies: scopes with limits of each kind, and three levels with two of them."""
    said = {
        "/one": {"spike": _BUCKET},
        "/window": {"daily": _WINDOW},
        "/wide": {"daily": _WIDE},
        "/slots": {"running": _SLOTS},
        "/slots-and-rate": {"running": _SLOTS, "spike": _BUCKET},
    }
    parts = _DEEP.split("/")
    for depth in range(1, len(parts)):
        limits = {f"spike{depth}": _BUCKET, f"daily{depth}": _WINDOW}
        said["/".join(parts[: depth + 1])] = limits
    written = [
        _POLICY.format(scope=scope) + "".join(f"  {name}: {limit}\n" for name, limit in of.items())
        for scope, of in said.items()
    ]
    return "".join(written).format(most=setting.most, per_day=setting.per_day)


def engines() -> list[Side]:
    """Return the available engines, fastest first."""
    try:
        import ratectl.engine.native.engine  # noqa: F401
    except ImportError:
        return ["pure"]
    return ["c", "pure"]


def _class(engine: str) -> Callable[..., Any]:
    if engine == "pure":
        from ratectl.engine.pure import PureEngine

        return PureEngine
    from ratectl.engine.native.engine import FastEngine

    return FastEngine  # type: ignore[no-any-return]


def _roomy(make: Callable[..., Any], keys: int) -> dict[str, int]:
    """Return the argument that gives a table room for ``keys``, with six limits each."""
    accepted = inspect.signature(make).parameters
    if "max_bytes" in accepted:
        return {"max_bytes": max(1 << 28, 6 * 256 * keys)}
    return {"max_buckets": max(500_000, 2 * keys)}


@cache
def _folder(setting: Setting) -> Path:
    folder = tempfile.TemporaryDirectory(prefix="ratectl-bench-")
    atexit.register(folder.cleanup)
    path = Path(folder.name)
    (path / "policies.yaml").write_text(policies(setting), "utf-8")
    return path


@cache
def engine_on(name: str, setting: Setting) -> Any:
    """Return an engine of this name that runs the policies."""
    from ratectl.compiler.plans import compile_tree
    from ratectl.policy.read import load_valid

    make = _class(name)
    engine = make(time.monotonic_ns, **_roomy(make, setting.keys))
    engine.swap(compile_tree(load_valid([_folder(setting)]).tree, 1))
    return engine


@cache
def agent_on(name: str, setting: Setting) -> Agent:
    """Return an agent on the engine of this name that follows a directory of the policies."""
    import ratectl

    folder = _folder(setting)
    before = os.environ.get("RATECTL_ENGINE")
    os.environ["RATECTL_ENGINE"] = name
    try:
        agent = ratectl.Agent(folder, **_roomy(ratectl.Agent, setting.keys))
    except ratectl.UsageError as unknown:
        raise ImportError(str(unknown)) from unknown
    finally:
        if before is None:
            del os.environ["RATECTL_ENGINE"]
        else:
            os.environ["RATECTL_ENGINE"] = before
    assert agent._engine.name == name, agent._engine.name
    atexit.register(agent.close)
    return agent


def _check(engine: Side, scope: str, setting: Setting) -> Candidate:
    """Return ``check`` with ready attributes for one key, else made for each call."""
    agent = agent_on(engine, setting)
    names = {"check": agent.check, "attributes": {"tenant": KEY}, "scope": scope}
    return Candidate(engine, "check(scope, attributes)", names, "check(scope, {'tenant': key})")


def _check_exported(engine: Side, setting: Setting) -> Candidate:
    """Return ``check`` of an agent whose metrics are scraped."""
    try:
        from ratectl.contrib.prometheus import AgentCollector
    except Exception as missing:
        raise ImportError(str(missing)) from missing

    agent = agent_on.__wrapped__(engine, setting)
    collector = AgentCollector(agent)
    agent.check("/one", {"tenant": KEY})
    assert list(collector.collect())
    agent.close()  # its threads would be counted as well
    names = {"check": agent.check, "attributes": {"tenant": KEY}, "collector": collector}
    return Candidate(engine, "check('/one', attributes)", names, "check('/one', {'tenant': key})")


def _check_units(engine: Side, setting: Setting) -> Candidate:
    """Return ``check`` with a cost that is a mapping of units, made for each call."""
    names = {"check": agent_on(engine, setting).check, "attributes": {"tenant": KEY}}
    return Candidate(engine, "check('/one', attributes, {'tokens': 4000})", names)


def _check_and_release(engine: Side, scope: str, setting: Setting) -> Candidate:
    """Return ``check`` and the release of its decision, together."""
    agent = agent_on(engine, setting)
    names = {"check": agent.check, "attributes": {"tenant": KEY}, "scope": scope}
    keyed = "check(scope, {'tenant': key}).release()"
    return Candidate(engine, "check(scope, attributes).release()", names, keyed)


def _check_made(engine: Side, setting: Setting) -> Candidate:
    """Return ``check`` with attributes that the caller makes for each call, in the loop."""
    names = {"check": agent_on(engine, setting).check}
    return Candidate(engine, "check('/one', {'tenant': key})", names)


def _engine_check(engine: Side, setting: Setting) -> Candidate:
    names = {"check": engine_on(engine, setting).check, "attributes": {"tenant": KEY}}
    return Candidate(engine, "check('/one', attributes)", names, "check('/one', {'tenant': key})")


def _check_one_bucket(engine: Side, setting: Setting, *, pooled: bool) -> Candidate:
    """Return ``check`` on a limit with one bucket: its own, or one whose wallet is full."""
    from ratectl.engine.algorithms.pooled import PooledBucket
    from ratectl.engine.algorithms.token_bucket import TokenBucket
    from ratectl.engine.api import PlanSet, ScopePlan
    from ratectl.engine.limit_plan import LimitPlan

    made = _class(engine)(time.monotonic_ns)
    bucket: Any = TokenBucket(1, 10**6, setting.most)
    if pooled:
        wallet = made.new_wallet()
        bucket = PooledBucket(setting.most, 10**6, wallet, 1)
    plan = LimitPlan(scope="/", name="l", algorithm=bucket, per=(), shadow=False)
    made.swap(PlanSet(1, {"/": ScopePlan("/", (plan,), True)}))
    if pooled:
        made.spent(plan.group_name)
        wallet.granted, wallet.deadline = setting.most, 1 << 61
    names = {"check": made.check, "attributes": {}}
    return Candidate(engine, "check('/', attributes)", names)


def _check_by_key(engine: Side, setting: Setting) -> Candidate:
    """Return ``check`` on a limit of each tenant. The tenant that asks has a full wallet."""
    from ratectl.engine.algorithms.keyed_bucket import KeyedBucket, OwnPart
    from ratectl.engine.api import PlanSet, ScopePlan
    from ratectl.engine.limit_plan import LimitPlan
    from ratectl.engine.stable_keys import StableKeys

    made = _class(engine)(time.monotonic_ns)
    wallets = made.new_key_wallets()
    wallets.name_keys(StableKeys(bytes(16)))
    part = OwnPart(0, 10**9, 10**9)
    bucket = KeyedBucket(setting.most, 10**6, part, wallets, 1)
    plan = LimitPlan(scope="/", name="l", algorithm=bucket, per=("tenant",), shadow=False)
    made.swap(PlanSet(1, {"/": ScopePlan("/", (plan,), True)}))
    attributes = {"tenant": KEY}
    wallets.until = wallets.deadline = 1 << 61
    for _ in range(2):  # the first takes the process's own part
        made.check("/", attributes)
    ((_, key, *_),) = wallets.collect()
    wallets.deposit(key, setting.most)
    made.check("/", attributes)
    return Candidate(
        engine, "check('/', attributes)", {"check": made.check, "attributes": attributes}
    )


def _check_many(engine: Side, tenants: int, setting: Setting) -> Candidate:
    many = _there(agent_on(engine, setting), "check_many")
    batch = [("/one", {"tenant": f"{KEY}-{n % tenants}"}) for n in range(_BATCH)]
    return Candidate(engine, "many(batch)", {"many": many, "batch": batch}, decisions=_BATCH)


def _sidecar(engine: Side, descriptors: int, setting: Setting) -> Candidate:
    """Return the sidecar's answer to a request, from bytes to bytes."""
    from ratectl.sidecar.service import RateLimitService

    service = RateLimitService(agent_on(engine, setting))
    entry = b"\x0a\x06tenant\x12" + bytes([len(KEY)]) + KEY.encode()
    descriptor = b"\x0a" + bytes([len(entry)]) + entry
    data = b"\x0a\x03one" + descriptors * (b"\x12" + bytes([len(descriptor)]) + descriptor)
    for _ in range(setting.most if setting.most < _FEW else 0):
        service.decide(data)
    assert service.decide(data)[:2] == (b"\x08\x02" if setting.most < _FEW else b"\x08\x01")
    return Candidate(engine, "decide(data)", {"decide": service.decide, "data": data})


def _refusing_sidecar(engine: Side, setting: Setting) -> Candidate:
    small = replace(setting, most=1, per_day=1)
    candidate = _sidecar(engine, 1, small)
    agent_on(engine, small).close()  # decisions go on: its threads would be counted with others
    return candidate


def _gate(engine: Side, scope: str, setting: Setting) -> Candidate:
    gate = _there(engine_on(engine, setting), "gate")(scope, "tenant")
    return Candidate(engine, "gate(key)", {"gate": gate})


def _there(of: object, name: str) -> Any:
    """Return a method of an engine; raise ImportError if it has none."""
    found = getattr(of, name, None)
    if found is None:
        raise ImportError(f"{type(of).__name__} has no {name}")
    return found


def of(engine: Side) -> dict[str, Builder]:
    """Return all builders that are measured on one key, by name."""
    return {
        f"{engine}: {name}": partial(build, engine, *args) for name, (build, *args) in _HOT.items()
    }


_HOT: dict[str, tuple[Any, ...]] = {
    GATE: (_gate, "/one"),
    "gate, 3 levels, 6 limits": (_gate, _DEEP),
    GATE_WINDOW: (_gate, "/window"),
    GATE_WIDE: (_gate, "/wide"),
    "engine.check": (_engine_check,),
    LOCAL: (partial(_check_one_bucket, pooled=False),),
    POOLED: (partial(_check_one_bucket, pooled=True),),
    POOLED_BY_KEY: (_check_by_key,),
    CHECK: (_check, "/one"),
    EXPORTED: (_check_exported,),
    "agent.check, attributes made": (_check_made,),
    "agent.check, cost in units": (_check_units,),
    WINDOW: (_check, "/window"),
    SIX: (_check, _DEEP),
    SLOTS: (_check_and_release, "/slots"),
    SLOTS_BESIDE: (_check_and_release, "/slots-and-rate"),
    MANY: (_check_many, 1),
    "agent.check_many, 32 keys": (_check_many, _BATCH),
    SIDECAR: (_sidecar, 1),
    SIDECAR_THREE: (_sidecar, 3),
    SIDECAR_REFUSED: (_refusing_sidecar,),
}
KEYED = (GATE, GATE_WINDOW, GATE_WIDE, CHECK, WINDOW)
"""Builders that are measured over a million keys too."""
