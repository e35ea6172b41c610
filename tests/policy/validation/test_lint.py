"""Lint: findings of each rule with their places, and policies without findings."""

from __future__ import annotations

import pytest
from hypothesis import given

from policy.trees import Written, budget, cap, findings, one, path_at, places, written

WINDOW = {"algorithm": "sliding-window"}


QUIET: dict[str, Written] = {
    # RC304
    "per ip below proxies": {
        "/": {"trusted_proxies": ["10.0.0.0/8"]}, "/a": one(rate="1/s", per="ip"),
    },
    "per ip without proxies, declared": {"/": {"trusted_proxies": [], **one(rate="1/s", per="ip")}},
    "per ip, but off": {"/": one(rate="1/s", per="ip", mode="off")},
    "per something like ip": {"/": one(rate="1/s", per=["ip_class"])},
    # RC305
    "a cap on what is defined above": {"/": one(rate="1/s"), "/a": cap(rate="2/s")},
    "a cap on what is defined far below": {"/": cap(rate="2/s"), "/a/b/c": one(rate="1/s")},
    "a cap on what is defined two names on": {
        "/a": cap(rate="2/s"), "/a-b": {}, "/a/b": one(rate="1/s"),
    },
    # RC306
    "somebody below asks for less": {
        "/": one(rate="9/s"), "/a": cap(rate="5/s"), "/a/b": one(rate="4/s"),
    },
    "the cap itself, written as the limit": {
        "/": one(rate="9/s", burst=9),
        "/a": {**one(rate="5/s", burst=5), **cap(rate="5/s", burst=5)},
    },
    "a default burst above a cap": {"/": one(rate="9/s"), "/a": cap(burst=5)},
}  # fmt: skip

NOISY: dict[str, tuple[Written, list[tuple[str, str, str]]]] = {
    "per ip": ({"/": one(rate="1/s", per="ip")}, [("RC304", "/", "limits.spike.per")]),
    "per ip among others, in a budget": (
        {"/": {}, "/a": budget(rate="1/s", per=["ip", "tenant"]),
         "/d": {"trusted_proxies": ["::1"]}},
        [("RC304", "/a", "budgets.fleet.per")],
    ),
    "a cap on nothing": (
        {"/": cap(rate="1/s"), "/a": {"limits": {"other": {"rate": "99/s"}}}},
        [("RC305", "/", "caps.spike")],
    ),
    "a cap on what a neighbour defines": (
        {"/a": cap(rate="1/s"), "/ab": one(rate="1/s"), "/d": one(rate="1/s")},
        [("RC305", "/a", "caps.spike")],
    ),
    "a cap on a budget": (
        {"/": {**budget(rate="1/s"), "caps": {"fleet": {"rate": "1/s"}}}},
        [("RC305", "/", "caps.fleet")],
    ),
    "inherited above a deeper cap": (
        {"/": one(rate="50/s", burst=200), "/a": cap(rate="40/s", burst=100)},
        [("RC306", "/a", "caps.spike")],
    ),
    "inherited above a deeper cap by all below": (
        {"/": one(rate="50/s", burst=200), "/a": cap(rate="40/s", burst=300),
         "/a/b": one(mode="enforce")},
        [("RC306", "/a", "caps.spike.rate")],
    ),
    "a window above a cap on counts": (
        {"/": one(rate="50/min", **WINDOW), "/a": cap(burst=40)},
        [("RC306", "/a", "caps.spike.burst")],
    ),
    "each of two caps": (
        {"/": one(rate="50/s"), "/a": cap(rate="40/s"), "/a/b": cap(rate="30/s")},
        [("RC306", "/a", "caps.spike.rate"), ("RC306", "/a/b", "caps.spike.rate")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("documents", QUIET.values(), ids=QUIET.keys())
def test_policies_without_findings(documents: Written) -> None:
    assert findings(documents) == []


@pytest.mark.parametrize(("documents", "expected"), NOISY.values(), ids=NOISY.keys())
def test_policies_with_findings(documents: Written, expected: list[tuple[str, str, str]]) -> None:
    assert places(documents) == expected
    for found in findings(documents):
        assert found.severity == "warning"
        assert found.hint


def test_a_misspelt_cap_is_guessed() -> None:
    near: Written = {"/": {"caps": {"spkie": {"rate": "1/s"}}}, "/a": one(rate="1/s")}
    assert [found.hint for found in findings(near)] == ["did you mean spike?"]
    far: Written = {"/": {"caps": {"zzz": {"rate": "1/s"}}}, "/a": one(rate="1/s")}
    assert [found.hint for found in findings(far)] == [
        "delete the cap, or correct the limit's name"
    ]


def test_guessing_is_bounded() -> None:
    caps = {f"spik{n}": {"rate": "1/s"} for n in range(99)}
    many: Written = {"/": {"caps": caps}, "/a": one(rate="1/s")}
    guessed = [found for found in findings(many) if found.hint == "did you mean spike?"]
    assert (len(findings(many)), len(guessed)) == (99, 50)


@given(written)
def test_writing_the_cap_as_the_limit_is_enough(documents: Written) -> None:
    before = [each for each in places(documents) if each[0] != "RC306"]
    found = [each for each in findings(documents) if each.code == "RC306"]
    for each in found:
        _, name, *_ = path_at(documents, each.span.file, each.span.line).split(".")
        assert each.hint is not None
        text = each.hint.partition("limits: {")[2].partition(": {")[2].rstrip("}")
        limit = documents[each.span.file]["limits"].setdefault(name, {})
        for field in text.split(", "):
            key, _, value = field.partition(": ")
            limit[key] = int(value) if key == "burst" else value
    now = places(documents)
    errors = [each for each in now if each[0].startswith("RC2")]
    assert not found or not any(each[0] == "RC306" for each in now)
    assert {each[:2] for each in errors} <= {each[:2] for each in before}
