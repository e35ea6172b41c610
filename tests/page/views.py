"""Views of pages, for tests: usual ones, and ones full of hostile texts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ratectl.page.view import (
    AgentRow,
    Alert,
    Fact,
    Key,
    LimitView,
    Minute,
    Place,
    ScopeView,
    Sourced,
    UsageView,
    Value,
    View,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["HOSTILE", "hostile_view", "limit", "scope", "usage", "view"]

HOSTILE = (
    "<script>alert(1)</script>",
    "</style><style>*{display:none}",
    "</title><img src=x onerror=alert(1)>",
    "\"' onmouseover=alert(1) x='",
    "&lt;b&gt; &amp; &#60;",
    "nul \0 escape \x1b[31m bell \a",
    "invoice\u202egnp.exe",
    "zero\u200bwidth\u2066isolate\u2069",
    "lone \udc80 surrogate",
    "line\nbreak\r\n\u2028tab\t",
    "javascript:alert(1)",
    "]]><!--",
    "租户 👍🏽 e\u0301",
    "x" * 5_000,
)


def usage(**changes: Any) -> UsageView:
    minutes = [Minute(100 + at, at if at > 10 else 0, 0.5 + at / 40) for at in range(15)]
    values: dict[str, Any] = {
        "agents": 3,
        "peak": 0.71,
        "allowed": 9_000,
        "refused": 600,
        "never": 2,
        "shadow_refused": 0,
        "waited": 5,
        "absent": 7,
        "keys": 12,
        "near_keys": 3,
        "rates": (2.0, 16.0, 12.5),
        "refused_rates": (0.0, 1.0, 0.5),
        "trend": tuple(minutes),
        "busiest": (Key("acme", 4_000, 0, 0.9), Key("zeta", 900, 16, None)),
        "most_refused": (Key("acme", 500, 3), Key("zeta", 90, 3)),
    }
    return UsageView(**{**values, **changes})


def limit(name: str = "spike", **changes: Any) -> LimitView:
    values: dict[str, Any] = {
        "scope": "/shop",
        "name": name,
        "overrides": (),
        "budget": False,
        "size": "100/s burst 200",
        "per": ("tenant",),
        "slots": False,
        "mode": "enforce",
        "clipped": False,
        "values": (
            Value(
                "rate", "100/s", Place("/shop", "shop/team.yaml:6:12"), None, None,
                (Sourced("50/s", Place("/", "global.yaml:4:17")),),
            ),
            Value("burst", "200", None, None, None, ()),
        ),
        "usage": usage(),
    }  # fmt: skip
    return LimitView(**{**values, **changes})


def scope(path: str = "/shop", limits: Sequence[LimitView] | None = None, **more: Any) -> ScopeView:
    values: dict[str, Any] = {
        "owner": "team-shop",
        "description": "The shop",
        "declared": True,
        "limits": tuple([limit(scope=path)] if limits is None else limits),
    }
    return ScopeView(scope=path, **{**values, **more})


def view(*scopes: ScopeView, **changes: Any) -> View:
    values: dict[str, Any] = {
        "title": "Usage of production",
        "subtitle": "production (etcd://10.0.0.1:2379/production)",
        "facts": [Fact("Generation", "412"), Fact("Agents that report usage", "47 of 48")],
        "alerts": [Alert("danger", "Kill switch.", "limits are open at and below /shop: INC-42")],
        "scopes": list(scopes) or [scope("/", []), scope(), scope("/shop/cart")],
        "agents": [
            AgentRow(
                id="edge-1", host="node-a", generation=412, note="", state="serving", error=None,
                seen="2 s ago",
            ),
            AgentRow(
                id="edge-2", host="node-b", generation=411, note="behind", state="rejected",
                error="generation 412 rejected: bad signature", seen="3 s ago",
            ),
        ],
        "notes": ["Made at noon."],
        "selector": " -e production",
    }  # fmt: skip
    return View(**{**values, **changes})


def hostile_view(text: str) -> View:
    """Return a page every text of which is this one."""
    place = Place(text, text)
    values = (
        Value(text, text, place, Sourced(text, place), text, (Sourced(text, place),)),
        Value("rate", text, place, None, None, (Sourced(text, None),)),
    )
    keys = (Key(text, 7, 1, 0.5),)
    hostile = limit(
        text, scope=text, overrides=(text,), size=text, per=(text,), values=values, tip=text,
        usage=usage(busiest=keys, most_refused=keys), clipped=True, mode="shadow",
    )  # fmt: skip
    silent = replace(hostile, usage=None, values=(), silence=text, budget=True)
    agent = AgentRow(id=text, host=text, generation=1, note=text, state=text, error=text, seen=text)
    return view(
        scope(text, [hostile, silent], owner=text, description=text, budgets_above=(text,)),
        title=text, subtitle=text, facts=[Fact(text, text)], notes=[text], selector=text,
        alerts=[Alert("warning", text, text)], agents=[agent],
    )  # fmt: skip
