"""Caps that cannot bind their limit: findings at the cap, and caps that do bind."""

from __future__ import annotations

from typing import Any

import pytest

from policy.trees import Written, cap, findings, one, places

WINDOW = {"algorithm": "sliding-window"}
QUOTA = {"algorithm": "quota"}
SLOTS = {"algorithm": "concurrency", "max": 5}


def override(name: str, **fields: Any) -> dict[str, Any]:
    """Return an override for the tier of its name; ``cap``: its cap, and the rest its limit."""
    capped = fields.pop("cap", None)
    written: dict[str, Any] = {"name": name, "match": {"tier": name}}
    if fields:
        written["limits"] = {"spike": fields}
    return {**written, **cap(**capped)} if capped else written


def overrides(*several: dict[str, Any]) -> dict[str, Any]:
    return {"overrides": list(several)}


NOISY: dict[str, tuple[Written, list[tuple[str, str, str]]]] = {
    "an inherited quota of another calendar unit": (
        {"/": one(rate="9/day", **QUOTA), "/a": cap(rate="1/week")},
        [("RC204", "/a", "caps.spike.rate")],
    ),
    "a month for an inherited bucket": (
        {"/": one(rate="9/s"), "/a": cap(rate="5/month")}, [("RC204", "/a", "caps.spike.rate")],
    ),
    "an inherited rate without a bound and a cap on bursts": (
        {"/": one(rate="unlimited", **WINDOW), "/a": cap(burst=5)}, [("RC204", "/a", "caps.spike")],
    ),
    "turned off above": (
        {"/": one(rate="9/s", mode="off"), "/a": cap(rate="5/s")}, [("RC305", "/a", "caps.spike")],
    ),
    "an override above turns it off": (
        {"/": {**one(rate="9/s"), **overrides(override("gold", mode="off"))},
         "/a": cap(rate="9/s")},
        [("RC305", "/a", "caps.spike")],
    ),
    "an override above gives a quota another unit": (
        {"/": {**one(rate="9/day", **QUOTA), **overrides(override("gold", rate="99/week"))},
         "/a": cap(rate="9/day")},
        [("RC204", "/a", "caps.spike.rate")],
    ),
    "an override above makes slots of it": (
        {"/": {**one(rate="9/s"), **overrides(override("gold", **SLOTS))}, "/a": cap(rate="9/s")},
        [("RC204", "/a", "caps.spike.rate")],
    ),
    "an override above, and a cap in an override": (
        {"/": {**one(rate="9/day", **QUOTA), **overrides(override("gold", rate="99/week"))},
         "/a": overrides({**override("any", cap={"rate": "9/day"}), "match": {"user": "ann"}})},
        [("RC204", "/a", "overrides.0.caps.spike.rate")],
    ),
    "a rate without a bound below a cap in an override": (
        {"/": {**one(rate="9/s"), **overrides(override("free", cap={"burst": 5}))},
         "/a": one(rate="unlimited")},
        [("RC204", "/a", "limits.spike.rate")],
    ),
}  # fmt: skip

QUIET: dict[str, Written] = {
    "the cap's document turns it on": {
        "/": one(rate="9/s", mode="off"),
        "/a": {**cap(rate="9/s"), **one(mode="enforce")},
    },
    "in shadow above, for a trial": {"/": one(rate="9/s", mode="shadow"), "/a": cap(rate="9/s")},
    "overrides that no request matches together": {
        "/": {**one(rate="9/day", **QUOTA), **overrides(override("gold", rate="99/week"))},
        "/a": overrides(override("free", cap={"rate": "9/day"})),
    },
    "the document replaces what the override above says": {
        "/": {**one(rate="9/day", **QUOTA), **overrides(override("gold", rate="99/week"))},
        "/a": {**one(rate="8/day"), **cap(rate="8/day")},
    },
}


@pytest.mark.parametrize(("documents", "expected"), NOISY.values(), ids=NOISY.keys())
def test_caps_that_bind_nothing(documents: Written, expected: list[tuple[str, str, str]]) -> None:
    assert places(documents) == expected
    assert all(found.hint and found.notes for found in findings(documents))


@pytest.mark.parametrize("documents", QUIET.values(), ids=QUIET.keys())
def test_caps_that_bind(documents: Written) -> None:
    assert [found.code for found in findings(documents) if found.code != "RC307"] == []


def test_a_cap_on_what_only_an_override_above_defines() -> None:
    documents: Written = {"/": overrides(override("gold", rate="9/s")), "/a": cap(rate="5/s")}
    assert "RC305" not in [found.code for found in findings(documents)]
