"""Resolution: its rules one by one, and compared with an independent implementation."""

from __future__ import annotations

from fractions import Fraction
from math import ceil, inf
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given

from policy.trees import NAMES, RATES, SCOPES, tree, written
from ratectl.policy.language.rates import Rate
from ratectl.policy.language.resets import Resets
from ratectl.policy.resolution.effective_limit import BUILT_IN, Clip, Limit, Setting
from ratectl.policy.resolution.resolver import Resolver, resolve

if TYPE_CHECKING:
    from ratectl.policy.language.model import PolicyTree
    from ratectl.policy.resolution.resolver import Resolved

Written = dict[str, dict[str, Any]]


def at(documents: Written, scope: str) -> Resolved:
    resolved = resolve(tree(documents), scope)
    assert resolved is not None
    return resolved


def spike(documents: Written, scope: str = "/a") -> Limit:
    return at(documents, scope).limits["spike"]


def one(**fields: Any) -> dict[str, Any]:
    return {"limits": {"spike": fields}}


def capped(rate: str | None = None, burst: int | None = None) -> dict[str, Any]:
    documents = {"rate": rate, "burst": burst}
    return {
        "caps": {"spike": {field: value for field, value in documents.items() if value is not None}}
    }


# -- merging


def test_deeper_beats_shallower_field_by_field() -> None:
    limit = spike({"/": one(rate="1/s", burst=5, per=["tenant"]), "/a": one(rate="2/s")})
    assert (str(limit.rate), limit.burst, limit.per) == ("2/s", 5, ("tenant",))
    assert [limit.settings[field].scope for field in ("rate", "burst", "per")] == ["/a", "/", "/"]


def test_an_undeclared_scope_is_its_nearest_declared_ancestor() -> None:
    documents = {"/": one(rate="1/s"), "/a": one(rate="2/s")}
    assert at(documents, "/a/b/c") == at(documents, "/a")
    assert at(documents, "/b").scope == "/"
    assert resolve(tree({"/a": one(rate="1/s")}), "/b") is None
    assert resolve(tree({}), "/") is None


def test_a_sibling_has_no_effect() -> None:
    documents = {"/": one(rate="1/s"), "/a": one(rate="2/s"), "/ab": one(rate="3/s")}
    assert [str(spike(documents, scope).rate) for scope in ("/a", "/ab", "/")] == [
        "2/s",
        "3/s",
        "1/s",
    ]


def test_unset_stops_inheriting_here_and_below() -> None:
    documents = {"/": one(rate="1/s"), "/a": {"unset": ["spike"]}, "/a/b": {}}
    assert [set(at(documents, scope).limits) for scope in ("/", "/a", "/a/b")] == [
        {"spike"},
        set(),
        set(),
    ]


def test_unset_and_set_in_one_document_is_replaced_whole() -> None:
    documents = {
        "/": one(rate="1/s", burst=9, per=["t"]),
        "/a": {"unset": ["spike"], **one(rate="5/s")},
    }
    limit = spike(documents)
    assert (limit.burst, limit.per) == (5, ())
    assert limit.settings["rate"] == Setting(Rate.parse("5/s"), "/a")


def test_a_rate_of_zero_replaces_and_is_not_absence() -> None:
    assert str(spike({"/": one(rate="5/s"), "/a": one(rate="0/s")}).rate) == "0/s"


def test_empty_per_replaces_the_inherited_one() -> None:
    assert spike({"/": one(rate="5/s", per=["tenant"]), "/a": one(per=[])}).per == ()


def test_a_new_algorithm_drops_fields_that_it_lacks() -> None:
    documents = {"/": one(rate="10/s", burst=50), "/a": one(algorithm="sliding-window")}
    assert (spike(documents).burst, "burst" in spike(documents).settings) == (None, False)
    documents["/a/b"] = one(algorithm="token-bucket")
    assert spike(documents, "/a/b").burst == 10, "what was dropped does not come back"


