"""Lint of names: misspelt limits, attributes and scopes, and names that differ on purpose."""

from __future__ import annotations

from typing import Any

import pytest

from policy.trees import Written, findings, places
from ratectl.policy.read import load_checked

RATE = {"rate": "1/s"}


def limits(*names: str, **fields: Any) -> dict[str, Any]:
    return {"limits": {name: {**RATE, **fields} for name in names}}


def override(*names: str, match: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"name": "o", "match": match or {"tier": "free"}, **limits(*names)}


QUIET: dict[str, Written] = {
    "another digit, another ending": {
        "/": limits("daily", "read", "tier", "hour", "upload"),
        "/a": limits("daily2", "write", "tier2", "hourly", "uploads"),
    },
    "two limits of one document": {"/": limits("spike", "spkie")},
    "two limits of scopes that do not inherit": {"/a": limits("spike"), "/b": limits("spkie")},
    "a name that is new above": {"/": limits("x"), "/a": limits("spkie"), "/a/b": limits("spkie")},
    "attributes that differ on purpose": {
        "/": limits("spike", per=["tenant", "tenants", "tenant2", "tenant_id", "route", "router"]),
    },
    "scopes with other digits": {"/v1": {}, "/v10": {}, "/v2": {}, "/shard": {}, "/shard1": {}},
    "short scopes": {"/a": {}, "/ab": {}, "/eu": {}, "/eux": {}},
    "scopes of other parents": {"/a/shop": {}, "/b/Shop": {}, "/shop": {}, "/b/x/shops": {}},
    "a scope and its child": {"/shop": {}, "/shop/shops": {}},
    "a scope that ends differently": {"/cards": {}, "/carts": {}, "/cart-list": {}},
}  # fmt: skip

