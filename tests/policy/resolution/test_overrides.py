"""Rules of overrides; each test has the name of its rule."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.conditions import NOON, excepted, exception, limit, ns, override, shown
from policy.trees import NAMES, limits, tree
from ratectl.policy.resolution.algorithms.registry import ALGORITHMS
from ratectl.policy.resolution.conditions import bits
from ratectl.policy.resolution.resolver import Resolver

BASE = {"limits": {"x": {"rate": "10/s", "burst": 20, "per": ["tenant"]}}}
GOLD = {"tier": "gold"}


def of(*overrides: dict[str, Any], **document: Any) -> dict[str, Any]:
    return {**BASE, **document, "overrides": list(overrides)}


def test_an_override_is_for_the_requests_that_match() -> None:
    policies = tree({"/": of(override("gold", x={"rate": "40/s"}))})
    assert shown(limit(policies, **GOLD)) == ("40/s", 20)
    assert shown(limit(policies, tier="silver")) == ("10/s", 20)
    assert shown(limit(policies)) == ("10/s", 20)


def test_every_attribute_of_a_match_must_hold() -> None:
    match = {"tier": "gold", "route": "/v1/*"}
    policies = tree({"/": of(override("both", match, x={"burst": 5}))})
    assert limit(policies, **GOLD, route="/v1/a").burst == 5
    assert limit(policies, **GOLD, route="/v2").burst == 20
    assert limit(policies, **GOLD).burst == 20
    assert limit(policies, route="/v1/a").burst == 20


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_in_file_order_the_later_beats_the_earlier(order: tuple[str, str]) -> None:
    declared = {
        "a": override("a", x={"rate": "1/s"}),
        "b": override("b", {"tier": "*"}, x={"rate": "2/s"}),
    }
    policies = tree({"/": of(*(declared[name] for name in order))})
    assert str(limit(policies, **GOLD).rate) == {"a": "1/s", "b": "2/s"}[order[-1]]


def test_all_matching_overrides_apply_field_by_field() -> None:
    policies = tree(
        {"/": of(override("rate", x={"rate": "40/s"}), override("burst", x={"burst": 80}))}
    )
    found = limit(policies, **GOLD)
    assert shown(found) == ("40/s", 80)
    assert found.touched == ("rate@/", "burst@/")


def test_deeper_beats_shallower_whether_override_or_limits() -> None:
    above = of(override("gold", x={"rate": "40/s", "burst": 80}))
    policies = tree(
        {
            "/": above,
            "/a": {"limits": {"x": {"rate": "5/s"}}},
            "/a/b": {"limits": {}, "overrides": [override("gold", x={"rate": "7/s"})]},
        }
    )
    assert shown(limit(policies, "/a", **GOLD)) == ("5/s", 80)
    assert shown(limit(policies, "/a/b", **GOLD)) == ("7/s", 80)
    assert shown(limit(policies, "/a/b")) == ("5/s", 20)


def test_in_one_document_overrides_beat_limits() -> None:
    policies = tree(
        {
            "/": BASE,
            "/a": {
                "overrides": [override("gold", x={"rate": "40/s"})],
                "limits": {"x": {"rate": "5/s"}},
            },
        }
    )
    assert str(limit(policies, "/a", **GOLD).rate) == "40/s"
    assert str(limit(policies, "/a").rate) == "5/s"


def test_an_override_is_inherited_by_every_scope_below() -> None:
    policies = tree({"/": of(override("gold", x={"rate": "40/s"})), "/a": {"limits": {}}})
    for scope in ("/a", "/a/undeclared", "/elsewhere"):
        assert str(limit(policies, scope, **GOLD).rate) == "40/s"


def test_unset_drops_fields_of_overrides_above() -> None:
    policies = tree(
        {
            "/": of(override("gold", x={"rate": "40/s"}, y={"rate": "1/s"})),
            "/a": {"unset": ["x", "y"], "limits": {"x": {"rate": "3/s"}}},
        }
    )
    found = limit(policies, "/a", **GOLD)
    assert (shown(found), found.touched, found.per) == (("3/s", 3), (), ())
    resolved = Resolver(policies).select("/a", GOLD)
    assert resolved is not None
    assert "y" not in resolved.limits


def test_unset_keeps_fields_of_overrides_of_the_same_document() -> None:
    declared = {"unset": ["x"], "overrides": [override("gold", x={"rate": "3/s"})], "limits": {}}
    policies = tree({"/": BASE, "/a": declared})
    assert shown(limit(policies, "/a", **GOLD)) == ("3/s", 3)
    resolved = Resolver(policies).select("/a", {})
    assert resolved is not None
    assert "x" not in resolved.limits


def test_an_override_with_a_new_algorithm_drops_fields_that_it_lacks() -> None:
    policies = tree(
        {"/": of(override("window", x={"algorithm": "sliding-window", "rate": "5/min"}))}
    )
    found = limit(policies, **GOLD)
    assert (found.algorithm, found.burst, found.per) == ("sliding-window", None, ("tenant",))
    assert limit(policies).burst == 20


def test_a_limit_may_be_defined_by_overrides_alone() -> None:
    policies = tree({"/": of(override("card", y={"rate": "5/min", "per": ["card"]}))})
    assert limit(policies, name="y", **GOLD).per == ("card",)
    resolved = Resolver(policies).select("/", {})
    assert resolved is not None
    assert set(resolved.limits) == {"x"}


def test_burst_defaults_after_overrides_are_merged() -> None:
    policies = tree(
        {
            "/": {
                "limits": {"x": {"rate": "10/s"}},
                "overrides": [override("gold", x={"rate": "40/s"})],
            }
        }
    )
    assert (limit(policies).burst, limit(policies, **GOLD).burst) == (10, 40)


def test_a_deeper_cap_clips_a_value_of_an_override_above() -> None:
    policies = tree(
        {
            "/": of(override("gold", x={"rate": "40/s", "burst": 80})),
            "/a": {"limits": {}, "caps": {"x": {"rate": "15/s", "burst": 30}}},
        }
    )
    clipped = limit(policies, "/a", **GOLD)
    assert shown(clipped) == ("15/s", 30)
    assert set(clipped.clips) == {"rate", "burst"}
    assert shown(limit(policies, **GOLD)) == ("40/s", 80)
    assert shown(limit(policies, "/a")) == ("10/s", 20)


@pytest.mark.parametrize("mode", ["shadow", "off"])
def test_an_override_may_change_the_mode(mode: str) -> None:
    policies = tree({"/": of(override("gold", x={"mode": mode}))})
    assert (limit(policies, **GOLD).mode, limit(policies).mode) == (mode, "enforce")


def test_only_overrides_that_set_parameters_select_the_bucket() -> None:
    policies = tree(
        {
            "/": of(
                override("beaten", x={"rate": "40/s"}),
                override("says", x={"rate": "50/s"}),
                override("elsewhere", y={"rate": "1/s"}),
            )
        }
    )
    assert limit(policies, **GOLD).touched == ("says@/",)
    assert limit(policies, name="y", **GOLD).touched == ("elsewhere@/",)
    assert limit(policies).touched == ()


def test_a_beaten_override_that_changed_the_algorithm_selects_the_bucket() -> None:
    """The override dropped fields: without it the parameters would be different."""
    window = {"algorithm": "sliding-window", "rate": "5/min"}
    policies = tree(
        {
            "/": of(
                override("window", x=window),
                override("back", x={"algorithm": "token-bucket", "rate": "5/min"}),
            )
        }
    )
    found = limit(policies, **GOLD)
    assert (found.touched, found.burst) == (("window@/", "back@/"), 1)


def test_an_override_beaten_by_a_deeper_document_selects_no_bucket() -> None:
    policies = tree(
        {
            "/": of(override("gold", x={"rate": "40/s"})),
            "/a": {"limits": {"x": {"rate": "5/s"}}},
        }
    )
    assert limit(policies, "/a", **GOLD).touched == ()


def test_budgets_are_not_overridden() -> None:
    declared = of(override("gold", fleet={"rate": "1/s"}), budgets={"fleet": {"rate": "100/s"}})
    resolved = Resolver(tree({"/": declared})).select("/", GOLD)
    assert resolved is not None
    assert [str(budget.rate) for _, budget in resolved.budgets] == ["100/s"]


matches = st.dictionaries(
    st.sampled_from(("tier", "route")),
    st.sampled_from(("gold", ["gold", "free"], "g*", {"not": "gold"}, {"exists": False})),
    min_size=1,
)
overrides = st.lists(
    st.tuples(matches, st.dictionaries(st.sampled_from(NAMES), limits, min_size=1)), max_size=4
).map(
    lambda found: [
        {"name": f"o{at}", "match": match, "limits": declared}
        for at, (match, declared) in enumerate(found)
    ]
)
documents = st.fixed_dictionaries(
    {"limits": st.dictionaries(st.sampled_from(NAMES), limits), "overrides": overrides}
)
written = st.dictionaries(st.sampled_from(("/", "/a", "/a/b")), documents, min_size=1)
exceptions = st.lists(
    st.builds(
        lambda scope, match, declared: exception(scope, match=match, limits=declared),
        st.sampled_from(("/", "/a")),
        st.none() | matches,
        st.dictionaries(st.sampled_from(NAMES), limits, min_size=1),
    ),
    max_size=3,
)


@settings(max_examples=400)
@given(written, exceptions, st.data())
def test_agents_have_a_usable_limit_for_any_set_of_conditions(
    declared: dict[str, Any], amended: list[Any], data: st.DataObject
) -> None:
    """No overrides or exceptions, checked or not, can make an agent fail."""
    policies = excepted(declared, *amended)
    resolver = Resolver(policies, ns(NOON))
    for scope in declared:
        conditions = resolver.conditions.at(scope).conditions
        masks = st.integers(0, (1 << len(conditions)) - 1)
        for mask in data.draw(st.lists(masks, max_size=4)):
            for name in NAMES:
                found = resolver.limit(scope, name, mask)
                if found is None:
                    continue
                assert set(found.settings) <= ALGORITHMS[found.algorithm].fields
                assert (found.rate is None) is (found.algorithm == "concurrency")
                refs = {conditions[bit].via.ref for bit in bits(mask)}
                assert set(found.touched) <= refs
        asked = {"tier": data.draw(st.sampled_from(("gold", "free", "")))}
        enforced = resolver.enforced(scope, asked)
        assert enforced is not None
        for name, each in enforced.limits.items():
            assert each == resolver.limit(scope, name, enforced.matched)


def test_unusable_combinations_ignore_the_last_conditions() -> None:
    """Agents keep the first of two conflicting overrides; the limit may disappear."""
    window = {"algorithm": "sliding-window", "rate": "5/min"}
    clash = of(
        override("first", x={"rate": "40/s"}),
        override("window", {"route": "*"}, x=window),
        override("burst", {"ip": "*"}, x={"burst": 3}),
        override("half", {"card": "*"}, y={"burst": 3}),
    )
    resolver = Resolver(tree({"/": clash}))
    every = {"tier": "gold", "route": "/", "ip": "1", "card": "2"}
    resolved = resolver.select("/", every)
    assert resolved is not None
    assert set(resolved.problems) == {"x", "y"}
    enforced = resolver.enforced("/", every)
    assert enforced is not None
    assert enforced.limits["x"].touched == ("window@/",)
    assert "y" not in enforced.limits
