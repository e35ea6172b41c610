"""Replays across the start and end of an exception, and through budgets on three levels."""

from __future__ import annotations

from typing import Any

import pytest
from logs import START, log, traffic

from ratectl.policy.language.instants import Instant
from ratectl.policy.language.model import Exemption, with_exceptions
from ratectl.simulate import replay
from support import policies

BASE = policies(**{"/web": {"limits": {"spike": {"rate": "2/h", "burst": 2, "per": "client"}}}})
ACME = "198.51.100.7"
OTHER = "198.51.100.8"


@pytest.mark.parametrize("match", [None, {"client": ACME}])
def test_the_bucket_goes_on_across_start_and_end(match: dict[str, str] | None) -> None:
    """Two, then ten per minute by the exception, then two again: no change adds tokens."""
    raised = Exemption.model_validate(
        {
            "scope": "/web",
            "reason": "a test",
            "from": str(Instant((START + 100) * 10**9)),
            "until": str(Instant((START + 220) * 10**9)),
            "match": match,
            "limits": {"spike": {"rate": "10/min", "burst": 10}},
        }
    )
    tree = with_exceptions(BASE, [(raised, None)])
    asked = [0, 0, 0, 99, 100, 106, 112, 112, 219, *[219] * 10, 220, 221, 222]
    report = replay(traffic(log(*asked)), [("with", tree), ("without", BASE)])
    new, old = report.sides
    # Refused: the third, 99, 100 (no additional tokens), the second at 112, one of eleven at 219,
    # then all after the end: tokens above the burst are removed, and none was left.
    assert new.refused == 8
    assert old.refused == len(asked) - 2
    (change,) = report.changes
    assert (change.newly_refused, change.newly_admitted) == (0, old.refused - new.refused)


def test_an_exception_with_a_match_does_not_change_other_requests() -> None:
    raised = Exemption.model_validate(
        {
            "scope": "/web",
            "reason": "a test",
            "until": str(Instant((START + 100) * 10**9)),
            "match": {"client": ACME},
            "limits": {"spike": {"rate": "0/s"}},
        }
    )
    tree = with_exceptions(BASE, [(raised, None)])
    data = log(0, 1) + log(2, 3, client=OTHER) + log(100, 101, client=OTHER)
    report = replay(traffic(data), [("new", tree)])
    (side,) = report.sides
    assert (side.refused, {each.never for each in side.limits}) == (4, {0, 2})
    rows = {each.top_refused for each in side.limits if each.top_refused}
    assert rows == {((ACME, 2),), ((OTHER, 2),)}


@pytest.mark.parametrize("overridden", [False, True])
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("match", [None, {"client": ACME}])
def test_counts_add_up_if_a_limit_is_off_for_a_while(
    overridden: bool, times: int, match: dict[str, str] | None
) -> None:
    documents: dict[str, Any] = {"limits": {"spike": {"rate": "1/s", "burst": 9, "per": "client"}}}
    if overridden:
        gold = {"name": "gold", "match": {"tier": "gold"}, "limits": {"spike": {"burst": 5}}}
        documents["overrides"] = [gold]
    off = [
        Exemption.model_validate(
            {
                "scope": "/web",
                "reason": "a test",
                "from": str(Instant((START + 10 + 20 * at) * 10**9)),
                "until": str(Instant((START + 20 + 20 * at) * 10**9)),
                "match": match,
                "limits": {"spike": {"mode": "off"}},
            }
        )
        for at in range(times)
    ]
    tree = with_exceptions(policies(**{"/web": documents}), [(each, None) for each in off])
    asked = [0, 1, 2, 11, 12, 21, 22, 31, 41, 42]
    report = replay(traffic(log(*asked)), [("new", tree)])
    admitted = sum(each.admitted for each in report.sides[0].limits)
    assert admitted == len(asked) - (2 if times == 1 else 3)


def test_a_refusal_at_the_top_consumes_nothing_below() -> None:
    """Buckets below lose only the tokens of admitted requests."""
    budget = {"per": "client"}
    tree = policies(
        **{
            "/": {"budgets": {"fleet": {"rate": "1/min", "burst": 2, **budget}}},
            "/web": {"budgets": {"fleet": {"rate": "1/week", "burst": 4, **budget}}},
            "/web/files": {"budgets": {"fleet": {"rate": "1/week", "burst": 3, **budget}}},
        }
    )
    # Two pass; ten are refused at /; a minute later one passes everywhere and is the third below.
    # Another minute: / lets through, /web has one left, /web/files none.
    asked = [*[0] * 12, 60, 120]
    made = (
        "apiVersion: ratectl/v1\nkind: TrafficMap\nformat: combined\nscope: /web/files\n"
        "attributes: {client: client}\n"
    )
    report = replay(traffic(log(*asked), made), [("new", tree)])
    (side,) = report.sides
    found = {each.scope: (each.admitted, each.refused) for each in side.limits}
    assert found == {"/": (3, 10), "/web": (3, 0), "/web/files": (3, 1)}
    beside = replay(
        traffic(log(*asked), made.replace("/web/files", "/web")), [("new", tree)]
    ).sides[0]
    found = {each.scope: (each.admitted, each.refused) for each in beside.limits}
    assert found == {"/": (4, 10), "/web": (4, 0)}
