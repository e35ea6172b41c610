"""Absent attributes on the command line: who lacks one is told, and so is the operator."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from cli_support import report_agent

from ratectl.records import LimitReport

if TYPE_CHECKING:
    from pathlib import Path

    from cli_support import Cli

POLICIES = """\
apiVersion: ratectl/v1
scope: /shop
limits:
  spike: {rate: 60/min, burst: 3, per: tenant}
  user: {rate: 60/min, burst: 5, per: [tenant, user], absent: skip}
"""


@pytest.fixture
def shop(clean_place: Path) -> Path:
    folder = clean_place / "policies"
    folder.mkdir()
    (folder / "shop.yaml").write_text(POLICIES)
    return folder


def test_check_says_what_happens_without_an_attribute(shop: Path, cli: Cli) -> None:
    ran = cli("check", "/shop", "--policies", "policies")
    assert ran.code == 0
    assert "tenant is absent: requests without it share one bucket (limit spike)" in ran.err
    assert "tenant is absent: limit user does not apply" in ran.err
    assert "user is absent: limit user does not apply" in ran.err
    ran = cli("check", "/shop", "-a", "tenant=a", "-a", "user=u", "--policies", "policies")
    assert ran.err == ""


def test_a_replay_counts_requests_without_an_attribute(shop: Path, cli: Cli) -> None:
    (shop.parent / "map.yaml").write_text(
        "apiVersion: ratectl/v1\nkind: TrafficMap\nformat: jsonl\n"
        "time: {field: t, format: unix}\nscope: /shop\nattributes: {tenant: who, user: user}\n"
    )
    lines: list[dict[str, Any]] = [{"t": 1_700_000_000 + n, "who": "acme"} for n in range(3)]
    lines += [{"t": 1_700_000_010, "user": "u"}, {"t": 1_700_000_010, "who": "a", "user": "u"}]
    (shop.parent / "log").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    ran = cli("simulate", "policies", "--log", "log", "--map", "map.yaml")
    assert "1 of 5 requests to spike @ /shop lacked tenant: they share one bucket" in ran.out
    assert (
        "4 of 5 requests to user @ /shop lacked tenant or user: the limit does not apply to them"
        in ran.out
    )
    data = cli("simulate", "policies", "--log", "log", "--map", "map.yaml", "-o", "json").document
    counted = {limit["limit"]: limit["absent"] for limit in data["policies"]["limits"]}
    assert counted == {"spike": 1, "user": 4}


@pytest.mark.parametrize("absent", [0, 4, 10])
def test_usage_and_doctor_say_how_many_requests_lack_an_attribute(
    shop: Path, cli: Cli, store_url: str, absent: int
) -> None:
    """Doctor warns if all of them do: the name is probably wrong."""
    assert cli("apply", "policies", "--yes").code == 0
    report_agent(store_url, limits=[
        LimitReport(
            scope="/shop", limit="spike", shadow=False, most=3, allowed=7, refused=2, never=0,
            shadow_refused=1, keys=1, recent_allowed=7, recent_refused=2, peak=0.5, absent=absent,
        )
    ])  # fmt: skip
    said = f"{absent} of 10 requests to spike @ /shop lacked tenant: they share one bucket"
    assert (said in cli("usage").out) is bool(absent)
    (row,) = cli("usage", "-o", "json").document["limits"]
    assert (row["absent"], row["rule"]["absent"]) == (absent, "share")
    checks = {each["check"]: each for each in cli("doctor", "-o", "json").document["findings"]}
    found = checks["attributes"]
    assert found["verdict"] == ("warning" if absent == 10 else "ok")
    if absent == 10:
        assert found["detail"].startswith("no request to spike @ /shop has tenant: do the")


def test_explain_and_tests_of_policies_know_the_field(shop: Path, cli: Cli) -> None:
    explained = cli("explain", "/shop").out
    assert "absent" in explained
    assert "skip" in explained
    (shop / "shop_test.yaml").write_text(
        "apiVersion: ratectl/v1\nkind: PolicyTest\nname: anonymous requests\nsteps:\n"
        "  - {scope: /shop, effective: {limits: {user: {absent: skip}, spike: {absent: share}}}}\n"
        "  - {scope: /shop, attributes: {tenant: a}, times: 4, expect: {allowed: 3}}\n"
    )
    assert cli("test").code == 0
