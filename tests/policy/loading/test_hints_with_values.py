"""Hints that repeat what the user wrote, for values that the catalogue of mistakes lacks."""

from __future__ import annotations

from typing import Any

import pytest

from ratectl.policy.loading.rate_words import rate_hint
from ratectl.policy.read import load_checked

NOT_KNOWN = "write it in rate: <number>/<duration>, like rate: 100/60s"


@pytest.mark.parametrize(
    ("name", "fields", "hint"),
    [
        ("window", {"rate": "10/s"}, "delete window: rate: 10/s already says 10 per second"),
        ("period", {"rate": "50/30s"}, "delete period: rate: 50/30s already says 50 in 30s"),
        (
            "requests",
            {"rate": "5_000/h"},
            "delete requests: rate: 5_000/h already says 5_000 per hour",
        ),
        ("window", {"rate": 10, "window": "60s"}, "write rate: 10/60s, and delete window"),
        (
            "limit",
            {"limit": 100, "period": "1 min"},
            "write rate: 100/1min in place of limit and period",
        ),
        ("requests", {"requests": 100}, NOT_KNOWN),
        ("requests", {"requests": 100, "seconds": 60}, NOT_KNOWN),
        ("requests", {"requests": 100, "interval": "60x"}, NOT_KNOWN),
        ("window", {"rate": "fast", "window": "60s"}, NOT_KNOWN),
        ("window", {"rate": True, "window": "60s"}, NOT_KNOWN),
    ],
)
def test_parts_of_a_rate(name: str, fields: dict[str, Any], hint: str) -> None:
    assert rate_hint(name, {name: "60s", **fields}) == hint


def hints(limit: str, above: str = "") -> list[str | None]:
    text = f"apiVersion: ratectl/v1\nscope: /api\nlimits:\n{above}  spike: {{{limit}}}\n"
    return [found.hint for found in load_checked(["-"], stdin=text.encode()).diagnostics]


@pytest.mark.parametrize(
    ("limit", "hint"),
    [
        ("rate: “10/s”", 'write 10/s, or "10/s" with straight quotes'),
        ("rate: 10/s, mode: ‘off’", 'write off, or "off" with straight quotes'),
        ("rate: 10/s, mode: yes", "write enforce (or shadow, or off)"),
        ("rate: 10/s, burst: 1_000/min", "write 1_000"),
        ("rate: 10/s, burst:", "write a value after burst:, or delete burst"),
    ],
)
def test_the_value_of_the_user_is_in_the_hint(limit: str, hint: str) -> None:
    assert hints(limit) == [hint]


def test_a_number_and_its_time_have_one_hint() -> None:
    assert hints("rate: 100, window: 60s") == ["write rate: 100/60s, and delete window"] * 2


@pytest.mark.parametrize(
    ("fields", "hint"),
    [
        ("rate: 1/s, per: [a, b]", "copy the fields here: rate: 1/s, per: [a, b]"),
        ("rate: 1/s, per: [[a]]", "copy the fields of the alias here"),
    ],
)
def test_the_fields_of_a_merge_key_are_shown(fields: str, hint: str) -> None:
    assert hint in hints("<<: *base, burst: 3", above=f"  base: &base {{{fields}}}\n")


@pytest.mark.parametrize(
    ("fields", "hint"),
    [
        ("owner: &x 12\ndescription: *x", 'quote the value at the anchor, or write "12" here'),
        ("limits: {a: {rate: 1/s, burst: '010'}}", "write a whole number, like 200"),
    ],
)
def test_hint_leads_to_a_value_that_is_accepted(fields: str, hint: str) -> None:
    text = f"apiVersion: ratectl/v1\nscope: /api\n{fields}\n"
    found = load_checked(["-"], stdin=text.encode()).diagnostics
    assert found[-1].hint == hint


@pytest.mark.parametrize("matcher", ["{[a]: b}", "{1: b}", "{no: b}"])
def test_mapping_of_refused_keys_has_one_finding(matcher: str) -> None:
    override = f"{{name: o, match: {{t: {matcher}}}, limits: {{a: {{rate: 1/s}}}}}}"
    text = f"apiVersion: ratectl/v1\nscope: /api\noverrides: [{override}]\n"
    found = load_checked(["-"], stdin=text.encode()).diagnostics
    assert [(finding.span.line, finding.code) for finding in found][1:] == []


@pytest.mark.parametrize(
    ("field", "meant"), [("CIDR", "cidr"), ("Exists", "exists"), ("nott", "not")]
)
def test_misspelt_matcher(field: str, meant: str) -> None:
    override = f"{{name: o, match: {{t: {{{field}: x}}}}, limits: {{a: {{rate: 1/s}}}}}}"
    text = f"apiVersion: ratectl/v1\nscope: /api\noverrides: [{override}]\n"
    (found,) = load_checked(["-"], stdin=text.encode()).diagnostics
    assert (found.hint or "").startswith(f"did you mean {meant}? write ")
