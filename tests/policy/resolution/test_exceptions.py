"""Rules of exceptions; each test has the name of its rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from policy.conditions import FROM, NOON, UNTIL, excepted, exception, limit, ns, override, shown
from ratectl.compiler.plans import compile_tree
from ratectl.policy.resolution.resolver import Resolver
from ratectl.policy.validation.tree import check_tree

if TYPE_CHECKING:
    from ratectl.policy.resolution.effective_limit import Limit

ACME = {"tenant": "acme"}
BASE = {
    "limits": {"x": {"rate": "10/s", "burst": 20, "per": ["tenant"]}},
    "budgets": {"fleet": {"rate": "100/s", "burst": 200, "per": ["tenant"]}},
}
RAISED = {"x": {"rate": "30/s"}}


def budget(documents: Any, *exceptions: Any, **attributes: str) -> Limit:
    resolved = Resolver(excepted(documents, *exceptions), ns(NOON)).select("/a", attributes)
    assert resolved is not None
    ((_, found),) = resolved.budgets
    return found


def rate_at(at_ns: int | None, **times: Any) -> str:
    resolver = Resolver(excepted({"/": BASE}, exception(limits=RAISED, **times)), at_ns)
    resolved = resolver.at("/")
    assert resolved is not None
    return str(resolved.limits["x"].rate)


def codes(documents: Any, *exceptions: Any) -> set[str]:
    found = check_tree(excepted(documents, *exceptions))
    return {each.code for each in found if each.severity == "error"}


def test_an_exception_includes_from_and_excludes_until() -> None:
    for instant, within in ((ns(FROM) - 1, False), (ns(FROM), True)):
        assert rate_at(instant) == ("30/s" if within else "10/s")
    for instant, within in ((ns(UNTIL) - 1, True), (ns(UNTIL), False)):
        assert rate_at(instant) == ("30/s" if within else "10/s")


def test_an_exception_without_from_begins_at_once() -> None:
    assert rate_at(0, begins=None) == "30/s"
    assert rate_at(ns(UNTIL), begins=None) == "10/s"


def test_overrides_and_exceptions_may_set_the_precision_of_a_window() -> None:
    window = {"algorithm": "sliding-window", "rate": "90/min"}
    documents = {
        "/": {"limits": {"x": window}, "overrides": [override("gold", x={"precision": 64})]}
    }
    finer = exception(limits={"x": {"precision": 128}})
    for exceptions, precisions in (((), [24, 64]), ((finer,), [128, 128])):
        resolver = Resolver(excepted(documents, *exceptions), ns(NOON))
        resolved = [resolver.select("/", who) for who in ({}, {"tier": "gold"})]
        assert [each and each.limits["x"].precision for each in resolved] == precisions


def test_without_a_time_no_exception_is_in_force() -> None:
    assert rate_at(None, begins=None) == "10/s"


def test_plans_say_when_the_next_exception_starts_or_ends() -> None:
    policies = excepted(
        {"/": BASE}, exception(limits=RAISED), exception(begins=UNTIL, until="2026-12-01T00:00Z")
    )
    untils = [
        compile_tree(policies, 1, now_ns=now).until_ns
        for now in (0, ns(FROM) - 1, ns(FROM), ns(UNTIL), ns("2026-12-01T00:00Z"))
    ]
    last = ns("2026-12-01T00:00Z")
    assert untils == [ns(FROM), ns(FROM), ns(UNTIL), last, None]


def test_an_exception_beats_limits_of_deeper_scopes() -> None:
    documents = {
        "/": BASE,
        "/a": {
            "limits": {"x": {"rate": "5/s"}},
            "overrides": [override("gold", x={"rate": "7/s"})],
        },
    }
    policies = excepted(documents, exception(limits=RAISED))
    assert shown(limit(policies, "/a", tier="gold")) == ("30/s", 20)
    assert shown(limit(policies, "/a", at=UNTIL, tier="gold")) == ("7/s", 20)


def test_the_exception_of_the_deeper_scope_wins() -> None:
    documents = {"/": BASE, "/a": {"limits": {}}}
    policies = excepted(
        documents,
        exception("/a", limits={"x": {"rate": "3/s"}}),
        exception(limits={"x": {"rate": "30/s", "burst": 60}}),
    )
    assert shown(limit(policies, "/a")) == ("3/s", 60)
    assert shown(limit(policies)) == ("30/s", 60)


def test_an_exception_has_no_effect_above_or_beside_its_scope() -> None:
    documents: dict[str, Any] = {"/": BASE, "/a": {"limits": {}}, "/b": {"limits": {}}}
    policies = excepted(documents, exception("/a", limits=RAISED))
    rates = [str(limit(policies, scope).rate) for scope in ("/", "/a", "/a/deep", "/b")]
    assert rates == ["10/s", "30/s", "30/s", "10/s"]


def test_an_exception_with_a_match_applies_only_to_these_requests() -> None:
    policies = excepted({"/": BASE}, exception(match=ACME, limits=RAISED))
    assert shown(limit(policies, **ACME)) == ("30/s", 20)
    assert shown(limit(policies, tenant="other")) == ("10/s", 20)
    assert shown(limit(policies)) == ("10/s", 20)


def test_caps_bind_exceptions() -> None:
    documents = {"/": {**BASE, "caps": {"x": {"rate": "20/s", "burst": 20}}}}
    asked = exception(limits={"x": {"rate": "30/s", "burst": 90}})
    assert shown(limit(excepted(documents, asked))) == ("20/s", 20)
    assert codes(documents, asked) == {"RC201"}


def test_an_exception_changes_budgets_of_its_own_scope_only() -> None:
    documents = {"/": BASE, "/a": {"limits": {}}}
    raised = {"fleet": {"rate": "300/s"}}
    assert shown(budget(documents, exception(budgets=raised))) == ("300/s", 200)
    assert shown(budget(documents, exception("/a", budgets=raised))) == ("100/s", 200)
    assert codes(documents, exception("/a", budgets=raised)) == {"RC207"}


def test_an_exception_of_a_budget_may_match_some_keys() -> None:
    documents = {"/": BASE, "/a": {"limits": {}}}
    for_acme = exception(match=ACME, budgets={"fleet": {"rate": "300/s"}})
    assert str(budget(documents, for_acme, **ACME).rate) == "300/s"
    assert str(budget(documents, for_acme, tenant="other").rate) == "100/s"


def test_an_exception_without_a_match_keeps_every_bucket() -> None:
    documents = {"/": {**BASE, "overrides": [override("gold", x={"rate": "40/s"})]}}
    policies = excepted(documents, exception(limits=RAISED))
    for time in (NOON, UNTIL):
        assert limit(policies, at=time, tier="gold").touched == ("gold@/",)
        assert limit(policies, at=time).touched == ()


def test_an_exception_with_a_match_is_part_of_the_bucket_identity() -> None:
    raised = exception(match=ACME, limits=RAISED)
    policies = excepted({"/": BASE}, raised)
    assert limit(policies, **ACME).touched == (raised.ref,)
    assert limit(policies, tenant="other").touched == ()
    assert limit(policies, at=UNTIL, **ACME).touched == ()


@pytest.mark.parametrize("field", ["algorithm", "per"])
@pytest.mark.parametrize("part", ["limits", "budgets"])
def test_an_exception_cannot_select_other_buckets(part: str, field: str) -> None:
    """This holds for budgets too."""
    fields = {"algorithm": {"algorithm": "sliding-window"}, "per": {"per": []}}[field]
    name = "x" if part == "limits" else "fleet"
    documents = {"/": {"limits": {"x": {"rate": "10/s"}}, "budgets": {"fleet": {"rate": "100/s"}}}}
    found = check_tree(excepted(documents, exception(**{part: {name: fields}})))
    errors = [each for each in found if each.severity == "error"]
    assert [each.code for each in errors] == ["RC209"]
    assert f"cannot change its {field}" in errors[0].message


def test_the_match_of_an_exception_must_select_buckets() -> None:
    documents = {"/": {**BASE, "overrides": [override("gold", x={"rate": "40/s"})]}}
    for attribute, allowed in (("tenant", True), ("tier", True), ("route", False)):
        for_some = exception(match={attribute: "gold"}, limits=RAISED)
        assert codes(documents, for_some) == (set() if allowed else {"RC209"})
    for_budget = exception(match={"tier": "gold"}, budgets={"fleet": {"rate": "1/s"}})
    assert codes(documents, for_budget) == {"RC209"}


@pytest.mark.parametrize(
    ("below", "allowed"),
    [
        ({"limits": {"x": {"per": ["route"]}}}, False),
        ({"limits": {"x": {"rate": "1/s"}}, "unset": ["x"]}, False),
        ({"limits": {"x": {"per": ["route", "tenant"]}}}, True),
        ({"limits": {"x": {"rate": "1/s"}}}, True),
        ({"limits": {"y": {"rate": "1/s", "per": ["route"]}}}, True),
        ({"limits": {}, "unset": ["x"]}, True),
    ],
)
def test_its_match_must_select_buckets_below_too(below: dict[str, Any], allowed: bool) -> None:
    """Otherwise the bucket of one route would be two buckets there, both full."""
    documents = {"/a": BASE, "/a/b": below, "/ab": {"limits": {"x": {"rate": "1/s"}}}}
    found = codes(documents, exception("/a", match=ACME, limits=RAISED))
    assert found == (set() if allowed else {"RC209"})


@pytest.mark.parametrize(
    ("other", "conflict"),
    [
        ({"limits": {"x": {"rate": "40/s"}}}, True),
        ({"limits": {"x": {"burst": 99}}}, False),
        ({"limits": {"x": {"rate": "40/s"}}, "begins": UNTIL, "until": "2027-01-01T00:00Z"}, False),
        ({"limits": {"x": {"rate": "40/s"}}, "match": {"tenant": "zeta"}}, False),
        ({"limits": {"x": {"rate": "40/s"}}, "match": {"tenant": "a*"}}, True),
        ({"limits": {"x": {"rate": "40/s"}}, "begins": None, "until": FROM}, False),
        ({"budgets": {"fleet": {"rate": "40/s"}}}, False),
    ],
)
def test_two_exceptions_that_set_one_field_at_one_time_are_an_error(
    other: dict[str, Any], conflict: bool
) -> None:
    two = exception(match=ACME, limits=RAISED), exception(**other)
    assert codes({"/": BASE}, *two) == ({"RC208"} if conflict else set())


def test_exceptions_of_two_scopes_do_not_conflict() -> None:
    documents = {"/": BASE, "/a": {"limits": {}}}
    assert codes(documents, exception(limits=RAISED), exception("/a", limits=RAISED)) == set()


@pytest.mark.parametrize("match", [None, ACME])
def test_an_exception_that_makes_a_limit_unusable_is_ignored(match: Any) -> None:
    """The limit or budget stays in force without the exception; the tree is not rejected."""
    documents = {"/": BASE, "/a": {"limits": {}}}
    month = {"rate": "5/month"}
    bad = exception(match=match, limits={"x": month}, budgets={"fleet": month})
    policies = excepted(documents, bad)
    assert "RC204" in codes(documents, bad)
    resolver = Resolver(policies, ns(NOON))
    enforced = resolver.enforced("/a", ACME)
    assert enforced is not None
    assert str(enforced.limits["x"].rate) == "10/s"
    assert shown(budget(documents, bad, **ACME)) == ("100/s", 200)
    assert len(compile_tree(policies, 1, now_ns=ns(NOON)).scopes["/a"].limits) == 2


def test_a_budget_that_is_unusable_without_exceptions_is_an_error() -> None:
    documents = {"/": {"limits": {}, "budgets": {"fleet": {"burst": 5}}}}
    assert codes(documents, exception(budgets={"fleet": {"rate": "1/s"}})) == {"RC203"}


WINDOW_BELOW = {"/": BASE, "/a": {"limits": {"x": {"algorithm": "sliding-window"}}}}


def test_only_an_exception_that_does_not_fit_a_deeper_scope_is_ignored_there() -> None:
    burst = exception(limits={"x": {"burst": 50}})
    rate = exception(scope="/a", limits={"x": {"rate": "40/s"}}, reason="the other")
    policies = excepted(WINDOW_BELOW, burst, rate)
    compile_tree(policies, 1, now_ns=ns(NOON))
    resolver = Resolver(policies, ns(NOON))
    here, below = resolver.at("/"), resolver.at("/a")
    assert here is not None
    assert below is not None
    assert here.limits["x"].burst == 50
    assert (str(below.limits["x"].rate), below.limits["x"].burst) == ("40/s", None)


@pytest.mark.parametrize(
    ("documents", "where"),
    [
        (WINDOW_BELOW, "at /a"),
        ({"/": {**BASE, "overrides": [override("w", x={"algorithm": "sliding-window"})]}}, "w@/"),
        (
            {
                "/": BASE,
                "/a": {"overrides": [override("w", x={"algorithm": "quota", "rate": "9/day"})]},
            },
            "w@/a",
        ),
    ],
    ids=["deeper scope", "override", "override of a deeper scope"],
)
def test_an_exception_that_does_not_fit_everywhere_is_warned_of(documents: Any, where: str) -> None:
    (found,) = check_tree(excepted(documents, exception(limits={"x": {"burst": 50}})))
    assert (found.code, found.severity) == ("RC322", "warning")
    assert where in found.message
    fitting = exception(limits={"x": {"mode": "shadow"}})
    assert check_tree(excepted(documents, fitting)) == []


def test_an_exception_changes_nothing_where_its_limit_is_unset() -> None:
    """Agents refused the whole generation when the exception began."""
    policies = excepted({"/": BASE, "/a": {"unset": ["x"]}}, exception(limits={"x": {"burst": 50}}))
    assert check_tree(policies) == []
    compile_tree(policies, 1, now_ns=ns(NOON))
    below = Resolver(policies, ns(NOON)).at("/a")
    assert below is not None
    assert not below.limits
