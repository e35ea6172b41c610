"""``ratectl explain --key``: the buckets of a request's keys in agents."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from cli_support import EXAMPLES, Cli, report_agent
from live_support import detailed

REQUEST = ("explain", "/payments/checkout", "--live", "--key", "--attr", "client=acme")


@pytest.fixture
def fleet(cli: Cli, clean_place: Path, store_url: str, still: None) -> None:
    shutil.copytree(EXAMPLES, clean_place / "policies")
    assert cli("apply", "policies", "--yes", "-q").code == 0
    for name, used in (("edge-1", 0.93), ("edge-2", 0.5)):
        keys = [("acme", 7_000, 0, used), ("\x1b[31m", 5, 0, None)]
        report_agent(
            store_url, id=name, limits=[detailed("/payments/checkout", "spike", busiest=keys)]
        )


def test_keys_in_agents(cli: Cli, fleet: None) -> None:
    run = cli(*REQUEST)
    assert run.code == 0
    shown = run.out[run.out.index("its keys in agents") :].splitlines()
    assert shown[0].startswith("its keys in agents · 2/2 agents · data ")
    rows = [line.split() for line in shown[1:]]
    assert rows[0] == ["LIMIT", "KEY", "USED", "REQUESTS", "AGENT"]
    assert ["spike", "@", "/payments/checkout", "acme", "93%", "7000", "edge-1"] in rows
    assert ["spike", "@", "/payments/checkout", "acme", "50%", "7000", "edge-2"] in rows
    assert ["hourly", "@", "/payments/checkout", "acme", "?", "?", "?"] in rows


def test_page_shows_the_real_output(cli: Cli, fleet: None) -> None:
    page = (Path(__file__).parents[2] / "docs" / "explain.md").read_text("utf-8")
    printed = cli(*REQUEST).out
    assert printed[printed.index("its keys in agents") :].strip() in page


def test_keys_as_data(cli: Cli, fleet: None) -> None:
    keys = cli(*REQUEST, "-o", "json").document["keys"]
    (spike,) = (limit for limit in keys["limits"] if limit["limit"] == "spike")
    assert (keys["agents"], keys["reporting"], spike["reporting"]) == (2, 2, 2)
    assert spike["agents"][0] == {"agent": "edge-1", "used": 0.93, "requests": 7000, "error": 0}


def test_key_that_no_agent_lists(cli: Cli, fleet: None) -> None:
    run = cli(*REQUEST[:-1], "client=unknown\x1b[31m")
    assert "not among the busiest keys" in run.out
    assert "\x1b" not in run.out


def test_key_without_a_request_or_the_store(cli: Cli, fleet: None) -> None:
    for words in (REQUEST[:4], ("explain", "/payments/checkout", "--key", "--attr", "client=a")):
        run = cli(*words)
        assert (run.code, "add --live and --attr" in run.err) == (64, True)
