"""Random trees of policies with words, names and numbers that are easily misread."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from ratectl.policy.language.instants import Instant
from ratectl.policy.language.model import Exemption, Policy, PolicyTree, with_exceptions

tricky = st.sampled_from(
    ["no", "yes", "on", "y", "N", "null", "1e3", "010", "0x1F", "1_000", "12.30", "1.5", "7",
     "true", "inf", ".inf", "a-b", "spike", "x_", "-", "2026-01-01", "nan", "0o7"]
)  # fmt: skip
names = tricky.filter(lambda name: "." not in name and name[0].isalnum()) | st.from_regex(
    r"[A-Za-z0-9][A-Za-z0-9_-]{0,8}", fullmatch=True
)
rates = st.builds(
    lambda count, multiple, unit: f"{count}/{multiple}{unit}",
    st.integers(0, 10**6),
    st.sampled_from(["", "7", "30"]),
    st.sampled_from(["s", "min", "h", "day", "week"]),
) | st.sampled_from(["unlimited", "0.5/s", "0/s"])
words = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cf", "Zl", "Zp", "Cs", "Cn"]),
    max_size=100,
)
limits = st.dictionaries(
    names,
    st.fixed_dictionaries(
        {"rate": rates},
        optional={
            "burst": st.integers(0, 10**9),
            "per": st.lists(names, unique=True, max_size=3),
            "mode": st.sampled_from(["enforce", "shadow", "off"]),
        },
    ),
    max_size=4,
)
texts = words.map(lambda text: text[:20]) | tricky | st.sampled_from(["*", "/v1/*", "a: b", ""])
matchers = st.one_of(
    texts,
    st.lists(texts, min_size=2, max_size=3, unique=True),
    texts.map(lambda text: {"not": text}),
    st.lists(texts, min_size=1, max_size=2, unique=True).map(lambda many: {"not": many}),
    st.sampled_from([{"cidr": "10.0.0.0/8"}, {"not": {"cidr": ["::1", "10.0.0.0/24"]}}]),
    st.booleans().map(lambda there: {"exists": there}),
)
matches = st.dictionaries(names, matchers, min_size=1, max_size=2)
some_limits = limits.filter(bool)
overrides = st.fixed_dictionaries(
    {"name": names, "match": matches, "limits": some_limits}, optional={"description": words}
)
instants = st.builds(
    lambda count, unit: Instant((31_536_000 * 10**6 + count * unit) * 1_000),
    st.integers(0, 10**7),
    st.sampled_from([1, 10**6, 60 * 10**6]),
)
exceptions = st.fixed_dictionaries(
    {
        "scope": st.sampled_from(["/", "/a", "/no"]),
        "reason": words.filter(bool) | tricky,
        "until": instants,
        "limits": limits,
    },
    optional={"owner": words, "from": instants, "match": matches, "budgets": limits},
)
said = st.fixed_dictionaries(
    {},
    optional={
        "description": words | tricky,
        "owner": words | tricky,
        "on_error": st.sampled_from(["allow", "deny"]),
        "protected": st.booleans(),
        "unset": st.lists(names, unique=True, max_size=3),
        "limits": limits,
        "caps": st.dictionaries(names, st.fixed_dictionaries({"burst": st.integers(0, 9)})),
        "overrides": st.lists(overrides, max_size=3, unique_by=lambda override: override["name"]),
    },
)
_scopes = st.dictionaries(st.sampled_from(["/", "/a", "/1", "/no", "/a/1.5", "/a/b"]), said)


def _tree(scopes: dict[str, dict[str, Any]], amended: list[dict[str, Any]]) -> PolicyTree:
    policies = {
        scope: Policy.model_validate({"scope": scope, **of}) for scope, of in scopes.items()
    }
    exempted = ((Exemption.model_validate(each), None) for each in amended)
    return with_exceptions(PolicyTree(policies), exempted)


trees = st.builds(_tree, _scopes, st.lists(exceptions, max_size=3))
"""Not all of them hold together."""
