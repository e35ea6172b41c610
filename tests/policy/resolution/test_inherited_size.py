"""Bound on inherited limits of a tree: exact except for ``unset``."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.trees import tree, written
from ratectl.policy.language.scopes import ancestry
from ratectl.policy.resolution import inherited_size
from ratectl.policy.resolution.inherited_size import too_much_inherited

Written = dict[str, dict[str, Any]]


def counted(documents: Written) -> int:
    """Return the size of a tree: the smallest bound that it does not exceed."""
    total = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inherited_size, "MAX_IN_FORCE", total)
        while too_much_inherited(tree(documents)):
            total += 1
            patch.setattr(inherited_size, "MAX_IN_FORCE", total)
    return total


@given(written)
def test_everything_inherited_is_counted(documents: Written) -> None:
    total = 0
    for scope in documents:
        path = [documents[above] for above in ancestry(scope) if above in documents]
        total += len({name for document in path for name in document.get("limits", ())})
        total += sum(len(document.get("budgets", ())) for document in path)
    assert counted(documents) == total


def test_limits_of_siblings_are_not_inherited() -> None:
    two = {"limits": {"x": {"rate": "1/s"}, "z": {"rate": "1/s"}}}
    assert counted({"/a": two, "/a/b": two, "/ab": two}) == 6
    assert counted({"/a-b": two, "/a": two, "/a/b": {}, "/a-b/c": {}}) == 8


def test_the_finding_names_the_scope_that_exceeds_the_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inherited_size, "MAX_IN_FORCE", 5)
    three = {"limits": {name: {"rate": "1/s"} for name in ("u", "v", "w")}}
    assert too_much_inherited(tree({"/": three, "/a": {}})) == (
        "/a",
        "the scopes inherit more than 5 limits and budgets in all",
    )


segments = st.lists(st.sampled_from(("a", "b", "a-b", "a.b", "a_b", "A", "0", "-")), max_size=4)


@given(st.sets(segments.map(lambda parts: "/" + "/".join(parts))))
def test_scopes_are_followed_by_all_scopes_below(scopes: set[str]) -> None:
    of = tree({scope: {} for scope in scopes})
    assert inherited_size._in_order(of) == sorted(scopes, key=lambda scope: scope.split("/")[1:])
