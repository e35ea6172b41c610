"""RC303: bursts that are too small for limits across the cluster."""

from __future__ import annotations

from typing import Any

import pytest

from policy.trees import Written, budget, findings, one, places
from ratectl.policy.read import load_valid
from ratectl.policy.validation.cluster_bursts import small_bursts

SHARED: dict[str, Any] = {"rate": "1000/s", "across": "cluster"}


def overridden(**fields: Any) -> dict[str, Any]:
    override = {"name": "gold", "match": {"tier": "gold"}, "limits": {"spike": fields}}
    return {**one(**SHARED, burst=500), "overrides": [override]}


QUIET: dict[str, Written] = {
    "as much as 50 ms of the rate": {"/": one(**SHARED, burst=50)},
    "a default burst": {"/": one(**SHARED)},
    "a limit of each process": {"/": one(rate="1000/s", burst=1)},
    "a limit that is off": {"/": one(**SHARED, burst=1, mode="off")},
    "a rate of nothing": {"/": one(rate="0/s", burst=1, across="cluster")},
    "no limit at all": {"/": one(rate="unlimited", across="cluster")},
    "a scope below that changes nothing of it": {"/": one(**SHARED), "/a": one(mode="shadow")},
    "an override with enough": {"/": overridden(burst=50)},
    "a slow limit": {"/": one(rate="10/min", burst=1, across="cluster")},
}

