"""Random policy trees, and trees as plain data with a place for every field."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from ratectl.policy.language.model import Policy, PolicyTree, SourceMap
from ratectl.policy.validation.tree import check_tree

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ratectl.diagnostics import Diagnostic

Written = dict[str, dict[str, Any]]

SCOPES = ("/", "/a", "/a/b", "/a/b/c", "/d")
NAMES = ("x", "y")
RATES = (
    "0/s",
    "1/s",
    "10/s",
    "0.5/s",
    "2.5/min",
    "60/min",
    "61/min",
    "100/7s",
    "1000/h",
    "5/week",
    "1_000/day",
    "unlimited",
    "30/month",
    "0.5/month",
)
RESETS = ("06:00", "00:00 Europe/Berlin", "Mon 06:00 UTC", "31 00:00 America/New_York")  # fmt: skip

_rates = st.sampled_from(RATES)
_bursts = st.sampled_from((0, 1, 5, 100, 10**9))
_maybe = {
    "algorithm": st.sampled_from(("token-bucket", "sliding-window", "quota", "concurrency")),
    "rate": _rates,
    "burst": _bursts,
    "per": st.sampled_from(((), ("tenant",), ("tenant", "route"))),
    "mode": st.sampled_from(("enforce", "shadow", "off")),
    "unit": st.sampled_from(("requests", "tokens")),
    "absent": st.sampled_from(("share", "skip")),
}
_slots = {
    "max": st.sampled_from((0, 1, 5, 100)),
    "hold": st.sampled_from(("60s", "1.5min", "0.001s", "2week")),
}
_rare = {
    "resets": st.sampled_from(RESETS),
    "across": st.sampled_from(("cluster", "redis")),
    "precision": st.sampled_from((24, 30, 128)),
    **_slots,
}
_quota = {
    "algorithm": st.just("quota"),
    "rate": st.sampled_from(("60/min", "1000/h", "1_000/day", "5/week", "30/month", "unlimited")),
}
limits = st.one_of(
    st.fixed_dictionaries({}, optional=_maybe),
    st.fixed_dictionaries({}, optional=_maybe),
    st.fixed_dictionaries(_quota, optional={"resets": _rare["resets"]}),
    st.fixed_dictionaries(
        {"algorithm": st.just("concurrency")},
        optional={**_slots, "per": _maybe["per"], "mode": _maybe["mode"]},
    ),
    st.fixed_dictionaries({}, optional={**_maybe, **_rare}),
)
BUDGETS: tuple[dict[str, Any], ...] = (
    {"rate": "1/s"}, {"rate": "10/min", "burst": 3, "per": ("tenant",)}, {"rate": "0/s"},
    {"rate": "unlimited"}, {"rate": "5/h", "mode": "off"}, {"rate": "5/h", "mode": "shadow"},
    {"rate": "5/h", "algorithm": "sliding-window", "across": "cluster"},
    {"rate": "5/week", "algorithm": "quota", "resets": "Mon 06:00 UTC"}, {"burst": 5},
    {"max": 5, "algorithm": "concurrency", "hold": "90s", "per": ("tenant",)},
)  # fmt: skip
caps = st.fixed_dictionaries({}, optional={"rate": _rates, "burst": _bursts})
documents = st.fixed_dictionaries(
    {"limits": st.dictionaries(st.sampled_from(NAMES), limits)},
    optional={
        "unset": st.lists(st.sampled_from(NAMES), unique=True),
        "caps": st.dictionaries(st.sampled_from(NAMES), caps),
        "on_error": st.sampled_from(("allow", "deny")),
        "budgets": st.dictionaries(st.sampled_from(NAMES), st.sampled_from(BUDGETS)),
        "trusted_proxies": st.lists(st.sampled_from(("10.0.0.0/8", "::1", "2001:DB8::/32"))),
        "protected": st.booleans(),
        "owner": st.text(max_size=5),
        "description": st.text(max_size=5),
    },
)
written = st.dictionaries(st.sampled_from(SCOPES), documents)

REQUESTS: tuple[dict[str, str], ...] = (
    {}, {"tier": "free", "ip": "10.1.2.3"}, {"tenant": "acme", "tier": "gold"},
)  # fmt: skip
_matches = st.sampled_from(
    (
        {"tier": "gold"}, {"tier": ["gold", "free"]}, {"tier": "g*"}, {"tier": {"not": "gold"}},
        {"ip": {"cidr": "10.0.0.0/8"}}, {"ip": {"cidr": ["10.0.0.0/8", "::1/128"]}},
        {"tenant": {"exists": True}, "tier": "gold"}, {"tenant": {"exists": False}},
    )
)  # fmt: skip
_said = st.dictionaries(st.sampled_from(NAMES), limits, min_size=1)
_capped = st.dictionaries(st.sampled_from(NAMES), caps, max_size=1)
_set_or_capped = st.one_of(
    st.builds(lambda limits, caps: {"limits": limits, "caps": caps}, _said, _capped),
    st.builds(lambda name, cap: {"caps": {name: cap}}, st.sampled_from(NAMES), caps),
)
_overrides = st.lists(st.tuples(_matches, _set_or_capped), min_size=1, max_size=2).map(
    lambda found: [
        {"name": f"o{at}", "match": match, **policies} for at, (match, policies) in enumerate(found)
    ]
)
overrides = st.dictionaries(st.sampled_from(SCOPES), _overrides, max_size=3)
"""Overrides for some scopes of a tree (see ``with_overrides``)."""

DAYS = ("2026-01-01T00:00Z", "2026-01-02T00:00Z", "2026-01-03T00:00Z", "2026-01-04T00:00Z")
exceptions = st.lists(
    st.fixed_dictionaries(
        {"scope": st.sampled_from(SCOPES), "until": st.sampled_from(DAYS[1:]), "limits": _said},
        optional={
            "from": st.just(DAYS[0]),
            "match": _matches,
            "budgets": st.dictionaries(st.sampled_from(NAMES), st.sampled_from(BUDGETS)),
        },
    ),
    max_size=3,
    unique_by=lambda policies: policies["until"],
)


def with_overrides(policies: Written, found: Mapping[str, list[dict[str, Any]]]) -> Written:
    """Return the documents with the overrides added."""
    return {
        scope: {**of, "overrides": found[scope]} if scope in found else of
        for scope, of in policies.items()
    }


def tree(policies: Mapping[str, Mapping[str, Any]]) -> PolicyTree:
    """Return a tree of ``{"/a": {"limits": …}}``; each field has a line of its own."""
    return PolicyTree(
        {scope: Policy.model_validate({"scope": scope, **of}) for scope, of in policies.items()},
        {scope: SourceMap(scope, dict(_places(of))) for scope, of in policies.items()},
    )


def path_at(policies: Mapping[str, Mapping[str, Any]], scope: str, line: int) -> str:
    """Return the field of ``scope`` on ``line``."""
    return next(path for path, place in _places(policies[scope]) if place[0] == line)


def findings(policies: Written, base: Written | None = None) -> list[Diagnostic]:
    """Return the findings of a tree, compared with an earlier tree if given."""
    return check_tree(tree(policies), base=None if base is None else tree(base))


def places(policies: Written, base: Written | None = None) -> list[tuple[str, str, str]]:
    """Return code, scope and field of each finding."""
    return [
        (found.code, found.span.file, path_at(policies, found.span.file, found.span.line))
        for found in findings(policies, base)
    ]


def one(**fields: Any) -> dict[str, Any]:
    """Return a document with these fields of the limit ``spike``."""
    return {"limits": {"spike": fields}}


def cap(**fields: Any) -> dict[str, Any]:
    """Return a document with a cap on ``spike``."""
    return {"caps": {"spike": fields}}


def budget(**fields: Any) -> dict[str, Any]:
    """Return a document with the budget ``fleet``."""
    return {"budgets": {"fleet": fields}}


def _places(of: Mapping[str, Any]) -> Iterator[tuple[str, tuple[int, int, int]]]:
    for line, path in enumerate(_paths(of, ""), start=1):
        yield path, (line, 1, 2)


def _paths(value: Any, path: str) -> Iterator[str]:
    yield path
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            yield from _paths(inner, f"{path}.{key}" if path else str(key))