@pytest.mark.parametrize(
    ("rate", "burst"),
    [("1/s", 1), ("10/s", 10), ("0.5/s", 1), ("61/min", 2), ("60/min", 1), ("1/week", 1),
     ("0/s", 1), ("1000/7s", 143), ("1.000000001/s", 2)],
)  # fmt: skip
def test_burst_defaults_to_the_rate_per_second_rounded_up(rate: str, burst: int) -> None:
    assert spike({"/a": one(rate=rate)}).burst == burst


def test_the_default_burst_follows_the_deepest_rate() -> None:
    assert spike({"/": one(rate="5/s"), "/a": one(rate="7/s")}).burst == 7


def test_built_in_defaults() -> None:
    limit = spike({"/a": one(rate="5/s")})
    assert (limit.algorithm, limit.per, limit.mode) == ("token-bucket", (), "enforce")
    assert set(limit.settings) == {"rate"}


def test_on_error_is_inherited() -> None:
    documents: Written = {
        "/": {},
        "/a": {"on_error": "deny"},
        "/a/b": {},
        "/a/b/c": {"on_error": "allow"},
    }
    settings = [at(documents, scope).on_error for scope in ("/", "/a", "/a/b", "/a/b/c")]
    assert [setting.value for setting in settings] == ["allow", "deny", "deny", "allow"]
    assert settings[0].scope == BUILT_IN
    assert [setting.scope for setting in settings[3].history()] == ["/a/b/c", "/a"]


def test_history_has_beaten_values_nearest_first() -> None:
    documents = {
        "/": one(rate="1/s"),
        "/a": one(burst=3),
        "/a/b": one(rate="2/s"),
        "/a/b/c": one(rate="3/s"),
    }
    history = list(spike(documents, "/a/b/c").settings["rate"].history())
    assert [(str(setting.value), setting.scope) for setting in history] == [
        ("3/s", "/a/b/c"), ("2/s", "/a/b"), ("1/s", "/"),
    ]  # fmt: skip


# -- caps


def test_an_inherited_value_above_a_deeper_cap_is_clipped() -> None:
    limit = spike({"/": one(rate="100/s", burst=500), "/a": capped("40/s", 60)})
    assert (str(limit.rate), limit.burst) == ("40/s", 60)
    rate = Rate.parse("100/s")
    cap = Rate.parse("40/s")
    assert limit.clips["rate"] == Clip(rate, cap, Setting(cap, "/a"))
    assert limit.clips["burst"] == Clip(500, 60, Setting(60, "/a"))
    assert limit.settings["rate"] == Setting(rate, "/"), "what was asked stays known"


def test_the_tightest_cap_of_the_path_holds() -> None:
    documents = {
        "/": capped("40/s", 10),
        "/a": capped("60/s", 5),
        "/a/b": one(rate="100/s", burst=100),
    }
    limit = spike(documents, "/a/b")
    assert (str(limit.rate), limit.burst) == ("40/s", 5)
    assert (limit.clips["rate"].cap.scope, limit.clips["burst"].cap.scope) == ("/", "/a")


def test_deeper_scopes_inherit_the_value_before_clipping() -> None:
    documents = {"/": one(rate="100/s"), "/a": capped("40/s"), "/d": {}}
    assert [str(spike(documents, scope).rate) for scope in ("/", "/a", "/d")] == [
        "100/s",
        "40/s",
        "100/s",
    ]


def test_rates_compare_per_second() -> None:
    assert str(spike({"/": one(rate="61/min"), "/a": capped("1/s")}).rate) == "1/s"
    assert str(spike({"/": one(rate="60/min"), "/a": capped("1/s")}).rate) == "60/min"


