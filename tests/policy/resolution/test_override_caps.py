"""Caps in overrides: they bind the requests that match, at their scope and in every scope below."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from policy.conditions import NOON, excepted, exception, limit, ns, override
from ratectl.compiler.plans import compile_tree
from ratectl.engine.conditional_limit import plan_of
from ratectl.policy.resolution.resolver import Resolver

if TYPE_CHECKING:
    from ratectl.policy.language.model import PolicyTree

SPIKE = {"rate": "50/s", "burst": 100, "per": ["tenant"]}


def free(**cap: Any) -> dict[str, Any]:
    return {"name": "free", "match": {"tier": "free"}, "caps": {"x": cap}}


def rate(policies: PolicyTree, scope: str = "/", **attributes: str) -> str:
    return str(limit(policies, scope, **attributes).rate)


def plan(policies: PolicyTree, scope: str, **attributes: str) -> Any:
    found = compile_tree(policies, 1, None, ns(NOON)).find(scope)
    assert found is not None
    chosen = found.limit("x")
    assert chosen is not None
    return plan_of(chosen, attributes)


PRODUCTS = excepted({
    "/": {"limits": {"x": SPIKE}, "overrides": [free(rate="5/s", burst=10)]},
    "/search": {"limits": {"x": {"rate": "60/s"}}},
    "/search/slow": {"limits": {"x": {"rate": "2/s", "burst": 4}}},
    "/batch": {"limits": {"x": {"algorithm": "token-bucket", "rate": "1000/min", "burst": 500}}},
    "/batch/night": {"overrides": [override("gold", x={"rate": "900/s"})]},
})  # fmt: skip


@pytest.mark.parametrize(
    ("scope", "rate_of_all", "rate_of_free", "burst_of_free"),
    [
        ("/", "50/s", "5/s", 10),
        ("/search", "60/s", "5/s", 10),
        ("/search/undeclared", "60/s", "5/s", 10),
        ("/search/slow", "2/s", "2/s", 4),
        ("/batch", "1000/min", "5/s", 10),
        ("/batch/night", "1000/min", "5/s", 10),
    ],
)
def test_no_scope_gives_the_capped_requests_more(
    scope: str, rate_of_all: str, rate_of_free: str, burst_of_free: int
) -> None:
    assert rate(PRODUCTS, scope, tier="gold") == ("900/s" if "night" in scope else rate_of_all)
    assert rate(PRODUCTS, scope) == rate_of_all
    capped = limit(PRODUCTS, scope, tier="free")
    assert (str(capped.rate), capped.burst) == (rate_of_free, burst_of_free)


def test_the_tightest_matching_cap_holds_whatever_their_order() -> None:
    caps = [free(rate="5/s"), {**free(rate="8/s", burst=3), "name": "acme", "match": {"t": "a"}}]
    for overrides in (caps, caps[::-1]):
        tree = excepted({
            "/": {"limits": {"x": SPIKE}, "caps": {"x": {"rate": "20/s", "burst": 30}},
                  "overrides": overrides},
        })  # fmt: skip
        both = limit(tree, tier="free", t="a")
        assert (str(both.rate), both.burst) == ("5/s", 3)
        one = limit(tree, tier="free")
        assert (str(one.rate), one.burst) == ("5/s", 30)
        other = limit(tree, t="a")
        assert (str(other.rate), other.burst) == ("8/s", 3)


@pytest.mark.parametrize(
    ("declared", "cap", "field", "value"),
    [
        ({"algorithm": "sliding-window", "rate": "600/min"}, {"rate": "5/s"}, "rate", "300/min"),
        ({"algorithm": "sliding-window", "rate": "600/min"}, {"burst": 9}, "rate", "9/min"),
        ({"algorithm": "quota", "rate": "900/day"}, {"rate": "100/day"}, "rate", "100/day"),
        ({"algorithm": "concurrency", "max": 50}, {"burst": 2}, "max", "2"),
        ({"rate": "unlimited"}, {"rate": "5/s"}, "rate", "5/s"),
        ({"rate": "9/s"}, {"rate": "0/s"}, "rate", "0/s"),
    ],
)
def test_every_algorithm_is_clipped(
    declared: dict[str, Any], cap: dict[str, Any], field: str, value: str
) -> None:
    tree = excepted({"/": {"limits": {"x": declared}, "overrides": [free(**cap)]}})
    assert str(getattr(limit(tree, tier="free"), field)) == value
    assert limit(tree).clips == {}


def test_a_clip_names_the_override_and_the_value_asked_for() -> None:
    clip = limit(PRODUCTS, "/search", tier="free").clips["rate"]
    assert str(clip.asked) == "60/s"
    assert clip.cap.scope == "/"
    assert clip.cap.via is not None
    assert clip.cap.via.ref == "free@/"


def test_a_matching_override_selects_the_bucket_of_every_limit_that_it_caps() -> None:
    """Clipping or not; and of no other limit."""
    tree = excepted({
        "/": {"limits": {"x": {"rate": "1/s"}, "y": {"rate": "1/s"}},
              "overrides": [free(rate="5/s")]},
    })  # fmt: skip
    assert limit(tree, tier="free").clips == {}
    assert limit(tree, tier="free").touched == ("free@/",)
    assert limit(tree, name="y", tier="free").touched == ()
    assert limit(tree, tier="gold").touched == ()
    assert plan(tree, "/", tier="free").overrides == ("free@/",)
    assert plan(tree, "/", tier="gold").overrides == ()


def test_a_cap_makes_no_limit() -> None:
    tree = excepted({"/": {"overrides": [free(rate="5/s")]}})
    resolved = Resolver(tree).select("/", {"tier": "free"})
    assert resolved is not None
    assert (resolved.limits, resolved.problems) == ({}, {})
    assert plan(tree, "/", tier="free") is None


def test_an_exception_is_clipped() -> None:
    tree = excepted(
        {"/": {"limits": {"x": SPIKE}, "overrides": [free(rate="5/s")]}, "/a": {}},
        exception("/a", limits={"x": {"rate": "80/s"}}),
    )
    assert rate(tree, "/a") == "80/s"
    assert rate(tree, "/a", tier="free") == "5/s"


def test_caps_hold_where_a_combination_of_overrides_is_unusable() -> None:
    """Agents ignore the later override there, but not its cap."""
    tree = excepted({
        "/": {
            "limits": {"x": SPIKE},
            "overrides": [
                override("slots", {"a": "1"}, x={"algorithm": "concurrency", "max": 3}),
                {**override("fast", {"b": "1"}, x={"rate": "90/s"}), "caps": {"x": {"burst": 2}}},
            ],
        },
    })  # fmt: skip
    found = plan(tree, "/", a="1", b="1")
    assert (found.algorithm.capacity, found.overrides) == (2, ("slots@/", "fast@/"))
    resolved = Resolver(tree).limit("/", "x", 0b11)
    assert resolved is not None
    assert (resolved.max, resolved.touched) == (2, found.overrides)


def test_a_publication_that_changes_a_cap_changes_the_choice() -> None:
    """The engine compares choices by shape and content."""

    def choice(*overrides: dict[str, Any]) -> Any:
        tree = excepted({"/": {"limits": {"x": SPIKE}, "overrides": list(overrides)}})
        found = compile_tree(tree, 1).find("/")
        assert found is not None
        return found.limit("x")

    capped, other = choice(free(rate="5/s")), choice(free(rate="6/s"))
    assert (capped.shape, capped.content) == (choice(free(rate="5/s")).shape, capped.content)
    assert capped.shape == other.shape
    assert capped.content != other.content
    same = override("free", {"tier": "free"}, x={"mode": "enforce"})
    assert choice(same).shape != choice({**same, "caps": {"x": {"rate": "5/s"}}}).shape
