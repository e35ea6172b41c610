"""Rules of whole trees: findings with their places, and trees without findings."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from policy.trees import Written, budget, cap, findings, one, path_at, places, tree, written
from ratectl.policy.resolution.resolver import resolve

BASE = {"rate": "10/s", "burst": 20, "per": ["tenant"]}
CAP = {"rate": "40/s", "burst": 100}
SLOTS = {"algorithm": "concurrency", "max": 5}
QUOTA = {"algorithm": "quota", "rate": "5/day"}
UNITS = ("min", "h", "day", "week", "month")
WINDOW = {"algorithm": "sliding-window", "rate": "600/min"}

GOOD: dict[str, Written] = {
    "nothing at all": {},
    "an empty document": {"/": {}},
    "a server counts everything": {
        "/": {
            "limits": {
                "a": {**BASE, "across": "redis"},
                "b": {**QUOTA, "across": "redis"},
                "c": {**SLOTS, "max": 100_000, "across": "redis", "per": ["tenant"]},
                "d": {"rate": "5/min", "algorithm": "sliding-window", "across": "redis"},
            },
            **budget(algorithm="quota", rate="9/day", across="redis"),
        }
    },
    "exactly the cap": {"/": {**one(**BASE), **cap(**CAP)}, "/a": one(rate="40/s", burst=100)},
    "a default burst above a cap": {"/": {**one(rate="40/s"), **cap(rate="40/s", burst=5)}},
    "a cap elsewhere": {"/": one(**BASE), "/a": cap(rate="11/s"), "/d": one(rate="99/s")},
    "the same algorithm and per again": {
        "/": {**one(**BASE), **cap(**CAP)}, "/a": one(algorithm="token-bucket", per=["tenant"]),
    },
    "the first to say per, below a cap": {"/": cap(**CAP), "/a": one(rate="1/s", per=["tenant"])},
    "unset and off without a cap": {
        "/": one(**BASE), "/a": {"unset": ["spike"]}, "/d": one(mode="off"),
    },
    "a window below its caps": {"/": {**one(**WINDOW), **cap(rate="10/s", burst=600)}},
    "unlimited without a cap": {"/": one(rate="unlimited")},
    "a quota in every unit": {
        "/": {"limits": {unit: {"algorithm": "quota", "rate": f"5/{unit}"} for unit in UNITS}},
    },
    "a quota from a day": {
        "/": {"limits": {
            "w": {"algorithm": "quota", "rate": "5/week", "resets": "Mon 06:00 Europe/Berlin"},
            "m": {"algorithm": "quota", "rate": "5/month", "resets": "31 00:00"},
        }},
    },
    "quotas below caps of their unit": {
        "/": cap(rate="5/day"), "/a": one(**{**QUOTA, "rate": "4/day"}),
        "/d": {**cap(rate="2.5/day"), **one(**{**QUOTA, "rate": "2/day"})},
    },
    "a quota of a month at its cap": {
        "/": {**cap(rate="5/month"), **one(algorithm="quota", rate="5/month")},
    },
    "another algorithm drops resets": {
        "/": one(**QUOTA, resets="06:00"), "/a": one(algorithm="token-bucket"),
    },
    "budgets of one name on a path": {"/": budget(**BASE), "/a": budget(rate="99/s")},
    "budgets beside limits and caps of their name": {
        "/": {**budget(rate="99/s"), **one(rate="1/s"), **cap(rate="1/s", burst=5)},
        "/a": budget(rate="99/s", mode="off"),
    },
    "quotas as budgets": {"/": budget(**QUOTA, resets="06:00", per="tenant")},
    "slots below a cap": {
        "/": cap(burst=5, rate="1/s"), "/a": one(**SLOTS, hold="2h", per=["tenant"]),
    },
    "inherited slots above a deeper cap": {
        "/": one(**SLOTS), "/a": cap(burst=1), "/a/b": one(max=1),
    },
    "slots as budgets": {"/": budget(**SLOTS)},
    "slots in place of a rate": {"/": one(**BASE), "/a": one(**SLOTS), "/a/b": one(max=9)},
    "an unlimited budget": {"/": budget(rate="unlimited")},
    "proxies": {"/": {"trusted_proxies": ["10.0.0.0/8", "2001:db8::/32"]}, "/a": {}},
    "an unlimited cap": {"/": {**one(rate="unlimited"), **cap(rate="unlimited")}},
}  # fmt: skip

BAD: dict[str, tuple[Written, list[tuple[str, str, str]]]] = {
    "rate above an ancestor's cap": (
        {"/": {**one(**BASE), **cap(**CAP)}, "/a": one(rate="41/s")},
        [("RC201", "/a", "limits.spike.rate")],
    ),
    "burst above an ancestor's cap": (
        {"/": {**one(**BASE), **cap(**CAP)}, "/a/b": one(burst=101)},
        [("RC201", "/a/b", "limits.spike.burst")],
    ),
    "above a cap of the same document": (
        {"/a": {**one(rate="41/s", burst=101), **cap(**CAP)}},
        [("RC201", "/a", "limits.spike.rate"), ("RC201", "/a", "limits.spike.burst")],
    ),
    "above the tighter of two caps": (
        {"/": cap(rate="10/s"), "/a": cap(rate="20/s"), "/a/b": one(rate="15/s")},
        [("RC201", "/a/b", "limits.spike.rate")],
    ),
    "unlimited above a cap": (
        {"/": cap(**CAP), "/a": one(rate="unlimited")},
        [("RC201", "/a", "limits.spike.rate")],
    ),
    "a window faster than a cap": (
        {"/": cap(rate="9/s"), "/a": one(**WINDOW)}, [("RC201", "/a", "limits.spike.rate")],
    ),
    "a window with more at once than a cap": (
        {"/": cap(burst=599), "/a": one(**WINDOW)}, [("RC201", "/a", "limits.spike.rate")],
    ),
    "unset below a cap": (
        {"/": {**one(**BASE), **cap(**CAP)}, "/a": {"unset": ["spike"]}},
        [("RC202", "/a", "unset.0")],
    ),
    "unset beside the cap": (
        {"/": one(**BASE), "/a": {"unset": ["spike"], **cap(**CAP)}},
        [("RC202", "/a", "unset.0")],
    ),
    "off below a cap": (
        {"/": {**one(**BASE), **cap(**CAP)}, "/a/b": one(mode="off")},
        [("RC202", "/a/b", "limits.spike.mode")],
    ),
    "off beside the cap": (
        {"/": {**one(mode="off", **BASE), **cap(**CAP)}}, [("RC202", "/", "limits.spike.mode")],
    ),
    "another algorithm below a cap": (
        {"/": {**one(rate="10/s"), **cap(**CAP)}, "/a": one(algorithm="sliding-window")},
        [("RC202", "/a", "limits.spike.algorithm")],
    ),
    "another per below a cap": (
        {"/": {**one(**BASE), **cap(**CAP)}, "/a": one(per=["tenant", "route"])},
        [("RC202", "/a", "limits.spike.per")],
    ),
    "a per where none was, beside the cap": (
        {"/": one(rate="1/s"), "/a": {**one(per=["tenant"]), **cap(**CAP)}},
        [("RC202", "/a", "limits.spike.per")],
    ),
    "no rate anywhere": ({"/": one(per=["tenant"])}, [("RC203", "/", "limits.spike")]),
    "no rate after unset": (
        {"/": one(**BASE), "/a": {"unset": ["spike"], **one(burst=5)}},
        [("RC203", "/a", "limits.spike")],
    ),
    "a misspelt name": (
        {"/": one(**BASE), "/a": {"limits": {"spkie": {"burst": 5}}}},
        [("RC203", "/a", "limits.spkie"), ("RC310", "/a", "limits.spkie")],
    ),
    "a cap of nothing": ({"/": cap()}, [("RC203", "/", "caps.spike")]),
    "a month in a rate": ({"/": one(rate="5/month")}, [("RC204", "/", "limits.spike.rate")]),
    "a burst of a window": (
        {"/": one(**WINDOW), "/a": one(burst=5)}, [("RC204", "/a", "limits.spike.burst")],
    ),
    "half a request in a window": (
        {"/": one(algorithm="sliding-window", rate="0.5/s")}, [("RC204", "/", "limits.spike.rate")],
    ),
    "unset of nothing": (
        {"/": one(**BASE), "/a": {"unset": ["other", "spike"]}}, [("RC301", "/a", "unset.0")],
    ),
    "unset at the top": ({"/": {"unset": ["spike"]}}, [("RC301", "/", "unset.0")]),
    "a burst of a quota": (
        {"/": one(**QUOTA, burst=5)},
        [("RC204", "/", "limits.spike.burst")],
    ),
    "resets of a token bucket": (
        {"/": one(rate="5/day", resets="06:00")},
        [("RC204", "/", "limits.spike.resets")],
    ),
    "resets of a window": (
        {"/": one(**WINDOW, resets="06:00")},
        [("RC204", "/", "limits.spike.resets")],
    ),
    "a rate of slots": (
        {"/": one(**SLOTS, rate="5/s")}, [("RC204", "/", "limits.spike.rate")],
    ),
    "slots of a rate": (
        {"/": one(rate="5/s", max=5), "/a": {"limits": {"q": {**QUOTA, "hold": "60s"}}}},
        [("RC204", "/", "limits.spike.max"), ("RC204", "/a", "limits.q.hold")],
    ),
    "slots across the cluster": (
        {"/": one(**SLOTS, across="cluster")}, [("RC204", "/", "limits.spike.across")],
    ),
    "more slots than a server keeps": (
        {"/": one(algorithm="concurrency", max=100_001, across="redis")},
        [("RC204", "/", "limits.spike.max")],
    ),
    "slots without a number": (
        {"/": one(algorithm="concurrency"), "/a": budget(hold="60s", algorithm="concurrency")},
        [("RC203", "/", "limits.spike"), ("RC203", "/a", "budgets.fleet")],
    ),
    "a number of slots alone": ({"/": one(max=5)}, [("RC203", "/", "limits.spike")]),
    "more slots than a cap": (
        {"/": cap(burst=4), "/a": one(**SLOTS)}, [("RC201", "/a", "limits.spike.max")],
    ),
    "slots under a cap on a rate": (
        {"/": cap(rate="5/s"), "/a": one(**SLOTS), "/a/b": one(max=4)},
        [("RC204", "/a", "limits.spike.algorithm"), ("RC204", "/a/b", "limits.spike")],
    ),
    "a cap on the rate of slots": (
        {"/": {**one(**SLOTS), **cap(rate="5/s")}, "/a": cap(rate="4/s")},
        [("RC204", "/", "caps.spike.rate"), ("RC204", "/a", "caps.spike.rate")],
    ),
    "a quota across the cluster": (
        {"/": one(**QUOTA, across="cluster")},
        [("RC204", "/", "limits.spike.across")],
    ),
    "a weekday of a day": (
        {"/": one(**QUOTA, resets="Mon 06:00")},
        [("RC204", "/", "limits.spike.resets")],
    ),
    "a weekday of a month": (
        {"/": one(algorithm="quota", rate="5/month", resets="Mon 06:00")},
        [("RC204", "/", "limits.spike.resets")],
    ),
    "a day of the month of a week": (
        {"/": one(algorithm="quota", rate="5/week", resets="15 06:00")},
        [("RC204", "/", "limits.spike.resets")],
    ),
    "a time of day of an hour": (
        {"/": one(algorithm="quota", rate="5/h", resets="06:00")},
        [("RC204", "/", "limits.spike.resets")],
    ),
    "a quota of two days": (
        {"/": one(algorithm="quota", rate="5/2day")},
        [("RC204", "/", "limits.spike.rate")],
    ),
    "a quota of two seconds": (
        {"/": one(algorithm="quota", rate="5/2s")},
        [("RC204", "/", "limits.spike.rate")],
    ),
    "half a request in a quota": (
        {"/": one(algorithm="quota", rate="0.5/day")},
        [("RC204", "/", "limits.spike.rate")],
    ),
    "a rate that no longer fits the inherited resets": (
        {"/": one(algorithm="quota", rate="5/week", resets="Mon 06:00"), "/a": one(rate="1/day")},
        [("RC204", "/a", "limits.spike")],
    ),
    "a quota above its cap": (
        {"/": cap(rate="4/day"), "/a": one(**QUOTA)},
        [("RC201", "/a", "limits.spike.rate")],
    ),
    "a quota above a burst cap": (
        {"/": cap(burst=4), "/a": one(**QUOTA)},
        [("RC201", "/a", "limits.spike.rate")],
    ),
    "a quota and a cap of another unit": (
        {"/": cap(rate="99/week"), "/a": one(**QUOTA)},
        [("RC204", "/a", "limits.spike.rate")],
    ),
    "a quota and a cap of several units": (
        {"/": cap(rate="99/2day"), "/a": one(**QUOTA)},
        [("RC204", "/a", "limits.spike.rate")],
    ),
    "a token bucket and a cap of a month": (
        {"/": cap(rate="90/month"), "/a": one(rate="1/day")},
        [("RC204", "/a", "limits.spike.rate")],
    ),
    "a consistency of a limit that agents do not share": (
        {
            "/": {
                **one(rate="5/min", consistency="optimistic"),
                **budget(rate="1/s", across="redis", consistency="strict"),
            },
            "/a": one(across="cluster"),
        },
        [
            ("RC302", "/", "limits.spike.consistency"),
            ("RC302", "/", "budgets.fleet.consistency"),
        ],
    ),
    "what an override sets of a limit that agents share, or do not": (
        {
            "/": {
                **one(rate="5/min"),
                "overrides": [
                    {"name": "gold", "match": {"tier": "gold"},
                     "limits": {"spike": {"consistency": "optimistic"}}},
                    {"name": "free", "match": {"tier": "free"},
                     "limits": {"spike": {"algorithm": "sliding-window", "rate": "5/s",
                                          "across": "cluster"}}},
                    {"name": "odd", "match": {"tier": "odd"},
                     "limits": {"spike": {"across": "cluster", "consistency": "optimistic"}}},
                ],
            },
        },
        [
            ("RC302", "/", "overrides.0.limits.spike.consistency"),
            ("RC308", "/", "overrides.1.limits.spike.across"),
        ],
    ),
    "a consistency of slots": (
        {"/": one(**SLOTS, consistency="strict")},
        [("RC204", "/", "limits.spike.consistency")],
    ),
    "a consistency of a quota": (
        {"/": one(**QUOTA, consistency="strict")},
        [("RC204", "/", "limits.spike.consistency")],
    ),
    "short windows across the cluster": (
        {
            "/": {
                "limits": {
                    "short": {"algorithm": "sliding-window", "rate": "5/9s", "across": "cluster"},
                    "long": {"algorithm": "sliding-window", "rate": "5/10s", "across": "cluster"},
                    "all": {"algorithm": "sliding-window", "rate": "unlimited",
                            "across": "cluster"},
                    "keyed": {"algorithm": "sliding-window", "rate": "5/s", "across": "cluster",
                              "per": "tenant"},
                },
            },
        },
        [("RC308", "/", "limits.short.across"), ("RC308", "/", "limits.keyed.across")],
    ),
    "a budget without a rate": (
        {"/": budget(burst=5)},
        [("RC203", "/", "budgets.fleet")],
    ),
    "a budget that hopes to inherit": (
        {"/": budget(**BASE), "/a": budget(burst=5)},
        [("RC203", "/a", "budgets.fleet")],
    ),
    "a budget that is not below its scope": (
        {"/": budget(burst=5), "/a": {}},
        [("RC203", "/", "budgets.fleet")],
    ),
    "a burst of a budget's window": (
        {"/": budget(**WINDOW, burst=5)},
        [("RC204", "/", "budgets.fleet.burst")],
    ),
    "a month in a budget": (
        {"/": budget(rate="5/month")},
        [("RC204", "/", "budgets.fleet.rate")],
    ),
    "resets of a budget's bucket": (
        {"/": budget(rate="5/day", resets="06:00")},
        [("RC204", "/", "budgets.fleet.resets")],
    ),
    "a budget of two days": (
        {"/": budget(algorithm="quota", rate="5/2day")},
        [("RC204", "/", "budgets.fleet.rate")],
    ),
    "unset of a budget": (
        {"/": budget(**BASE), "/a": {"unset": ["fleet"]}},
        [("RC301", "/a", "unset.0")],
    ),
    "everything at once, in order of place": (
        {"/": {"unset": ["x"], **one(rate="99/s"), **cap(rate="1/s")}, "/a": one(mode="off")},
        [("RC301", "/", "unset.0"), ("RC201", "/", "limits.spike.rate"),
         ("RC202", "/a", "limits.spike.mode")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("documents", GOOD.values(), ids=GOOD.keys())
def test_good_trees(documents: Written) -> None:
    assert findings(documents) == []


@pytest.mark.parametrize(("documents", "expected"), BAD.values(), ids=BAD.keys())
def test_bad_trees(documents: Written, expected: list[tuple[str, str, str]]) -> None:
    assert places(documents) == expected
    for found in findings(documents):
        assert found.severity == ("warning" if found.code[:3] == "RC3" else "error")
        assert found.hint


@pytest.mark.parametrize(
    "way",
    [
        {"unset": ["spike"]},
        one(mode="off"),
        one(algorithm="sliding-window", rate="5/s"),
        one(per=["ip"]),
        {"overrides": [{"name": "x", "match": {"a": "b"}, **one(mode="off")}]},
    ],
    ids=["unset", "off", "algorithm", "per", "override"],
)
def test_a_cap_cannot_be_evaded(way: dict[str, Any]) -> None:
    documents = {"/": {**one(**BASE), **cap(**CAP)}, "/a": way}
    assert [found.code for found in findings(documents) if found.severity == "error"] == ["RC202"]


def test_a_finding_names_the_cap_and_the_value_to_write() -> None:
    documents = {"/": {**one(**BASE), **cap(**CAP)}, "/a": one(rate="41/s", burst=101)}
    rate, burst = findings(documents)
    assert rate.message == "rate 41/s exceeds the cap 40/s of /"
    assert burst.message == "burst 101 exceeds the cap 100 of /"
    assert rate.hint == "lower it to 40/s or raise the cap"
    assert rate.notes == burst.notes
    assert rate.notes[0].startswith("cap set at /:")


def test_findings_about_a_budget_name_the_budget() -> None:
    (found,) = findings({"/": one(**BASE), "/a": budget(burst=5)})
    assert found.message == (
        "budget 'fleet' has no rate, and a budget does not take the rate of the scope above"
    )
    assert found.hint is not None
    assert found.hint == "add a rate, like rate: 100/s"


def test_a_quota_and_its_cap_in_two_units_are_explained() -> None:
    (found,) = findings({"/": cap(rate="99/week"), "/a": one(**QUOTA)})
    assert found.message == "rate 5/day and its cap 99/week are not in the same calendar unit"
    assert found.notes[0].startswith("cap set at /:")


def test_a_concurrency_limit_without_max_is_explained() -> None:
    messages = {
        "a concurrency limit takes no rate: it counts requests in progress, not requests per "
        "time": one(**SLOTS, rate="5/s"),
        "a concurrency limit takes no burst: max is the most admitted at once": one(
            **SLOTS, burst=1
        ),
        "a concurrency limit takes no across: cluster: only a server counts it (redis)": one(
            **SLOTS, across="cluster"
        ),
        "limit 'spike' has no max: neither this scope nor one above gives it": one(
            algorithm="concurrency"
        ),
        "a token-bucket (the default algorithm) takes no max: it counts requests when they begin, "
        "not how many are in progress": one(rate="1/s", max=5),
    }
    for message, documents in messages.items():
        (found,) = findings({"/": documents})
        assert found.message == message
    (found,) = findings({"/": one(max=5)})
    assert found.hint == (
        "use algorithm: concurrency to limit requests in progress, "
        "or write rate: 5/s in place of max"
    )
    (found,) = findings({"/": cap(burst=4), "/a": one(**SLOTS)})
    assert found.message == "max 5 exceeds the cap 4 of /"
    (found,) = findings({"/": {**cap(rate="4/s"), **one(**SLOTS)}})
    assert found.message == ("the cap on 'spike' bounds its rate, and a concurrency limit has none")


def test_a_window_above_a_burst_cap_is_explained() -> None:
    (found,) = findings({"/": cap(burst=599), "/a": one(**WINDOW)})
    assert found.message == "rate 600/min admits more at once than the burst cap 599 of /"
    assert found.hint == "lower it to 599/min or raise the cap"


@given(written)
def test_a_tree_without_errors_can_be_used_everywhere(documents: Written) -> None:
    """A tree with an unusable limit has errors."""
    errors = [found for found in findings(documents) if found.severity == "error"]
    resolved = [resolve(tree(documents), scope) for scope in documents]
    unusable = [of for of in resolved if of is not None and (of.problems or of.broken_budgets)]
    assert not unusable or errors


@given(written)
def test_following_the_hint_of_a_cap_is_enough(documents: Written) -> None:
    for found in findings(documents):
        if found.code != "RC201":
            continue
        path = path_at(documents, found.span.file, found.span.line).split(".")
        value = (found.hint or "").removeprefix("lower it to ").removesuffix(" or raise the cap")
        documents[found.span.file][path[0]][path[1]][path[2]] = (
            int(value) if path[2] in ("burst", "max") else value
        )
    assert "RC201" not in {found.code for found in findings(documents)}