def test_a_window_keeps_its_length_under_a_cap() -> None:
    window = one(rate="600/min", algorithm="sliding-window")
    assert str(spike({"/": window, "/a": capped("5/s")}).rate) == "300/min"
    assert str(spike({"/": window, "/a": capped(burst=50)}).rate) == "50/min"
    both = spike({"/": window, "/a": capped("5/s", 50)})
    assert (str(both.rate), str(both.clips["rate"].asked)) == ("50/min", "600/min")
    assert str(spike({"/": window, "/a": capped("0.55/s")}).rate) == "33/min"


@pytest.mark.parametrize("algorithm", ["token-bucket", "sliding-window"])
@pytest.mark.parametrize("cap", ["5/s", "0.5/s", "0.3/7min"])
def test_unlimited_under_a_cap_is_the_cap(algorithm: str, cap: str) -> None:
    limit = spike({"/": one(rate="unlimited", algorithm=algorithm), "/a": capped(cap)})
    assert limit.rate.per_second == Rate.parse(cap).per_second
    assert algorithm == "token-bucket" or limit.rate.count is not None


def test_unlimited_has_no_burst() -> None:
    limit = spike({"/a": one(rate="unlimited", burst=5)})
    assert (limit.rate.unlimited, limit.burst) == (True, None)


@pytest.mark.parametrize(
    ("algorithm", "cap", "lowered"),
    [
        ("quota", "5/day", "5/day"),
        ("quota", "5/month", "5/month"),
        ("quota", "40/s", "40/s"),
        ("quota", "50/30s", "100/min"),
        ("quota", "5/2day", "17/week"),
        ("quota", "0.5/day", "3/week"),
        ("quota", "9/5week", "7/month"),
        ("sliding-window", "5/month", "5/31day"),
        ("sliding-window", "0.5/month", "1/62day"),
        ("token-bucket", "5/month", "5/31day"),
    ],
)
def test_unlimited_under_a_cap_of_another_kind_of_window(
    algorithm: str, cap: str, lowered: str
) -> None:
    """An agent clips to a window that the algorithm supports; it does not reject."""
    limit = spike({"/": one(rate="unlimited", algorithm=algorithm), "/a": capped(cap)})
    assert str(limit.rate) == lowered
    assert limit.clips["rate"].asked.unlimited


@pytest.mark.parametrize(
    ("rate", "cap", "lowered"),
    [
        ("500/day", "300/day", "300/day"),
        ("200/day", "300/day", "200/day"),
        ("500/month", "300/month", "300/month"),
        ("500/month", "2.5/month", "2/month"),
        ("500/month", "10/day", "280/month"),
        ("500/day", "280/month", "10/day"),
    ],
)
def test_a_quota_keeps_its_window_under_a_cap(rate: str, cap: str, lowered: str) -> None:
    limit = spike({"/": one(rate=rate, algorithm="quota"), "/a": capped(cap)})
    assert str(limit.rate) == lowered
    assert str(spike({"/": one(rate=rate, algorithm="quota"), "/a": capped(burst=7)}).rate) == (
        "7/" + rate.partition("/")[2]
    )


# -- quotas


def test_a_quota_resets_at_midnight_by_default() -> None:
    limit = spike({"/a": one(rate="5/day", algorithm="quota")})
    assert (limit.resets, limit.burst) == (Resets(0, 0, "UTC"), None)
    assert spike({"/a": one(rate="5/day", algorithm="sliding-window")}).resets is None


def test_resets_is_inherited_and_replaced() -> None:
    documents = {
        "/": one(rate="5/day", algorithm="quota", resets="06:00 Europe/Berlin"),
        "/a": one(rate="6/day"),
        "/a/b": one(resets="07:30"),
        "/d": one(algorithm="sliding-window"),
    }
    assert str(spike(documents).resets) == "06:00 Europe/Berlin"
    assert str(spike(documents, "/a/b").resets) == "07:30 UTC"
    assert "resets" not in spike(documents, "/d").settings


def test_changing_to_a_quota_drops_burst_and_across() -> None:
    documents = {"/": one(rate="5/day", burst=9, across="cluster"), "/a": one(algorithm="quota")}
    assert spike(documents, "/").across == "cluster"
    assert spike(documents).across is None
    assert set(spike(documents).settings) == {"rate", "algorithm"}