NOISY: dict[str, tuple[Written, list[tuple[str, str, str]]]] = {
    "a limit of a child": (
        {"/": limits("spike"), "/a/b": limits("spkie")},
        [("RC310", "/a/b", "limits.spkie")],
    ),
    "reported where it is new, not where it is inherited": (
        {"/": limits("spike"), "/a": limits("spkie"), "/a/b": limits("spkie")},
        [("RC310", "/a", "limits.spkie")],
    ),
    "upper case": (
        {"/": limits("spike"), "/a": limits("Spike")}, [("RC310", "/a", "limits.Spike")],
    ),
    "a limit of an override, near one of its own document": (
        {"/": {**limits("spike"), "overrides": [override("spkie")]}},
        [("RC310", "/", "overrides.0.limits.spkie")],
    ),
    "a limit near one that only an override above defines": (
        {"/": {"overrides": [override("spike")]}, "/a": limits("spkie")},
        [("RC310", "/a", "limits.spkie")],
    ),
    "two overrides": (
        {"/": {"overrides": [override("spike"), {**override("spkie"), "name": "p"}]}},
        [("RC310", "/", "overrides.1.limits.spkie")],
    ),
    "an attribute that is used less often": (
        {"/": limits("x", "y", per="tenant"), "/a": limits("z", per=["route", "tennant"])},
        [("RC311", "/a", "limits.z.per.1")],
    ),
    "an attribute that is used equally often, later": (
        {"/": limits("x", per="tenant"), "/a": limits("z", per="Tenant")},
        [("RC311", "/a", "limits.z.per")],
    ),
    "an attribute used less often, earlier": (
        {"/": limits("x", per="tennant"), "/a": limits("y", "z", per="tenant")},
        [("RC311", "/", "limits.x.per")],
    ),
    "an attribute of a match": (
        {"/": {**limits("x", per="tenant"), "overrides": [override("x", match={"tennant": "a"})]}},
        [("RC311", "/", "overrides.0.match.tennant")],
    ),
    "an attribute of a budget": (
        {"/": {**limits("x", per="tenant"), "budgets": {"b": {**RATE, "per": ["tennant"]}}}},
        [("RC311", "/", "budgets.b.per.0")],
    ),
    "one finding for each document": (
        {"/": limits("x", "y", "z", per="tenant"), "/a": limits("v", "w", per="tennant")},
        [("RC311", "/a", "limits.v.per")],
    ),
    "scopes that differ by case": (
        {"/shop/cart": {}, "/Shop/cart": {}},
        [("RC312", "/Shop/cart", "")],
    ),
    "scopes that differ by a last letter": (
        {"/payments/checkout": {}, "/payments/checkouts": {}},
        [("RC312", "/payments/checkouts", "")],
    ),
    "scopes that differ by a last letter in the middle": (
        {"/payment/refunds": {}, "/payments": {}, "/payments/refunds": {}},
        [("RC312", "/payments", "")],
    ),
    "scopes that differ by a last dash": (
        {"/shop": {}, "/shop-": {}}, [("RC312", "/shop-", "")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("documents", QUIET.values(), ids=QUIET.keys())
def test_names_without_findings(documents: Written) -> None:
    assert findings(documents) == []


@pytest.mark.parametrize(("documents", "expected"), NOISY.values(), ids=NOISY.keys())
def test_names_with_findings(documents: Written, expected: list[tuple[str, str, str]]) -> None:
    assert places(documents) == expected
    for found in findings(documents):
        assert found.severity == "warning"
        assert found.hint
        assert found.hint.startswith("did you mean ")


HEAD = "apiVersion: ratectl/v1\n"
BASE = f"{HEAD}scope: /\nlimits: {{spike: {{rate: 9/s, per: tenant}}}}\n"


def checked(*documents: str) -> list[tuple[str, int, str | None]]:
    """Return code, line and hint of each finding of a file with these documents."""
    text = "---\n".join((BASE, *(HEAD + document + "\n" for document in documents)))
    loaded = load_checked(["-"], stdin=text.encode())
    return [(found.code, found.span.line, found.hint) for found in loaded.diagnostics]


def test_misspelt_limit_of_an_exception() -> None:
    text = (
        "kind: Exception\nscope: /\nreason: x\nuntil: 2096-01-01T00:00Z\nlimits: {%s: {rate: 5/s}}"
    )
    found = checked(text % "spkie")
    assert [(code, line) for code, line, _ in found] == [("RC310", 10)]
    assert checked(text % "other") == checked(text % "spike") == []


def test_misspelt_attribute_of_a_test() -> None:
    text = (
        "kind: PolicyTest\nname: t\nsteps:\n"
        "  - {scope: /, attributes: {%s: a}, expect: {allowed: 1}}\n"
        "  - {scope: /, attributes: {%s: b}, expect: {allowed: 1}}"
    )
    assert checked(text % ("tennant", "tennant")) == [("RC311", 9, "did you mean tenant?")]
    assert checked(text % ("tenant", "route")) == []


def test_misspelt_unset_names_the_inherited_limit() -> None:
    assert checked("scope: /a\nunset: [spkie]") == [("RC301", 7, "did you mean spike?")]
    hint = "delete other from unset"
    assert checked("scope: /a\nunset: [other]") == [("RC301", 7, hint)]


def test_names_below_a_broken_scope_are_not_judged() -> None:
    """A scope below a broken one inherits names that nobody knows."""
    found = checked(
        "scope: /a\nlimits: {x: {rate: 1/x}}", "scope: /a/b\nlimits: {spkie: {rate: 1/s}}"
    )
    assert [code for code, *_ in found] == ["RC140"]


def test_sharing_below_a_broken_scope_is_not_judged() -> None:
    """A scope below a broken one may inherit that a limit is shared."""
    found = checked(
        "scope: /a\nlimits: {x: {rate: 1/x}}",
        "scope: /a/b\nlimits: {z: {rate: 5/s, consistency: strict}}",
    )
    assert [code for code, *_ in found] == ["RC140"]
