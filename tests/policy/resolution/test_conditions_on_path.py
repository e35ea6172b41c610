"""Conditions that are reused for other exceptions."""

from __future__ import annotations

import pytest

from ratectl.policy.language.model import Exemption, Policy, PolicyTree
from ratectl.policy.resolution.conditions import TreeConditions

NOW = 1_800_000_000 * 10**9
OVERRIDE = [{"name": "o", "match": {"tier": "gold"}, "limits": {"l": {"rate": "2/s"}}}]
POLICIES = {
    scope: Policy.model_validate({"scope": scope, **documents})
    for scope, documents in {
        "/": {"limits": {"l": {"rate": "1/s", "per": "tenant"}}, "overrides": OVERRIDE},
        "/a": {},
        "/a/b": {"overrides": OVERRIDE},
        "/c": {"overrides": OVERRIDE},
    }.items()
}


@pytest.mark.parametrize("at", [("/",), ("/a",), ("/a/b",), ("/", "/a/b"), ("/a", "/a", "/c"), ()])
@pytest.mark.parametrize("match", [None, {"tenant": "acme"}])
def test_conditions_reused_without_exceptions_are_the_same(
    at: tuple[str, ...], match: dict[str, str] | None
) -> None:
    documents = {"reason": "r", "until": "2030-01-01T00:00Z", "limits": {"l": {"rate": "3/s"}}}
    exceptions = tuple(
        Exemption.model_validate(
            {**documents, "scope": scope, **({"match": match} if match else {})}
        )
        for scope in at
    )
    tree = PolicyTree(POLICIES, exceptions=exceptions)
    whole = TreeConditions(tree, NOW)
    again = TreeConditions(tree, NOW, TreeConditions(tree, None))
    for scope in ("/", "/a", "/a/b", "/a/b/x", "/c"):
        assert again.at(scope) == whole.at(scope)