def test_changing_the_algorithm_keeps_across_redis() -> None:
    for algorithm in ("quota", "sliding-window", "concurrency"):
        documents = {
            "/": one(rate="5/day", across="redis"), "/a": one(algorithm=algorithm, max=5)
        }  # fmt: skip
        if algorithm != "concurrency":
            del documents["/a"]["limits"]["spike"]["max"]
        assert spike(documents).across == "redis"


# -- precision

WINDOW = {"algorithm": "sliding-window", "rate": "90/min"}


def test_a_window_has_24_cells_by_default_and_other_algorithms_have_none() -> None:
    assert spike({"/a": one(**WINDOW)}).precision == 24
    assert spike({"/a": one(rate="90/min")}).precision is None


def test_precision_is_inherited_and_replaced_below() -> None:
    documents = {
        "/": one(**WINDOW, precision=128),
        "/a": one(rate="9/min"),
        "/a/b": one(precision=24),
    }
    assert [spike(documents, scope).precision for scope in ("/a", "/a/b")] == [128, 24]


def test_changing_the_algorithm_drops_the_precision() -> None:
    documents = {"/": one(**WINDOW, precision=128), "/a": one(algorithm="token-bucket")}
    assert set(spike(documents).settings) == {"algorithm", "rate"}


# -- concurrency

SLOTS = {"algorithm": "concurrency", "max": 50}


def test_a_slot_is_held_for_a_minute_by_default() -> None:
    limit = spike({"/a": one(**SLOTS)})
    assert (limit.max, str(limit.hold), limit.rate, limit.burst) == (50, "60s", None, None)
    assert not limit.unlimited


def test_max_and_hold_are_inherited_separately() -> None:
    documents = {
        "/": one(**SLOTS, hold="2h", per=["tenant"]),
        "/a": one(max=5),
        "/d": one(hold="9s"),
    }
    here, below = spike(documents), spike(documents, "/d")
    assert [(limit.max, str(limit.hold), limit.per) for limit in (here, below)] == [
        (5, "2h", ("tenant",)), (50, "9s", ("tenant",)),
    ]  # fmt: skip


def test_changing_to_concurrency_and_back_drops_fields() -> None:
    documents = {
        "/": one(rate="5/s", burst=9, across="cluster", per=["tenant"]),
        "/a": one(**SLOTS, hold="2h"),
        "/a/b": one(algorithm="token-bucket", rate="1/s"),
    }
    assert set(spike(documents).settings) == {"algorithm", "per", "max", "hold"}
    assert set(spike(documents, "/a/b").settings) == {"algorithm", "per", "rate"}


def test_a_caps_burst_bounds_max_and_its_rate_does_not() -> None:
    documents = {"/": one(**SLOTS), "/a": capped("1/s", 20), "/a/b": capped(burst=30)}
    limit = spike(documents, "/a/b")
    assert (limit.max, limit.clips) == (20, {"max": Clip(50, 20, Setting(20, "/a"))})
    assert spike(documents, "/").max == 50


# -- budgets


def budget(**fields: Any) -> dict[str, Any]:
    return {"budgets": {"spike": fields}}


def test_budgets_of_the_path_are_collected_from_the_top_and_never_merged() -> None:
    documents = {
        "/": budget(rate="9/s", burst=20, per=["tenant"]),
        "/a": budget(rate="5/s"),
        "/a/b": {},
        "/d": {"budgets": {"other": {"rate": "1/s"}}},
    }
    of = at(documents, "/a/b/c").budgets
    assert [(owner, str(b.rate), b.burst, b.per) for owner, b in of] == [
        ("/", "9/s", 20, ("tenant",)), ("/a", "5/s", 5, ()),
    ]  # fmt: skip
    assert [(owner, b.name) for owner, b in at(documents, "/d").budgets] == [
        ("/", "spike"), ("/d", "other"),
    ]  # fmt: skip
    assert at(documents, "/a").limits == {}


