"""Scopes of requests: any text has an answer, at once, and takes little memory."""

from __future__ import annotations

from itertools import pairwise
from time import perf_counter
from typing import TYPE_CHECKING, Final

import pytest

from engine.model import Limit
from engine.plans import rate
from ratectl.engine import control, scopes
from ratectl.engine.scopes import MAX_CHARS, MAX_DEPTH, lineage
from ratectl.policy.language import scopes as declared

if TYPE_CHECKING:
    from collections.abc import Callable

    from conformance.engine_rig import Rig

DEEPEST: Final = "/a" * MAX_DEPTH
LONGEST: Final = "/a/" + "b" * (MAX_CHARS - 3)
MEGABYTES: Final = 32 << 20

LONG: Final = {
    "64,000 segments": "/a" * 64_000,
    "millions of segments": "/a" * (MEGABYTES // 2),
    "empty segments": "/a" + "/" * MEGABYTES,
    "one segment": "/a/" + "x" * MEGABYTES,
    "no slash": "x" * MEGABYTES,
    "Chinese": "/a/" + "限" * (MEGABYTES // 2),
}


def ask_by_check(rig: Rig, scope: str) -> str | None:
    return rig.engine.check(scope).scope


def ask_by_check_many(rig: Rig, scope: str) -> str | None:
    return rig.engine.check_many([(scope,)])[0].scope


WAYS: Final[dict[str, Callable[[Rig, str], str | None]]] = {
    "check": ask_by_check,
    "check_many": ask_by_check_many,
}


def test_bounds_are_those_of_declared_scopes() -> None:
    assert (declared.MAX_DEPTH, declared.MAX_SCOPE_CHARS) == (MAX_DEPTH, MAX_CHARS)


@pytest.mark.parametrize(
    ("scope", "ancestors"),
    [
        ("/", ["/"]),
        ("/a/b", ["/a/b", "/a", "/"]),
        ("/a/", ["/a/", "/a", "/"]),
        ("", ["", "/"]),
        ("a", ["a", "/"]),
        (DEEPEST + "/b", [*["/a" * depth for depth in range(MAX_DEPTH, 0, -1)], "/"]),
        (LONGEST + "/c", [LONGEST, "/a", "/"]),
        (LONGEST + "b", ["/a", "/"]),
        ("/" + "b" * MAX_CHARS, ["/"]),
    ],
)
def test_lineage(scope: str, ancestors: list[str]) -> None:
    assert list(lineage(scope)) == ancestors


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_longer_scope_is_governed_by_its_nearest_declared_ancestor(
    rig: Rig, way: str, mirrored: bool
) -> None:
    limits = [Limit(scope, "l", rate(9)) for scope in ("/", "/a", DEEPEST, LONGEST)]
    rig.publish(*limits)
    if mirrored:
        rig.engine.mirror(Mirror())
    ask = WAYS[way]
    for _ in range(3):
        assert ask(rig, DEEPEST) == DEEPEST
        assert ask(rig, DEEPEST + "/x") == DEEPEST
        assert ask(rig, LONGEST) == LONGEST
        assert ask(rig, LONGEST + "/x") == LONGEST
        assert ask(rig, LONGEST + "x") == "/a"
        assert ask(rig, "/" + "x" * MAX_CHARS) == "/"


class Mirror:
    """A mirror that sees nothing."""

    def decided(self, *_: object) -> bool:
        return False

    def released(self, *_: object) -> None:
        pass

    def settled(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("long", LONG)
def test_the_length_of_a_scope_takes_no_time(rig: Rig, long: str) -> None:
    """The bound is generous: a walk over the text took a second for 64,000 segments."""
    rig.publish(Limit("/", "l", rate(10**6)), Limit("/a", "l", rate(10**6)))
    scope = LONG[long]
    of = "/" if long == "no slash" else "/a"
    began = perf_counter()
    for _ in range(5):
        decision = rig.engine.check(scope)
        assert decision.scope == of
        rig.engine.settle(decision, 3)
        assert rig.engine.check_many([(scope,), (scope, {}, 2)])[1].scope == of
        assert rig.engine.gate(scope)()
        assert rig.engine.waived(scope) is None
        plan = rig.engine.plan(scope)
        assert plan is not None
        assert plan.scope == of
    assert perf_counter() - began < 0.2


@pytest.mark.parametrize("long", LONG)
def test_a_waiver_of_an_ancestor_holds_for_a_long_scope(rig: Rig, long: str) -> None:
    rig.publish(Limit("/", "l", rate(1)))
    rig.engine.waive({"/": "open"})
    assert [rig.ask(scope=LONG[long]).allowed for _ in range(3)] == [True] * 3
    assert rig.engine.waived(LONG[long]) == "open"


def test_a_decision_keeps_no_long_scope(rig: Rig) -> None:
    rig.publish(Limit("/a", "l", rate(9)))
    scope = Text("/a" * 64_000)
    decision = rig.engine.check(scope)
    gate = rig.engine.gate(scope)
    assert gate()
    assert decision.scope == "/a"
    assert Text.copied == 0


class Text(str):
    """A scope whose whole text nobody needs."""

    __slots__ = ()
    copied = 0

    def __str__(self) -> str:
        Text.copied += 1
        return super().__str__()


def test_scopes_are_remembered_within_bounds(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "_MAX_ALIAS_CHARS", 10_000)
    rig.publish(Limit("/", "l", rate(10**6)))
    sizes = []
    for number in range(100):
        assert rig.ask(scope=f"/{number:0900}").allowed
        active = rig.engine._active  # type: ignore[attr-defined]
        sizes.append(sum(map(len, active)))
    assert max(sizes) <= 10_000 + scopes.MAX_CHARS
    assert any(after < before for before, after in pairwise(sizes))
