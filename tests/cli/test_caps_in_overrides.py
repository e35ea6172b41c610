"""Caps in overrides on the command line: what explain, plan and tests of policies show."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from cli_support import Cli

POLICIES = """\
apiVersion: ratectl/v1
scope: /
limits:
  spike: {rate: 50/s, burst: 100, per: tenant}
overrides:
  - {name: free, match: {tier: free}, caps: {spike: {rate: 5/s, burst: 10}}}
---
apiVersion: ratectl/v1
scope: /search
limits:
  spike: {rate: 60/s}
"""


@pytest.fixture
def products(clean_place: Path) -> Path:
    folder = clean_place / "policies"
    folder.mkdir()
    (folder / "all.yaml").write_text(POLICIES)
    return folder


def test_explain_names_the_override_of_the_cap_and_the_value_asked_for(
    products: Path, cli: Cli
) -> None:
    words = ("explain", "/search", "--attr", "tier=free")
    out = cli(*words).out
    assert "5/s ✂ cap" in out
    assert "override free@/" in out
    assert "asked 60/s" in out
    (limit,) = cli(*words, "-o", "json").document["limits"]
    rate = limit["fields"]["rate"]
    assert rate["cap"]["origin"]["override"] == "free@/"
    assert rate["asked"]["value"] == "60/s"
    assert limit["bucket"]["overrides"] == ["free@/"]
    assert "✂" not in cli("explain", "/search", "--attr", "tier=gold").out


def test_explain_says_that_a_cap_is_above_every_value(products: Path, cli: Cli) -> None:
    (products / "all.yaml").write_text(POLICIES.replace("{rate: 5/s, burst: 10}", "{rate: 70/s}"))
    assert "no value is above its caps" in cli("explain", "/search", "--attr", "tier=free").out


def test_plan_reports_changed_clips_by_override(products: Path, cli: Cli, store_url: str) -> None:
    assert cli("apply", "policies", "--yes").code == 0
    for was, now, kind in (
        ("rate: 5/s, burst", "rate: 4/s, burst", "tightened"),
        ("rate: 4/s, burst", "rate: 8/s, burst", "loosened"),
        ("rate: 8/s, burst: 10", "rate: 90/s, burst: 200", "unclipped"),
        ("rate: 90/s, burst: 200", "rate: 3/s", "clipped"),
    ):
        (products / "all.yaml").write_text((products / "all.yaml").read_text().replace(was, now))
        changes = cli("plan", "policies", "-o", "json").document["changes"]
        assert {(each["scope"], each["override"]) for each in changes} == {
            ("/", "free@/"), ("/search", "free@/"),
        }  # fmt: skip
        assert [each["kind"] for each in changes if each["scope"] == "/search"] == [kind]
        assert cli("apply", "policies", "--yes").code == 0


def test_plan_says_whose_cap_clips(products: Path, cli: Cli, store_url: str) -> None:
    changes = cli("plan", "policies", "-o", "json").document["changes"]
    (clip,) = {each["clip"]["override"] for each in changes if each["clip"]}
    assert clip == "free@/"
    out = cli("plan", "policies").out
    assert "clipped from 50/s by the cap of the override free@/" in out


def test_tests_of_policies_compare_clipped_values(products: Path, cli: Cli) -> None:
    test = products / "all_test.yaml"
    test.write_text(
        "apiVersion: ratectl/v1\nkind: PolicyTest\nname: free tenants\nsteps:\n"
        "  - scope: /search\n    attributes: {tier: free, tenant: small}\n"
        "    effective: {limits: {spike: {rate: 5/s, burst: 10}}}\n"
        "  - {scope: /search, attributes: {tier: free, tenant: a}, times: 11,\n"
        "     expect: {allowed: 10}}\n"
    )
    assert cli("test").code == 0
    test.write_text(test.read_text().replace("rate: 5/s", "rate: 60/s"))
    assert cli("test").code == 1


def test_check_names_the_overrides_of_the_limit(products: Path, cli: Cli) -> None:
    words = ("check", "/search", "--policies", "policies", "--attr", "tenant=a")
    run = cli(*words, "--attr", "tier=free")
    assert "by spike [free@/] @ /search" in run.out
    document = cli(*words, "--attr", "tier=free", "-o", "json").document
    assert document["last"]["overrides"] == ["free@/"]
    assert cli(*words, "-o", "json").document["last"]["overrides"] == []