def test_limits_do_not_complete_budgets_nor_budgets_limits() -> None:
    documents = {
        "/": one(rate="5/s"),
        "/a": budget(burst=5),
        "/a/b": {**budget(rate="1/s"), **one()},
    }
    assert at(documents, "/a").broken_budgets["spike"].code == "RC203"
    assert str(spike(documents, "/a/b").rate) == "5/s"
    assert at(documents, "/a/b").broken_budgets == {}, "of this very scope"


def test_neither_caps_nor_unset_touch_a_budget() -> None:
    documents = {
        "/": {**budget(rate="100/s", burst=500), **one(rate="100/s"), **capped("1/s", 1)},
        "/a": {"unset": ["spike"], **budget(rate="50/s")},
    }
    assert [(str(b.rate), b.burst) for _, b in at(documents, "/a").budgets] == [
        ("100/s", 500), ("50/s", 50),
    ]  # fmt: skip
    assert all(not b.clips for _, b in at(documents, "/a").budgets)


# -- trusted proxies


def test_trusted_proxies_are_inherited_whole() -> None:
    documents: Written = {
        "/": {}, "/a": {"trusted_proxies": ["10.0.0.0/8", "::1"]}, "/a/b": {},
        "/a/b/c": {"trusted_proxies": []},
    }  # fmt: skip
    settings = [at(documents, scope).trusted_proxies for scope in ("/", "/a", "/a/b", "/a/b/c")]
    two = ("10.0.0.0/8", "::1/128")
    assert [setting.value for setting in settings] == [(), two, two, ()]
    assert [setting.scope for setting in settings] == [BUILT_IN, "/a", "/a", "/a/b/c"]
    assert settings[3].over == Setting(two, "/a")
    assert settings[1].over is None


# -- problems


@pytest.mark.parametrize(
    ("fields", "code", "field"),
    [
        ({}, "RC203", ""),
        ({"per": ["tenant"]}, "RC203", ""),
        ({"rate": "5/month"}, "RC204", "rate"),
        ({"rate": "5/s", "burst": 5, "algorithm": "sliding-window"}, "RC204", "burst"),
        ({"rate": "0.5/s", "algorithm": "sliding-window"}, "RC204", "rate"),
        ({"rate": "5/day", "resets": "00:00"}, "RC204", "resets"),
        ({"rate": "5/day", "resets": "00:00", "algorithm": "sliding-window"}, "RC204", "resets"),
        ({"rate": "5/day", "burst": 5, "algorithm": "quota"}, "RC204", "burst"),
        ({"rate": "5/day", "across": "cluster", "algorithm": "quota"}, "RC204", "across"),
        ({"rate": "5/2s", "algorithm": "quota"}, "RC204", "rate"),
        ({"rate": "5/2day", "algorithm": "quota"}, "RC204", "rate"),
        ({"rate": "0.5/day", "algorithm": "quota"}, "RC204", "rate"),
        ({"rate": "5/day", "resets": "Mon 00:00", "algorithm": "quota"}, "RC204", "resets"),
        ({"rate": "5/month", "resets": "Mon 00:00", "algorithm": "quota"}, "RC204", "resets"),
        ({"rate": "5/day", "resets": "1 00:00", "algorithm": "quota"}, "RC204", "resets"),
        ({"rate": "5/week", "resets": "1 00:00", "algorithm": "quota"}, "RC204", "resets"),
        ({"rate": "5/h", "resets": "00:00", "algorithm": "quota"}, "RC204", "resets"),
        ({"rate": "5/min", "resets": "00:00", "algorithm": "quota"}, "RC204", "resets"),
        ({"hold": "60s", "algorithm": "concurrency"}, "RC203", ""),
        ({"max": 5}, "RC203", ""),
        ({"max": 5, "rate": "5/s", "algorithm": "concurrency"}, "RC204", "rate"),
        ({"max": 5, "burst": 5, "algorithm": "concurrency"}, "RC204", "burst"),
        ({"max": 5, "resets": "00:00", "algorithm": "concurrency"}, "RC204", "resets"),
        ({"max": 5, "across": "cluster", "algorithm": "concurrency"}, "RC204", "across"),
        ({"max": 5, "rate": "5/s"}, "RC204", "max"),
        ({"hold": "5s", "rate": "5/s", "algorithm": "sliding-window"}, "RC204", "hold"),
        ({"hold": "5s", "rate": "5/day", "algorithm": "quota"}, "RC204", "hold"),
    ],
)
def test_limits_that_cannot_be_used(fields: dict[str, Any], code: str, field: str) -> None:
    resolved = at({"/": {"limits": {"spike": fields}}, "/a": {}}, "/a")
    assert "spike" not in resolved.limits
    problem = resolved.problems["spike"]
    assert (problem.code, problem.field) == (code, field)


