"""Values above a cap that are older than the cap: only these are warnings."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given

from policy.trees import Written, cap, findings, one, places, written

WINDOW = {"algorithm": "sliding-window"}
LOW = cap(rate="10/s", burst=20)


def severities(documents: Written, base: Written | None) -> list[str]:
    return [found.severity for found in findings(documents, base) if found.code == "RC201"]


STOOD: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "the same words": (one(rate="50/s", burst=20), one(rate="50/s", burst=20)),
    "the same pace": (one(rate="50/s", burst=20), one(rate="3000/min", burst=20)),
    "another burst, below the cap": (one(rate="50/s", burst=9), one(rate="50/s", burst=8)),
    "another mode": (one(rate="50/s", burst=9), one(rate="50/s", burst=9, mode="shadow")),
    "unlimited": (one(rate="unlimited"), one(rate="unlimited")),
    "the same window": (one(rate="1200/min", **WINDOW), one(rate="1_200/60s", **WINDOW)),
}
NEW: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "raised": (one(rate="49/s", burst=9), one(rate="50/s", burst=9)),
    "lowered, but not enough": (one(rate="51/s", burst=9), one(rate="50/s", burst=9)),
    "not declared before": ({}, one(rate="50/s", burst=9)),
    "declared for another limit": (
        {"limits": {"other": {"rate": "50/s"}}},
        one(rate="50/s", burst=9),
    ),
    "another window of the same pace": (one(rate="20/s", **WINDOW), one(rate="1200/min", **WINDOW)),
    "another algorithm": (one(rate="1200/min"), one(rate="1200/min", **WINDOW)),
    "finite before": (one(rate="99/s"), one(rate="unlimited")),
}


@pytest.mark.parametrize(("before", "now"), STOOD.values(), ids=STOOD.keys())
def test_an_unchanged_value_above_a_lowered_cap_is_a_warning(
    before: dict[str, Any], now: dict[str, Any]
) -> None:
    documents = {"/": LOW, "/a": now}
    assert set(severities(documents, {"/a": before})) == {"warning"}
    assert set(severities(documents, {"/": cap(rate="900/s"), "/a": before})) == {"warning"}
    assert set(severities(documents, {"/": LOW, "/a": before})) == {"warning"}, (
        "tolerated once already"
    )
    assert set(severities(documents, None)) == {"error"}


@pytest.mark.parametrize(("before", "now"), NEW.values(), ids=NEW.keys())
def test_a_new_or_changed_value_above_a_cap_is_an_error(
    before: dict[str, Any], now: dict[str, Any]
) -> None:
    assert "error" in severities({"/": LOW, "/a": now}, {"/a": before})


def test_each_field_is_compared_separately() -> None:
    documents = {"/": LOW, "/a": one(rate="50/s", burst=99)}
    base = {"/a": one(rate="50/s", burst=98)}
    found = {each.message.partition(" ")[0]: each.severity for each in findings(documents, base)}
    assert found == {"rate": "warning", "burst": "error"}


def test_a_value_that_moved_is_new() -> None:
    documents = {"/": LOW, "/a": one(rate="50/s")}
    assert severities(documents, {"/": one(rate="50/s"), "/a": {}, "/d": one(rate="50/s")}) == [
        "error"
    ]


def test_a_new_inherited_algorithm_makes_the_value_new() -> None:
    documents = {"/": {**one(**WINDOW), **cap(burst=20)}, "/a": one(rate="50/s")}
    assert severities(documents, {"/": one(algorithm="token-bucket"), "/a": one(rate="50/s")}) == [
        "error"
    ]
    assert severities(documents, {"/": one(**WINDOW), "/a": one(rate="50/s")}) == ["warning"]


def test_the_message_names_the_clipped_value() -> None:
    (found,) = findings({"/": LOW, "/a": one(rate="50/s", burst=9)}, {"/a": one(rate="50/s")})
    assert found.message == (
        "rate 50/s exceeds the cap 10/s of /, which came later: agents clip it to 10/s"
    )
    assert found.hint == "lower it to 10/s or raise the cap"
    assert found.notes[0].startswith("cap set at /:")


def test_changes_that_agents_cannot_clip_stay_errors() -> None:
    documents = {"/": {**one(rate="5/s"), **LOW}, "/a": {"unset": ["spike"]}, "/d": one(mode="off")}
    base = {"/": one(rate="5/s"), "/a": {"unset": ["spike"]}, "/d": one(mode="off")}
    found = findings(documents, base)
    assert [(each.code, each.severity) for each in found] == [("RC202", "error")] * 2


@given(written)
def test_lowering_caps_alone_is_never_an_error(documents: Written) -> None:
    """Compared with itself, no tree has an error about a value above a cap."""
    assert "error" not in severities(documents, copy.deepcopy(documents))


@given(written, written)
def test_a_base_changes_nothing_but_severities(documents: Written, base: Written) -> None:
    assert places(documents, base) == places(documents)
    for with_base, without in zip(findings(documents, base), findings(documents), strict=True):
        assert with_base.severity == without.severity or with_base.code == "RC201"