NOISY: dict[str, tuple[Written, str]] = {
    "less than 50 ms of the rate": ({"/": one(**SHARED, burst=49)}, "limits.spike.burst"),
    "a budget": ({"/": budget(**SHARED, burst=49)}, "budgets.fleet.burst"),
    "an inherited limit with another burst": (
        {"/": one(**SHARED), "/a": one(burst=49)}, "limits.spike.burst"
    ),
    "an inherited limit with another rate": (
        {"/": one(**SHARED, burst=50), "/a": one(rate="1001/s")}, "limits.spike.rate"
    ),
    "an inherited limit that becomes shared": (
        {"/": one(rate="1000/s", burst=49), "/a": one(across="cluster")}, "limits.spike.across"
    ),
    "an override": ({"/": overridden(burst=49)}, "overrides.0.limits.spike.burst"),
    "an override below another": (
        {"/": overridden(burst=500), "/a": {"overrides": [
            {"name": "free", "match": {"tier": "free"}, "limits": {"spike": {"burst": 3}}}
        ]}},
        "overrides.0.limits.spike.burst",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", QUIET)
def test_quiet(name: str) -> None:
    assert places(QUIET[name]) == []


@pytest.mark.parametrize("name", NOISY)
def test_noisy(name: str) -> None:
    tree, path = NOISY[name]
    assert places(tree) == [("RC303", max(tree), path)]


def test_the_message_has_the_reason_and_the_remedy() -> None:
    (found,) = findings({"/": one(rate="1001/s", burst=7, across="cluster")})
    assert (found.severity, found.code) == ("warning", "RC303")
    assert found.message == (
        "spike is shared by the cluster, and its burst of 7 is too small: it holds less than the "
        "rate of 50ms, and processes may pause"
    )
    assert str(found.hint).startswith("write burst: 51, or more")


# With a number of processes -----------------------------------------------------------------------

TEXT = """\
apiVersion: ratectl/v1
scope: /
budgets: {fleet: {rate: 100/s, burst: 20, across: cluster}}
limits: {tiny: {rate: 1000/s, burst: 30, across: cluster}}
"""


def small(members: int, text: str = TEXT) -> list[str]:
    tree = load_valid(["-"], stdin=text.encode()).tree
    return [str(each) for each in small_bursts(tree, members)]


def test_each_process_needs_two_tokens() -> None:
    of_rate = (
        "tiny at / is shared by the cluster, and its burst of 30 is too small: it holds less than "
        "the rate of 50ms, and processes may pause. Requests are refused although the limit has "
        "room: write burst: 50, or more, or consistency: optimistic"
    )
    assert small(0) == small(10) == [of_rate]
    of_members = (
        "budget fleet at / is shared by the cluster, and its burst of 20 is too small: it has less "
        "than 2 tokens for each of 11 processes. Requests are refused although the limit has room: "
        "write burst: 22, or more, or consistency: optimistic"
    )
    assert small(11) == [of_rate, of_members]
    found = small_bursts(load_valid(["-"], stdin=TEXT.encode()).tree, 30)
    assert [(each.least, each.always) for each in found] == [
        ("burst: 60", True), ("burst: 60", False)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("limit", "members", "least"),
    [
        ("algorithm: sliding-window, rate: 5/10min", 2, None),
        ("algorithm: sliding-window, rate: 6/10min", 3, "rate: 7/10min"),
        ("algorithm: sliding-window, rate: 7/10min", 3, None),
        ("algorithm: sliding-window, rate: 1000/2h", 501, "rate: 1003/2h"),
        ("algorithm: sliding-window, rate: 0/10min", 3, None),
        ("rate: 1/h, burst: 3", 2, "burst: 4"),
        ("rate: 1/h, burst: 4", 2, None),
        ("rate: 1/h, burst: 7", 3, "burst: 8"),
        ("rate: 1/h, burst: 8", 3, None),
    ],
)
def test_each_process_needs_a_token_of_each_key(
    limit: str, members: int, least: str | None
) -> None:
    """Three processes have a little less than a third each, or a little more."""
    text = TEXT.partition("limits")[0].partition("budgets")[0] + (
        f"limits: {{each: {{{limit}, per: user, across: cluster}}}}\n"
    )
    given = limit.rpartition(", ")[2].replace(": ", " of ")
    warning = (
        f"each at / is shared by the cluster, and its {given} is too small: not each of {members} "
        "processes has a token of its own for the first request of a key. Requests are refused "
        f"although the limit has room: write {least}, or more, or consistency: optimistic"
    )
    assert small(members, text) == ([] if least is None else [warning])


def test_each_process_needs_two_places_of_a_window() -> None:
    text = TEXT.partition("budgets")[0] + (
        "budgets: {all: {algorithm: sliding-window, rate: 5/10min, across: cluster}}\n"
    )
    assert small(2, text) == []
    (found,) = small(3, text)
    assert "its rate of 5/10min is too small: it has less than 2 tokens for each of 3" in found
    assert found.endswith("write rate: 6/10min, or more, or consistency: optimistic")


def test_with_an_optimistic_consistency_processes_add_tokens() -> None:
    text = TEXT.replace("cluster}", "cluster, consistency: optimistic}")
    assert len(small(0, text)) == 1  # nobody adds any
    assert small(9, text)[0].endswith("write burst: 32, or more")
    assert small(10, text) == small(30, text) == []
    by_key = text.replace("burst: 30", "per: user, burst: 30")
    assert small(30, by_key)[0].endswith("write burst: 50, or more")  # the owner has no more


@pytest.mark.parametrize(
    ("limit", "members", "least"),
    [
        ("rate: 100/s, burst: 999", 499, None),
        ("rate: 100/s, burst: 1000", 250, None),
        ("rate: 100/s, burst: 1000", 251, "burst: 1004"),
        ("algorithm: sliding-window, rate: 1000/10min", 251, "rate: 1004/10min"),
    ],
)
def test_each_process_needs_two_tokens_of_each_part_of_a_large_limit(
    limit: str, members: int, least: str | None
) -> None:
    text = f"apiVersion: ratectl/v1\nscope: /\nlimits:\n  one: {{{limit}, across: cluster}}\n"
    found = small_bursts(load_valid(["-"], stdin=text.encode()).tree, members)
    assert [each.least for each in found] == ([] if least is None else [least])
    if least is not None:
        assert "less than 4 tokens for each of 251 processes, as it is in two parts" in str(
            found[0]
        )