def test_a_deeper_scope_may_complete_a_limit() -> None:
    documents = {"/": one(per=["tenant"]), "/a": one(rate="5/s")}
    assert ("spike" in at(documents, "/").problems, at(documents, "/a").problems) == (True, {})
    assert spike(documents).per == ("tenant",)


def test_following_the_hint_for_half_a_request_is_valid() -> None:
    for rate in ("0.5/s", "2.5/min", "0.3/7min", "1.25/2h"):
        window = one(rate=rate, algorithm="sliding-window")
        hint = at({"/a": window}, "/a").problems["spike"].hint
        followed = spike({"/a": one(rate=hint.rpartition(" ")[2], algorithm="sliding-window")})
        assert followed.rate.per_second == Rate.parse(rate).per_second


# -- laws over random trees


LACKS = {
    "token-bucket": ("resets", "max", "hold"),
    "sliding-window": ("burst", "resets", "max", "hold"),
    "quota": ("burst", "max", "hold"),
    "concurrency": ("rate", "burst", "resets"),
}
NOT_ACROSS_CLUSTER = ("quota", "concurrency")
MONTH_NS = 28 * 86_400 * 10**9
RESETTABLE = {"day": ("",), "week": ("", "Mon"), "month": ("", "31")}
"""Possible days before the time in ``resets``, for each unit."""


def second_reading(documents: Written, scope: str) -> dict[str, tuple[object, ...] | str]:
    """Return the limits in force at a declared scope: parameters, or the code of a problem."""
    path = [
        up for up in SCOPES if up in documents and (scope + "/").startswith(up.rstrip("/") + "/")
    ]
    fields: dict[str, dict[str, Any]] = {}
    pace = dict.fromkeys(NAMES, inf)
    burst = dict.fromkeys(NAMES, inf)
    for up in path:
        for name in documents[up].get("unset", ()):
            fields.pop(name, None)
        for name, fresh in documents[up]["limits"].items():
            known, algorithm = fields.get(name, {}), fresh.get("algorithm", "")
            for field in LACKS.get(algorithm, ()):
                known.pop(field, None)
            if algorithm in NOT_ACROSS_CLUSTER and known.get("across") == "cluster":
                del known["across"]
            fields[name] = {**fields.get(name, {}), **fresh}
        for name, cap in documents[up].get("caps", {}).items():
            pace[name] = min(pace[name], _pace(cap.get("rate", "unlimited")))
            burst[name] = min(burst[name], cap.get("burst", inf))
    return {name: _effect(of, pace[name], burst[name]) for name, of in fields.items()}


def _pace(rate: str) -> Any:
    per_second = Rate.parse(rate).per_second
    return inf if per_second is None else per_second


