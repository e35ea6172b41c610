"""Scopes: well-formed names and ancestry."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratectl.policy.language.scopes import MAX_DEPTH, ancestry, nearest, parent, scope_problem


@pytest.mark.parametrize(
    "scope",
    ["/", "/a", "/payments/checkout", "/A-b_c.d/0", "/...", "/.a", "/-", "/a" * MAX_DEPTH],
)
def test_good_scopes(scope: str) -> None:
    assert scope_problem(scope) is None


@pytest.mark.parametrize(
    ("scope", "problem"),
    [
        ("", "a scope starts with '/': write /"),
        ("a/b", "a scope starts with '/': write /a/b"),
        ("a/", "a scope starts with '/': write /a"),
        ("/a/", "a scope does not end with '/': write /a"),
        ("//", "a scope does not end with '/': write /"),
        ("/a//b", "a scope has no empty segments: write single slashes"),
        ("/a/../b", "'..' is not a scope segment: write the path out"),
        ("/.", "'.' is not a scope segment: write the path out"),
        ("/a b", "segment 'a b' may hold only letters, digits, '.', '_' and '-': write /a-b"),
        (
            "/ä",
            (
                "segment 'ä' may hold only letters, digits, '.', '_' and '-': write / or a path "
                "like /payments/checkout"
            ),
        ),
        ("/a\n", r"segment 'a\n' may hold only letters, digits, '.', '_' and '-': write /a"),
        (
            "/v1/*/x",
            "a scope is not a pattern, and its limits also hold for the scopes below it: write /v1",
        ),
        ("https://example.org/a/b", "a scope starts with '/': write /a/b"),
        ("a\u200b", r"a scope starts with '/': write /a"),
        ("/a" * 65, "a scope is at most 64 segments deep, this one has 65"),
        ("/" + "a" * 1024, "a scope has at most 1024 characters, this one has 1025"),
        ("a" * 2000, "a scope has at most 1024 characters, this one has 2000"),
    ],
)
def test_bad_scopes(scope: str, problem: str) -> None:
    assert scope_problem(scope) == problem


@given(st.text(alphabet="/.a-\u200b\n", max_size=12) | st.text())
def test_any_text_is_a_scope_or_has_a_printable_problem(scope: str) -> None:
    problem = scope_problem(scope)
    assert problem is None or problem.isprintable()
    if problem is None:
        assert list(ancestry(scope))[-1] == "/"
        assert all(scope_problem(at) is None for at in ancestry(scope))


def test_parent() -> None:
    assert parent("/") is None
    assert parent("/a") == "/"
    assert parent("/a/b") == "/a"


def test_ancestry_is_deepest_first() -> None:
    assert list(ancestry("/a/b")) == ["/a/b", "/a", "/"]
    assert list(ancestry("/")) == ["/"]


@pytest.mark.parametrize(
    ("scope", "declared", "owner"),
    [
        ("/a/b/c", {"/", "/a/b"}, "/a/b"),
        ("/a/b", {"/a/b", "/"}, "/a/b"),
        ("/ab", {"/a"}, None),
        ("/a", {"/"}, "/"),
        ("/", set(), None),
    ],
)
def test_nearest(scope: str, declared: set[str], owner: str | None) -> None:
    assert nearest(scope, declared) == owner
