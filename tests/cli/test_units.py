"""Units on the command line: costs, explanations, tests of policies, replays and usage."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from cli_support import limit_report, report_agent

from ratectl.records import LimitReport

if TYPE_CHECKING:
    from pathlib import Path

    from cli_support import Cli

POLICIES = """\
apiVersion: ratectl/v1
scope: /llm
limits:
  calls: {rate: 60/min, burst: 60, per: tenant}
  tokens: {rate: 60_000/min, burst: 10_000, per: tenant, unit: tokens}
  inflight: {algorithm: concurrency, max: 8, per: tenant}
"""
HEAD = "apiVersion: ratectl/v1\nkind: TrafficMap\nformat: jsonl\ntime: {field: t, format: unix}\n"
ACME = ("/llm", "--attr", "tenant=acme", "--policies", "policies")


@pytest.fixture
def llm(clean_place: Path) -> Path:
    """Policies of a language model: requests, tokens and concurrency in one scope."""
    folder = clean_place / "policies"
    folder.mkdir()
    (folder / "llm.yaml").write_text(POLICIES)
    return folder


def check(cli: Cli, *words: str) -> dict[str, Any]:
    document: dict[str, Any] = cli("check", *ACME, *words, "-o", "json").document
    return document


def test_a_cost_in_units_is_taken_from_the_limits_that_count_them(llm: Path, cli: Cli) -> None:
    checked = check(cli, "--cost", "tokens=4000", "-n", "3")
    assert (checked["cost"], checked["allowed"]) == ({"tokens": 4000}, 2)
    refused = checked["decisions"][2]
    assert (refused["limit"], refused["unit"], refused["remaining"]) == ("tokens", "tokens", 2000)


def test_a_number_is_a_cost_in_requests(llm: Path, cli: Cli) -> None:
    checked = check(cli, "--cost", "2", "-n", "5")
    assert (checked["cost"], checked["first_refused"]) == (2, 5)
    assert checked["decisions"][4]["limit"] == "inflight"
    assert check(cli)["cost"] == 1


def test_several_units_are_given_one_by_one(llm: Path, cli: Cli) -> None:
    assert check(cli, "--cost", "tokens=10_000", "--cost", "requests=2")["cost"] == {
        "tokens": 10_000,
        "requests": 2,
    }


def test_the_unit_of_the_decisive_limit_is_printed(llm: Path, cli: Cli) -> None:
    out = cli("check", *ACME, "--cost", "tokens=9_000").out
    assert "by tokens @ /llm, 1000 of 10000 tokens left" in out


@pytest.mark.parametrize(
    ("costs", "said"),
    [
        (("-1",), "--cost must be a whole number, 0 or more, not "),
        (("1.5",), "--cost must be a whole number, 0 or more, not "),
        (("tokens=many",), "--cost must be a whole number, 0 or more, not "),
        (("tokens=",), "--cost must be a whole number, 0 or more, not "),
        (("=3",), "is not UNIT=NUMBER"),
        (("2", "tokens=3"), "is not UNIT=NUMBER"),
        (("tokens=1", "tokens=2"), "--cost tokens is given twice"),
        (("1" * 30,), "--cost has more than 18 digits"),
    ],
)
def test_a_wrong_cost_is_a_usage_error(
    llm: Path, cli: Cli, costs: tuple[str, ...], said: str
) -> None:
    ran = cli("check", *ACME, *(word for cost in costs for word in ("--cost", cost)))
    assert (ran.code, ran.out) == (64, "")
    assert said in ran.err


def test_a_unit_that_no_limit_counts_is_named(llm: Path, cli: Cli) -> None:
    ran = cli("check", *ACME, "--cost", "tokns=4000")
    assert ran.code == 0
    assert "no limit of /llm counts tokns for this request" in ran.err
    assert "its limits count requests and tokens" in ran.err
    assert cli("check", *ACME, "--cost", "tokens=1").err == ""


def test_explain_shows_the_unit_beside_the_rate(llm: Path, cli: Cli) -> None:
    out = cli("explain", "/llm", "--attr", "tenant=acme").out
    assert "60000/min tokens" in out
    assert "60/min tokens" not in out


def test_tests_of_policies_send_costs_in_units(llm: Path, cli: Cli) -> None:
    (llm / "llm_test.yaml").write_text(
        "apiVersion: ratectl/v1\nkind: PolicyTest\nname: tokens and requests\nsteps:\n"
        "  - {scope: /llm, attributes: {tenant: acme}, cost: {tokens: 4000}, times: 3,\n"
        "     expect: {allowed: 2, limit: tokens, unit: tokens, remaining: 2000}}\n"
        "  - {scope: /llm, attributes: {tenant: acme}, times: 6, expect: {allowed: 6}}\n"
        "  - {scope: /llm, effective: {limits: {tokens: {unit: tokens}}}}\n"
        "  - {scope: /llm, effective: {limits: {calls: {unit: requests}}}}\n"
    )
    assert cli("test").code == 0
    (llm / "llm_test.yaml").write_text(
        (llm / "llm_test.yaml").read_text().replace("unit: tokens, rem", "unit: requests, rem")
    )
    failed = cli("test")
    assert failed.code == 1
    assert "of cost tokens=4000 to /llm" in failed.out


def test_a_replay_reads_a_column_for_each_unit(llm: Path, cli: Cli) -> None:
    (llm.parent / "map.yaml").write_text(
        HEAD + "scope: /llm\nattributes: {tenant: who}\ncost: {tokens: {field: spent, per: 20}}\n"
    )
    lines = [{"t": 1_700_000_000 + n, "who": "acme", "spent": 50_000} for n in range(3)]
    (llm.parent / "log").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    replayed = cli("simulate", "policies", "--log", "log", "--map", "map.yaml", "-o", "json")
    limits = {each["limit"]: each for each in replayed.document["policies"]["limits"]}
    assert (limits["tokens"]["refused"], limits["calls"]["refused"]) == (0, 0)
    assert replayed.document["policies"]["refused"] == 0
    (llm.parent / "map.yaml").write_text(
        (llm.parent / "map.yaml").read_text().replace("per: 20", "per: 10")
    )
    replayed = cli("simulate", "policies", "--log", "log", "--map", "map.yaml", "-o", "json")
    assert replayed.document["policies"]["refused"] == 1


@pytest.mark.parametrize("column", ["who: tennant", "spent: tokns"])
def test_a_column_that_no_line_fills_is_an_error(llm: Path, cli: Cli, column: str) -> None:
    """A column of a CSV file that is missing is an error too."""
    was, is_ = column.split(": ")
    text = HEAD + "scope: /llm\nattributes: {tenant: who}\ncost: {tokens: spent}\n"
    (llm.parent / "map.yaml").write_text(text.replace(was, is_))
    (llm.parent / "log").write_text('{"t": 1700000000, "who": "acme", "spent": 5}\n' * 3)
    ran = cli("simulate", "policies", "--log", "log", "--map", "map.yaml")
    assert (ran.code, ran.out) == (64, "")
    assert f"no line of the log has a value for '{is_}', which the map uses" in ran.err


def test_usage_shows_the_unit(llm: Path, cli: Cli, store_url: str) -> None:
    assert cli("apply", "policies", "--yes").code == 0
    counts: dict[str, Any] = {
        "scope": "/llm", "shadow": False, "allowed": 7, "refused": 0, "never": 0,
        "shadow_refused": 0, "keys": 1, "recent_allowed": 7, "recent_refused": 0, "peak": 0.5,
    }  # fmt: skip
    limits = [
        LimitReport(**counts, limit="tokens", most=10_000, unit="tokens"),
        LimitReport(**counts, limit="calls", most=60),
    ]
    report_agent(store_url, limits=limits)
    rows = {row["limit"]: row for row in cli("usage", "-o", "json").document["limits"]}
    assert rows["tokens"]["rule"]["unit"] == "tokens"
    assert rows["calls"]["rule"]["unit"] == "requests"
    assert "60000/min tokens burst 10000 per tenant" in cli("usage").out


@pytest.mark.parametrize("counted", [0, 10])
def test_usage_says_that_no_cost_names_a_unit(
    llm: Path, cli: Cli, store_url: str, counted: int
) -> None:
    """A misspelt unit in a service: requests are counted, and their tokens are not."""
    assert cli("apply", "policies", "--yes").code == 0
    quiet = {"refused": 0, "top_refused": []}
    limits = [
        limit_report("/llm", "calls", **quiet),
        limit_report("/llm", "tokens", unit="tokens", **{**quiet, "allowed": counted}),
    ]
    report_agent(store_url, limits=limits)
    said = "no request to tokens @ /llm has a cost in tokens: do the services name this unit" in (
        " ".join(cli("usage").out.split())
    )
    assert said is not bool(counted)