def _effect(of: dict[str, Any], pace: Any, most: Any) -> tuple[object, ...] | str:
    algorithm = of.get("algorithm", "token-bucket")
    if ("max" if algorithm == "concurrency" else "rate") not in of:
        return "RC203"
    if not of.keys().isdisjoint(LACKS[algorithm]):
        return "RC204"
    if algorithm in NOT_ACROSS_CLUSTER and of.get("across") == "cluster":
        return "RC204"
    if algorithm == "concurrency":
        hold = HOLDS[of.get("hold", "60s")]
        return (algorithm, tuple(of.get("per", ())), of.get("mode", "enforce"), hold,
                min(of["max"], most))  # fmt: skip
    rate = Rate.parse(of["rate"])
    if rate.unit == "month" and algorithm != "quota":
        return "RC204"
    asked = _pace(of["rate"])
    rest = (algorithm, tuple(of.get("per", ())), of.get("mode", "enforce"))
    if algorithm == "token-bucket":
        final = asked if asked <= pace else SLOW_MONTHS.get(pace, pace)
        if final == inf:
            return (*rest, inf, None)
        return (*rest, final, min(of.get("burst", max(1, ceil(min(asked, 10**30) if asked != inf
                else final))), most))  # fmt: skip
    if asked == inf:
        return (*rest, "unlimited" if pace == inf else "cap's")
    if rate.denominator != 1 or (algorithm == "quota" and not _a_calendars(rate, of.get("resets"))):
        return "RC204"
    seconds = Fraction(rate.window_ns or MONTH_NS, 10**9)
    count = min(rate.numerator, most)
    return (*rest, seconds, count if pace == inf else min(count, pace * seconds // 1))


HOLDS = {
    "60s": 60 * 10**9, "1.5min": 90 * 10**9, "0.001s": 10**6, "2week": 14 * 86_400 * 10**9,
}  # fmt: skip
SLOW_MONTHS = {
    _pace(rate): _pace(rate.replace("month", "31day")) for rate in RATES if rate.endswith("month")
}
"""Pace per month → slowest pace of a bucket under such a cap: a month of 31 days."""


def _a_calendars(rate: Rate, resets: str | None) -> bool:
    first = (resets or "").partition(" ")[0]
    day = "" if ":" in first else first
    if rate.multiple != 1 or rate.unit == "s":
        return False
    return resets is None or day in RESETTABLE.get(rate.unit, ())


def _told(limit: Limit) -> tuple[object, ...]:
    rate = limit.rate
    rest = (limit.algorithm, limit.per, limit.mode)
    if rate is None:
        assert limit.hold is not None
        return (*rest, limit.hold.ns, limit.max)
    if limit.algorithm == "token-bucket":
        return (*rest, inf if rate.unlimited else rate.per_second, limit.burst)
    if limit.settings["rate"].value.unlimited:
        return (*rest, "unlimited" if rate.unlimited else "cap's")
    return (*rest, Fraction(rate.window_ns or MONTH_NS, 10**9), rate.numerator)


@given(written)
def test_an_independent_implementation_agrees(documents: Written) -> None:
    resolver = Resolver(tree(documents))
    for scope in documents:
        resolved = resolver.at(scope)
        assert resolved is not None
        told: dict[str, tuple[object, ...] | str] = {
            name: problem.code for name, problem in resolved.problems.items()
        }
        told |= {name: _told(limit) for name, limit in resolved.limits.items()}
        assert told == second_reading(documents, scope)


@given(written)
def test_every_value_in_force_is_declared_or_clipped_or_a_default(documents: Written) -> None:
    policies: PolicyTree = tree(documents)
    for scope in documents:
        for limit in at(documents, scope).limits.values():
            for field, setting in limit.settings.items():
                for beaten in setting.history():
                    source = policies.policies[beaten.scope].limits[limit.name]
                    assert getattr(source, field) == beaten.value
            for field, clip in limit.clips.items():
                assert clip.cap in at(documents, scope).caps[limit.name].values()
                if not limit.unlimited:
                    assert getattr(limit, field) == clip.value != clip.asked
