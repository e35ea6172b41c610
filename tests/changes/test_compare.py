"""Effect of changes on requests, with overrides and exceptions."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratectl.changes.compare import Change, compare, summarise
from ratectl.changes.limits import effect, text_of
from ratectl.policy.language.instants import Instant
from ratectl.policy.language.model import Exemption, PolicyTree, with_exceptions
from ratectl.policy.language.scopes import ancestry
from ratectl.policy.resolution.resolver import Resolver
from ratectl.policy.validation.overrides import OverlapIndex
from support import policies

if TYPE_CHECKING:
    from ratectl.policy.resolution.effective_limit import Limit

SPIKE = {"spike": {"rate": "100/s", "burst": 200, "per": "tenant"}}
GOLD = {"name": "gold", "match": {"tier": "gold"}, "limits": {"spike": {"rate": "400/s"}}}
FRIDAY = {
    "scope": "/a",
    "reason": "friday",
    "from": "2026-11-27T00:00Z",
    "until": "2026-11-30T00:00Z",
    "limits": {"spike": {"rate": "300/s"}},
}


def tree(said: dict[str, Any], *exceptions: dict[str, Any]) -> PolicyTree:
    found = ((Exemption.model_validate(each), None) for each in exceptions)
    return with_exceptions(policies(**said), found)


def one(*overrides: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"/a": {"limits": SPIKE, "overrides": list(overrides), **more}}


def changed(old: PolicyTree, new: PolicyTree) -> list[tuple[str, str | None, str | None, str]]:
    return [
        (each.scope, each.limit, each.via, each.kind)
        for each in compare(old, new)
        if not each.inherited
    ]


def test_added_override_shows_its_requests_earlier_limit() -> None:
    (change,) = compare(tree(one()), tree(one(GOLD)))
    assert change == Change(
        "/a", "spike", "added", "token-bucket 100/s burst 200 per tenant",
        "token-bucket 400/s burst 200 per tenant where tier=gold", via="gold@/a",
    )  # fmt: skip
    (change,) = compare(tree(one(GOLD)), tree(one()))
    assert (change.kind, change.after) == ("removed", "token-bucket 100/s burst 200 per tenant")


def test_added_override_is_compared_with_the_overrides_that_matched_before() -> None:
    finer = {
        "name": "eu", "match": {"tier": "gold", "region": "eu"},
        "limits": {"spike": {"rate": "500/s"}},
    }  # fmt: skip
    (change,) = compare(tree(one(GOLD)), tree(one(GOLD, finer)))
    assert change.before == "token-bucket 400/s burst 200 per tenant"


def test_limit_that_only_an_override_sets() -> None:
    card = {"name": "pay", "match": {"x": "1"}, "limits": {"card": {"rate": "5/min"}}}
    (change,) = compare(tree(one()), tree(one(card)))
    assert (change.limit, change.before, change.kind) == ("card", None, "added")


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"rate": "300/s"}, "tightened"),
        ({"rate": "500/s"}, "loosened"),
        ({"rate": "300/s", "burst": 900}, "changed"),
        ({"rate": "400/s", "mode": "shadow"}, "shadowed"),
    ],
)
def test_changed_values_of_an_override(fields: dict[str, Any], kind: str) -> None:
    new = {**GOLD, "limits": {"spike": fields}}
    assert changed(tree(one(GOLD)), tree(one(new))) == [("/a", "spike", "gold@/a", kind)]


def test_other_spelling_is_no_change() -> None:
    new = {**GOLD, "match": {"tier": ["gold"]}, "limits": {"spike": {"rate": "24000/min"}}}
    assert compare(tree(one(GOLD)), tree(one({**new, "description": "people"}))) == []


def test_changed_match_is_shown_with_both_matches() -> None:
    new = {**GOLD, "match": {"tier": ["gold", "platinum"]}}
    (change,) = compare(tree(one(GOLD)), tree(one(new)))
    assert change.kind == "changed"
    assert change.before == "token-bucket 400/s burst 200 per tenant where tier=gold"
    assert str(change.after).endswith(" where tier=[gold, platinum]")


def test_change_of_an_unchanged_override_follows_its_limit() -> None:
    smaller = {"spike": {"rate": "100/s", "burst": 150, "per": "tenant"}}
    found = compare(tree(one(GOLD)), tree(one(GOLD, limits=smaller)))
    assert [(each.via, each.kind, each.inherited) for each in found] == [
        (None, "tightened", False),
        ("gold@/a", "tightened", True),
    ]


def test_a_cap_that_clips_only_the_override_is_its_own_change() -> None:
    new = one(GOLD, caps={"spike": {"rate": "300/s"}})
    assert changed(tree(one(GOLD)), tree(new)) == [("/a", "spike", "gold@/a", "clipped")]


def test_override_is_compared_below_where_a_document_sets_the_limit() -> None:
    below = {
        "/a/quiet": {"limits": {"other": {"rate": "1/s"}}},
        "/a/same": {"limits": {"spike": {"per": "tenant"}}},
        "/a/same/own": {"limits": {"spike": {"burst": 7}}},
        "/a/unset": {"unset": ["spike"]},
    }
    faster = {**GOLD, "limits": {"spike": {"rate": "500/s"}}}
    found = compare(tree({**one(GOLD), **below}), tree({**one(faster), **below}))
    assert [(each.scope, each.inherited) for each in found] == [
        ("/a", False),
        ("/a/same", True),
        ("/a/same/own", False),
    ]
    assert str(found[2].after) == "token-bucket 500/s burst 7 per tenant"


def test_change_two_documents_above_is_inherited() -> None:
    below = {"/a/quiet": {}, "/a/quiet/same": {"limits": {"spike": {"per": "tenant"}}}}
    faster = {**GOLD, "limits": {"spike": {"rate": "500/s"}}}
    found = compare(tree({**one(GOLD), **below}), tree({**one(faster), **below}))
    assert [(each.scope, each.inherited) for each in found] == [
        ("/a", False),
        ("/a/quiet/same", True),
    ]


def test_override_below_changes_the_effect_of_a_narrower_one_above() -> None:
    match = {"tier": "gold", "region": "eu"}
    eu = {"name": "eu", "match": match, "limits": {"spike": {"rate": "500/s"}}}
    faster = {**GOLD, "limits": {"spike": {"rate": "450/s"}}}
    old, new = ({**one(eu), "/a/b": {"overrides": [each]}} for each in (GOLD, faster))
    assert changed(tree(old), tree(new)) == [
        ("/a/b", "spike", "gold@/a/b", "loosened"),
        ("/a/b", "spike", "eu@/a", "loosened"),
    ]


def test_order_matters_only_if_both_may_match_and_set_the_same_field() -> None:
    eu = {"name": "eu", "match": {"region": "eu"}, "limits": {"spike": {"rate": "50/s"}}}
    free = {"name": "free", "match": {"tier": "free"}, "limits": {"spike": {"rate": "9/s"}}}
    burst = {"name": "burst", "match": {"x": "1"}, "limits": {"spike": {"burst": 9}}}
    (change,) = compare(tree(one(GOLD, eu)), tree(one(eu, GOLD)))
    assert (change.limit, change.before, change.after) == (
        "order of overrides", "gold, eu", "eu, gold"
    )  # fmt: skip
    assert compare(tree(one(GOLD, free)), tree(one(free, GOLD))) == []
    assert compare(tree(one(GOLD, burst)), tree(one(burst, GOLD))) == []


def test_added_removed_and_changed_exceptions() -> None:
    without, with_one = tree(one()), tree(one(), FRIDAY)
    (change,) = compare(without, with_one)
    base = "token-bucket 100/s burst 200 per tenant"
    during = (
        "token-bucket 300/s burst 200 per tenant "
        "from 2026-11-27T00:00Z until 2026-11-30T00:00Z"
    )  # fmt: skip
    ref = "exception@/a until 2026-11-30T00:00Z"
    assert change == Change("/a", "spike", "added", base, during, via=ref)
    (change,) = compare(with_one, without)
    assert (change.kind, change.before, change.after) == ("removed", during, base)
    longer = tree(one(), {**FRIDAY, "until": "2026-12-01T00:00Z", "match": {"tenant": "acme"}})
    (change,) = compare(with_one, longer)
    assert (change.kind, change.before) == ("changed", during)
    assert str(change.after).endswith(
        " where tenant=acme from 2026-11-27T00:00Z until 2026-12-01T00:00Z"
    )


def test_a_budget_that_an_exception_raises() -> None:
    base = one(budgets={"fleet": {"rate": "10/s"}})
    raised = {**FRIDAY, "limits": {}, "budgets": {"fleet": {"rate": "20/s"}}}
    (change,) = compare(tree(base), tree(base, raised))
    assert (change.limit, change.before) == ("budget fleet", "token-bucket 10/s burst 10")


def test_exception_that_no_longer_changes_a_limit() -> None:
    as_ever = tree(one(), {**FRIDAY, "limits": {"spike": {"rate": "100/s"}}})
    (change,) = compare(tree(one(), FRIDAY), as_ever)
    assert str(change.after).startswith("token-bucket 100/s burst 200 per tenant from ")
    assert compare(tree(one()), as_ever) == compare(as_ever, tree(one())) == []


def test_reasons_and_past_exceptions_are_no_change() -> None:
    renamed = tree(one(), {**FRIDAY, "reason": "other", "owner": "somebody"})
    assert compare(tree(one(), FRIDAY), renamed) == []
    ended = Instant.parse("2026-11-30T00:00Z").ns
    assert compare(tree(one(), FRIDAY), tree(one()), ended) == []
    assert len(compare(tree(one(), FRIDAY), tree(one()), ended - 1)) == 1


def test_exceptions_with_equal_names_are_both_shown() -> None:
    """Two exceptions with the same name, for different requests."""
    pair = [{**FRIDAY, "match": {"tenant": name}} for name in ("acme", "zeta")]
    found = compare(tree(one()), tree(one(), *pair))
    assert len(found) == 2
    assert {each.via for each in found} == {"exception@/a until 2026-11-30T00:00Z"}


def test_summary_counts_declarations() -> None:
    said = one(GOLD, budgets={"fleet": {"rate": "10/s"}})
    new = tree(said, FRIDAY)
    assert summarise(new, compare(None, new)) == {
        "scopes": 1, "limits": 1, "budgets": 1, "overrides": 1, "exceptions": 1,
        "added": 4, "removed": 0, "changed": 0,
    }  # fmt: skip


def test_an_override_of_no_other_value_still_has_its_own_bucket() -> None:
    same = {**GOLD, "limits": {"spike": {"burst": 200}}}
    (change,) = compare(tree(one()), tree(one(same)))
    assert (change.kind, f"{change.before} where tier=gold") == ("added", change.after)
    over = {**GOLD, "name": "over", "limits": {"spike": {"burst": 300}}}
    beaten = compare(tree(one(over)), tree(one(same, over)))
    assert beaten == [], "another override beats all its values"


_limit = st.fixed_dictionaries(
    {},
    optional={"rate": st.sampled_from(["1/s", "5/s"]), "burst": st.sampled_from([1, 9])},
).filter(bool)
_limits = st.dictionaries(st.sampled_from(["x", "y"]), _limit, min_size=1)
_override = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["p", "q"]),
        "match": st.sampled_from([{"a": "1"}, {"a": ["1", "2"]}, {"b": "1"}, {"a": "1", "b": "1"}]),
        "limits": _limits,
    }
)
_document = st.fixed_dictionaries(
    {},
    optional={
        "limits": _limits,
        "unset": st.just(["x"]),
        "caps": st.just({"y": {"rate": "2/s"}}),
        "overrides": st.lists(_override, max_size=2, unique_by=lambda each: each["name"]),
    },
)
_scopes = st.dictionaries(st.sampled_from(["/a", "/a/b", "/a/b/c"]), _document)


def alone(whole: PolicyTree, scope: str) -> dict[tuple[str, str], Limit | None]:
    """Return the limits at a scope when only one override matches, for each override."""
    resolver = Resolver(whole)
    conditions = resolver.conditions.at(scope).conditions
    company = OverlapIndex(conditions)
    found = {}
    for bit, condition in enumerate(conditions):
        resolved = resolver.where(scope, company.always_with(bit) | 1 << bit)
        for name in condition.limits:
            limit = resolved.limits.get(name) if resolved else None
            found[condition.via.ref, name] = limit
    return found


@given(_scopes, _scopes)
def test_every_change_for_an_override_is_shown_there_or_above(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    root = {"/": {"limits": {"x": {"rate": "3/s"}, "y": {"rate": "3/s"}}}}
    old, new = tree({**root, **before}), tree({**root, **after})
    changes = compare(old, new)
    told = {(each.scope, each.via, each.limit): (each.before, each.after) for each in changes}
    for scope in {**before, **after}:
        was, now = alone(old, scope), alone(new, scope)
        for ref, name in was.keys() & now.keys():
            pair = was[ref, name], now[ref, name]
            if effect(pair[0]) != effect(pair[1]):
                places = [at for at in ancestry(scope) if (at, ref, name) in told]
                assert places, (scope, ref, name)
                texts = told[places[0], ref, name]
                assert tuple(text and text.partition(" where")[0] for text in texts) == tuple(
                    map(text_of, pair)
                )


@given(_scopes)
def test_nothing_changes_from_a_tree_to_itself(said: dict[str, Any]) -> None:
    assert compare(tree(said), tree(dict(reversed(said.items())))) == []


SHARED = {"rate": "5/s", "burst": 5, "per": "tenant", "across": "cluster"}


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"across": None}, ""),
        ({"across": "redis"}, " across redis"),
        ({"consistency": "optimistic"}, " across cluster optimistic"),
        ({"consistency": "strict"}, None),
        ({"across": "redis", "consistency": "optimistic"}, " across redis"),
    ],
)
def test_who_shares_a_limit_is_a_change(fields: dict[str, str | None], text: str | None) -> None:
    new = {name: value for name, value in {**SHARED, **fields}.items() if value is not None}
    limit = "token-bucket 5/s burst 5 per tenant"
    changes = [] if text is None else [("changed", f"{limit}{text}")]
    assert kinds(SHARED, new) == changes
    before = [] if text is None else [("changed", f"{limit} across cluster")]
    assert kinds(new, SHARED) == before


def test_a_consistency_without_effect_is_no_change() -> None:
    local = {"rate": "5/s", "burst": 5, "per": "tenant"}
    assert kinds(local, {**local, "consistency": "optimistic"}) == []


SLOTS = {"algorithm": "concurrency", "max": 50, "per": "tenant"}
RATE = {"rate": "5/s", "per": "tenant"}


def kinds(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[str, str | None]]:
    trees = [policies(**{"/": {"limits": {"l": said}}}) for said in (old, new)]
    return [(change.kind, change.after) for change in compare(*trees)]


@pytest.mark.parametrize(
    ("new", "kind", "text"),
    [
        ({**SLOTS, "max": 40}, "tightened", "max 40 hold 60s"),
        ({**SLOTS, "max": 60}, "loosened", "max 60 hold 60s"),
        ({**SLOTS, "hold": "2min"}, "tightened", "max 50 hold 2min"),
        ({**SLOTS, "hold": "5s"}, "loosened", "max 50 hold 5s"),
        ({**SLOTS, "max": 60, "hold": "2min"}, "changed", "max 60 hold 2min"),
    ],
)
def test_changed_concurrency_limit(new: dict[str, Any], kind: str, text: str) -> None:
    """A longer hold is tighter: a leaked slot is missing for longer."""
    assert kinds(SLOTS, new) == [(kind, f"concurrency {text} per tenant")]


@pytest.mark.parametrize(
    ("precision", "kind", "text"),
    [(64, "loosened", " precision 64"), (30, "tightened", " precision 30"), (40, None, "")],
)
def test_changed_precision(precision: int, kind: str | None, text: str) -> None:
    """With fewer cells, a window refuses more requests early."""
    window = {"algorithm": "sliding-window", "rate": "90/min"}
    changes = kinds({**window, "precision": 40}, {**window, "precision": precision})
    assert changes == ([(kind, f"sliding-window 90/min{text}")] if kind else [])


def test_change_to_concurrency_and_back() -> None:
    assert kinds(RATE, SLOTS) == [("changed", "concurrency max 50 hold 60s per tenant")]
    assert kinds(SLOTS, RATE) == [("changed", "token-bucket 5/s burst 5 per tenant")]


def test_the_same_hold_in_other_words_is_no_change() -> None:
    assert kinds(SLOTS, {**SLOTS, "hold": "1min"}) == []


def test_large_trees_are_compared_quickly() -> None:
    """Overrides at the root of ten thousand scopes, some of which set the same limit."""
    tiers = [
        {"name": f"t{n}", "match": {"tier": f"t{n}"}, "limits": {"spike": {"rate": f"{n + 1}/s"}}}
        for n in range(100)
    ]

    def build(burst: int) -> PolicyTree:
        said: dict[str, Any] = {
            "/": {"limits": {"spike": {"rate": "9/s", "burst": burst}}, "overrides": tiers}
        }
        for n in range(10_000):
            said[f"/s{n % 100}/x{n}"] = {
                "limits": {"spike": {"mode": "shadow"}} if n % 50 == 0 else {},
                "owner": "somebody",
            }
        return tree(said)

    old, new = build(10), build(20)
    began = time.process_time()
    found = compare(old, new)
    assert time.process_time() - began < 20
    assert [each.via for each in found if each.scope == "/" and not each.inherited] == [None]
    assert sum(1 for each in found if not each.inherited and each.scope != "/") == 200


# -- caps and modes


CAPPED = {"spike": {"rate": "60/s", "burst": 150}}


def by_cap(
    old: dict[str, Any] | None, new: dict[str, Any] | None, **limit: Any
) -> list[tuple[str, str]]:
    """Return the changes at ``/a/b`` when its cap goes from ``old`` to ``new``."""
    trees = [
        policies(**one(), **{"/a/b": {"caps": {"spike": cap}} if cap else {}}) for cap in (old, new)
    ]
    if limit:
        trees[1] = policies(
            **{"/a": {"limits": {"spike": {**SPIKE["spike"], **limit}}}},
            **{"/a/b": {"caps": {"spike": new}} if new else {}},
        )
    return [(each.kind, str(each.after)) for each in compare(*trees) if each.scope == "/a/b"]


def test_added_cap_clips_and_removed_cap_unclips() -> None:
    narrow, wide = (
        "token-bucket 60/s burst 150 per tenant",
        "token-bucket 100/s burst 200 per tenant",
    )
    assert by_cap(None, CAPPED["spike"]) == [("clipped", narrow)]
    assert by_cap(CAPPED["spike"], None) == [("unclipped", wide)]
    assert by_cap(CAPPED["spike"], {"rate": "500/s", "burst": 150}) == [
        ("unclipped", "token-bucket 100/s burst 150 per tenant")
    ]


def test_a_cap_that_clipped_already_makes_a_limit_tighter_or_looser() -> None:
    assert by_cap({"rate": "60/s"}, {"rate": "50/s"})[0][0] == "tightened"
    assert by_cap({"rate": "50/s"}, {"rate": "60/s"})[0][0] == "loosened"


def test_limit_with_a_lower_own_value_is_not_called_clipped() -> None:
    """Even if a cap clips another of its fields."""
    assert by_cap(None, {"rate": "60/s"}, burst=150) == [
        ("tightened", "token-bucket 60/s burst 150 per tenant")
    ]


def test_clipped_change_names_its_cap() -> None:
    scopes = {**one(), "/a/b": {"caps": CAPPED}}
    (change,) = [each for each in compare(tree(one()), tree(scopes)) if each.scope == "/a/b"]
    assert change.origin is not None
    assert change.origin.path == "caps.spike.rate"
    assert change.origin.clip is not None
    assert (str(change.origin.clip.asked), change.origin.clip.cap.scope) == ("100/s", "/a/b")
    (back,) = [each for each in compare(tree(scopes), tree(one())) if each.scope == "/a/b"]
    assert back.origin is not None
    assert (back.origin.path, back.origin.clip) == ("limits.spike.rate", None)
    assert back.origin.lifted is not None
    assert (str(back.origin.lifted.value), back.origin.lifted.cap.scope) == ("60/s", "/a/b")


@pytest.mark.parametrize("kind", ["slots", "window"])
def test_burst_of_a_cap_clips_concurrency_and_windows_and_is_named(kind: str) -> None:
    said = SLOTS if kind == "slots" else {"algorithm": "sliding-window", "rate": "50/min"}
    trees = [
        policies(**{"/": {"limits": {"l": said}}, "/x": {"caps": {"l": cap} if cap else {}}})
        for cap in (None, {"burst": 20})
    ]
    (change,) = compare(*trees)
    assert change.kind == "clipped"
    assert change.origin is not None
    assert change.origin.path == "caps.l.burst"


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        ({**RATE, "mode": "shadow"}, RATE, "enforced"),
        ({**RATE, "mode": "shadow"}, {**RATE, "rate": "9/s"}, "enforced"),
        (RATE, {**RATE, "mode": "shadow"}, "shadowed"),
        (RATE, {**RATE, "rate": "4/s", "mode": "shadow"}, "shadowed"),
        ({**RATE, "mode": "off"}, RATE, "tightened"),
        ({**RATE, "mode": "shadow"}, {**RATE, "mode": "off"}, "loosened"),
        ({**RATE, "mode": "shadow"}, {**RATE, "per": "client"}, "changed"),
        ({**RATE, "mode": "shadow"}, {"rate": "unlimited", "per": "tenant"}, "changed"),
    ],
)
def test_modes(old: dict[str, Any], new: dict[str, Any], kind: str) -> None:
    """An unlimited limit refuses nothing in either mode, so its change is not called enforced."""
    ((found, _),) = kinds(old, new)
    assert found == kind


def test_enforced_by_a_removed_mode_points_at_the_limit() -> None:
    old, new = ({"/": {"limits": {"l": {**RATE, **mode}}}} for mode in ({"mode": "shadow"}, {}))
    (change,) = compare(policies(**old), policies(**new))
    assert change.origin is not None
    assert change.origin.path == "limits.l"


MIRRORED = {
    "tightened": "loosened",
    "clipped": "unclipped",
    "enforced": "shadowed",
    "added": "removed",
    "changed": "changed",
}


@st.composite
def capped_limits(draw: st.DrawFn) -> dict[str, Any]:
    """A scope ``/a`` with a limit, and one below it with a cap."""
    some = st.integers(1, 3)
    limit = {
        "rate": f"{draw(some)}/s",
        "burst": draw(some),
        "mode": draw(st.sampled_from(["enforce", "shadow"])),
    }
    cap = {"rate": f"{draw(some)}/s", "burst": draw(some)} if draw(st.booleans()) else {}
    return {"/a": {"limits": {"l": limit}}, "/a/b": {"caps": {"l": cap} if cap else {}}}


@given(old=capped_limits(), new=capped_limits())
def test_reverse_change_has_the_opposite_kind(old: dict[str, Any], new: dict[str, Any]) -> None:
    there = {each.scope: each.kind for each in compare(policies(**old), policies(**new))}
    back = {each.scope: each.kind for each in compare(policies(**new), policies(**old))}
    opposite = MIRRORED | {kind: other for other, kind in MIRRORED.items()}
    assert there == {scope: opposite[kind] for scope, kind in back.items()}
