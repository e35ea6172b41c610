"""Rules over whole trees: what each finds and where, and what it leaves alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given

from policy.trees import path_at, tree, written
from ratectl.policy.check import check_tree
from ratectl.policy.codes import CODES
from ratectl.policy.resolve import resolve

if TYPE_CHECKING:
    from ratectl.policy.diagnostics import Diagnostic

Written = dict[str, dict[str, Any]]


def findings(said: Written) -> list[Diagnostic]:
    return check_tree(tree(said))


def places(said: Written) -> list[tuple[str, str, str]]:
    return [
        (found.code, found.span.file, path_at(said, found.span.file, found.span.line))
        for found in findings(said)
    ]


def one(**fields: Any) -> dict[str, Any]:
    return {"limits": {"spike": fields}}


def cap(**fields: Any) -> dict[str, Any]:
    return {"caps": {"spike": fields}}


BASE = {"rate": "10/s", "burst": 20, "per": ["tenant"]}
CAP = {"rate": "40/s", "burst": 100}
WINDOW = {"algorithm": "sliding-window", "rate": "600/min"}

GOOD: dict[str, Written] = {
    "nothing at all": {},
    "an empty document": {"/": {}},
    "exactly the cap": {"/": {**one(**BASE), **cap(**CAP)}, "/a": one(rate="40/s", burst=100)},
    "inherited above a deeper cap": {"/": one(rate="50/s", burst=200), "/a": cap(**CAP)},
    "other fields beside a clipped one": {
        "/": one(rate="50/s", burst=200), "/a": cap(**CAP), "/a/b": one(mode="shadow"),
    },
    "a default burst above a cap": {"/": {**one(rate="40/s"), **cap(rate="40/s", burst=5)}},
    "a cap on nothing yet": {"/": cap(**CAP), "/a": {"limits": {"other": {"rate": "99/s"}}}},
    "a cap elsewhere": {"/": one(**BASE), "/a": cap(rate="1/s"), "/d": one(rate="99/s")},
    "a cap below": {"/": one(rate="99/s"), "/a": cap(rate="1/s")},
    "the same algorithm and per again": {
        "/": {**one(**BASE), **cap(**CAP)}, "/a": one(algorithm="token-bucket", per=["tenant"]),
    },
    "the first to say per, below a cap": {"/": cap(**CAP), "/a": one(rate="1/s", per=["tenant"])},
    "unset and off without a cap": {
        "/": one(**BASE), "/a": {"unset": ["spike"]}, "/d": one(mode="off"),
    },
    "a window below its caps": {"/": {**one(**WINDOW), **cap(rate="10/s", burst=600)}},
    "unlimited without a cap": {"/": one(rate="unlimited")},
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
        [("RC203", "/a", "limits.spkie")],
    ),
    "a cap of nothing": ({"/": cap()}, [("RC203", "/", "caps.spike")]),
    "a month in a rate": ({"/": one(rate="5/month")}, [("RC204", "/", "limits.spike.rate")]),
    "a month in a cap": ({"/": cap(rate="5/month")}, [("RC204", "/", "caps.spike.rate")]),
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
    "everything at once, in order of place": (
        {"/": {"unset": ["x"], **one(rate="99/s"), **cap(rate="1/s")}, "/a": one(mode="off")},
        [("RC301", "/", "unset.0"), ("RC201", "/", "limits.spike.rate"),
         ("RC202", "/a", "limits.spike.mode")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("said", GOOD.values(), ids=GOOD.keys())
def test_good_trees(said: Written) -> None:
    assert findings(said) == []


@pytest.mark.parametrize(("said", "expected"), BAD.values(), ids=BAD.keys())
def test_bad_trees(said: Written, expected: list[tuple[str, str, str]]) -> None:
    assert places(said) == expected
    for found in findings(said):
        assert found.severity == ("warning" if found.code == "RC301" else "error")
        assert found.hint


def test_every_semantic_code_has_a_bad_tree() -> None:
    known = {code for code in CODES if code[:3] in ("RC2", "RC3")} - {"RC205"}  # the loader's
    assert {code for _, expected in BAD.values() for code, *_ in expected} >= known


def test_a_finding_says_which_cap_and_what_to_write() -> None:
    said = {"/": {**one(**BASE), **cap(**CAP)}, "/a": one(rate="41/s", burst=101)}
    rate, burst = findings(said)
    assert rate.message == "rate 41/s exceeds the cap 40/s of /"
    assert burst.message == "burst 101 exceeds the cap 100 of /"
    assert rate.hint == "lower it to 40/s or raise the cap"
    assert rate.notes == burst.notes
    assert rate.notes[0].startswith("cap set at /:")


def test_a_window_above_a_burst_cap_is_explained() -> None:
    (found,) = findings({"/": cap(burst=599), "/a": one(**WINDOW)})
    assert found.message == "rate 600/min admits more at once than the burst cap 599 of /"
    assert found.hint == "lower it to 599/min or raise the cap"


@given(written)
def test_a_tree_without_errors_can_be_used_everywhere(said: Written) -> None:
    """And one whose limits cannot be used has errors."""
    errors = [found for found in findings(said) if found.severity == "error"]
    resolved = [resolve(tree(said), scope) for scope in said]
    unusable = [of for of in resolved if of is not None and of.problems]
    assert not unusable or errors


@given(written)
def test_following_the_hint_of_a_cap_is_enough(said: Written) -> None:
    for found in findings(said):
        if found.code != "RC201":
            continue
        path = path_at(said, found.span.file, found.span.line).split(".")
        value = (found.hint or "").removeprefix("lower it to ").removesuffix(" or raise the cap")
        said[found.span.file][path[0]][path[1]][path[2]] = (
            int(value) if path[2] == "burst" else value
        )
    assert "RC201" not in {found.code for found in findings(said)}
