"""`ratectl usage --html`: where the page goes, and what it shows of a store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from cli_support import CHECKOUT, GLOBAL, TEAM, limit_report

from fleet.reports import report_agent
from leaky_urls import LEAKY, SECRET
from page.reading import words
from ratectl.environments import target
from ratectl.page.environment import read_environment_usage
from ratectl.records import HEAD, history_key
from ratectl.stores import open_store

if TYPE_CHECKING:
    from cli_support import Cli

    from ratectl.stores.base import Item, Store

MINUTES = [(100, at, 0.5) for at in range(15)]


@pytest.fixture
def reported(cli: Cli, clean_place: Path, store_url: str, still: None) -> str:
    """Policies with overrides and exceptions are live, and three agents run."""
    folder = clean_place / "policies"
    folder.mkdir()
    for name, text in (("global", GLOBAL), ("team", TEAM), ("checkout", CHECKOUT)):
        (folder / f"{name}.yaml").write_text(text)
    assert cli("apply", "policies", "--yes", "-m", "Raise <b>checkout</b>").code == 0
    checkout = "/payments/checkout"
    limits = [
        limit_report(checkout, "spike", trend=MINUTES, rates=[1.0, 16.0, 12.0],
                     refused_rates=[0.0, 1.0, 0.6], near_keys=2, refused_error=4,
                     busiest=[("acme", 4_000, 8, 0.9)]),
        limit_report(checkout, "spike", overrides=["gold@/payments"], refused=0, top_refused=[]),
        limit_report("/payments", "fleet", budget=True, refused=0, top_refused=[]),
        limit_report("/gone", "old", top_refused=[("<script>", 3)]),
    ]  # fmt: skip
    report_agent(store_url, limits=limits)
    report_agent(store_url, id="edge-2", limits=limits)
    report_agent(
        store_url, id="edge-3", generation=0, state="rejected", rejected=1, error="bad bundle",
        usage_reported="2026-11-23T11:50:00.000Z",
    )  # fmt: skip
    return store_url


def test_page_is_written_and_the_usage_is_printed(cli: Cli, reported: str) -> None:
    without = cli("usage")
    run = cli("usage", "--html", "usage.html")
    assert (run.code, run.out) == (0, without.out)
    assert "wrote usage.html" in run.err
    page = Path("usage.html").read_text("utf-8")
    assert page.startswith("<!doctype html>")
    assert cli("usage", "--html", "usage.html", "-o", "json").document["kind"] == "Usage"
    assert not list(Path().glob(".ratectl-*"))


def test_page_and_table_are_of_one_report(cli: Cli, reported: str) -> None:
    with open_store(reported) as store:
        store.put("usage/ghost", b"damaged")
    run = cli("usage", "--html", "usage.html", "--since", "5m")
    assert run.err.count("usage/ghost is left out") == 1
    assert "last 5 min" in run.out
    assert run.out == cli("usage", "--since", "5m").out


def test_head_and_live_entry_are_read_once(reported: str) -> None:
    """A generation that is published meanwhile cannot mix with the one on the page."""
    keys = []

    class Noted:
        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        def get(self, key: str) -> Item | None:
            keys.append(key)
            return store.get(key)

    with open_store(reported) as store:
        usage = read_environment_usage(cast("Store", Noted()), None, print, 0)
    assert usage.entry is not None
    assert [keys.count(key) for key in (HEAD, history_key(1))] == [1, 1]


def test_dash_prints_the_page_alone(cli: Cli, reported: str) -> None:
    run = cli("usage", "--html", "-")
    assert (run.code, run.err) == (0, "")
    assert run.out.startswith("<!doctype html>")
    assert run.out.endswith("</html>\n")


def test_page_replaces_a_file_and_keeps_its_mode(cli: Cli, reported: str) -> None:
    Path("usage.html").write_text("old")
    Path("usage.html").chmod(0o640)
    assert cli("usage", "--html", "usage.html").code == 0
    assert Path("usage.html").stat().st_mode & 0o777 == 0o640
    page = Path("usage.html").read_text("utf-8")
    assert page.startswith("<!doctype html>")
    assert "old" not in page[:100]


def test_wrong_names(cli: Cli, reported: str) -> None:
    assert cli("usage", "--html", "").code == 64
    document = cli("usage", "--html", "-", "-o", "json").document
    assert "leave out -o json" in document["message"]
    run = cli("usage", "--html", "none/usage.html")
    assert (run.code, "none/usage.html" in run.err) == (69, True)


def test_head_names_the_generation_and_the_coverage(cli: Cli, reported: str) -> None:
    text = words(cli("usage", "--html", "-").out)
    assert "Generation 1 Published 2026-11-23 11:58 UTC, 2 min ago" in text
    assert "Message Raise <b>checkout</b>" in text
    assert "Agents that report usage 3 of 3 Age of the data 2 s to 10 min" in text
    assert "Rejected generation. By edge-3: see Agents." in text
    assert "Old data. A report is 10 min old." in text
    assert reported in text
    assert "edge-3 none behind rejected" in text


def test_limits_have_origins_and_what_they_beat(cli: Cli, reported: str) -> None:
    text = words(cli("usage", "--html", "-").out)
    assert (
        "rate 100/s /payments policies/team.yaml:4:17 50/s of / policies/global.yaml:5:17" in text
    )
    assert "spike override gold@/payments 300/s burst 800 per tenant" in text
    assert "override gold@/payments policies/team.yaml:" in text
    assert "fleet budget 5000/s burst 10000" in text
    assert "requests also draw from: budget fleet @ /payments" in text
    assert "/gone the policies do not have this scope any more" in text
    assert "old not in the policies any more" in text


def test_origins_on_the_page_are_those_of_explain(cli: Cli, reported: str) -> None:
    text = words(cli("usage", "--html", "-").out)
    document = cli("explain", "/payments/checkout", "-o", "json").document
    for limit in document["limits"]:
        for name, field in limit["fields"].items():
            for origin in (field["origin"], *(beaten["origin"] for beaten in field["over"])):
                if origin is not None:
                    place = f"policies/{Path(origin['file']).name}:{origin['line']}"
                    assert place in text, (limit["name"], name)


def test_usage_of_agents_that_report_no_trends_is_unknown(cli: Cli, reported: str) -> None:
    """Agents of an older version: the columns show ?, and never a false 0."""
    text = words(cli("usage", "/gone", "--html", "-").out)
    assert "71% ? ? 6.2% ?" in text


def test_rates_are_known_where_the_records_have_no_room_for_trends(cli: Cli, reported: str) -> None:
    """The least active limits of a large record lose their trend, and keep their rates."""
    rates: dict[str, Any] = {"rates": [1.0, 16.0, 12.0], "refused_rates": [0.0, 1.0, 0.6]}
    bare = limit_report("/bare", "old", near_keys=2, top_refused=[], **rates)
    report_agent(reported, limits=[bare])
    text = words(cli("usage", "/bare", "--html", "-").out)
    assert "71% ? 16 5.0% 2" in text
    assert "In the last 15 minutes: 0.6 of 12 requests per second." in text


def test_refusals_name_the_options_that_chose_the_store(cli: Cli, reported: str) -> None:
    text = words(cli("usage", "--html", "-", "--store", reported).out)
    command = f"ratectl explain /payments/checkout --attr tenant=acme --live --store {reported}"
    assert command in text
    assert cli(*command.split()[1:]).code == 0


def test_command_of_a_refusal_explains_the_live_generation(cli: Cli, reported: str) -> None:
    """The page shows the live generation; the files here may be newer, or of another project."""
    Path("policies/checkout.yaml").write_text("not a policy")
    text = words(cli("usage", "--html", "-", "--store", reported).out)
    at = text.index("ratectl explain /payments/checkout")
    command = text[at : text.index(reported, at) + len(reported)]
    run = cli(*command.split()[1:])
    assert (run.code, "generation 1" in run.out) == (0, True), command


def test_page_of_one_scope(cli: Cli, reported: str) -> None:
    page = cli("usage", "/payments/checkout", "--html", "-").out
    text = words(page)
    assert "Usage of" in text
    assert ", /payments/checkout and below" in text
    assert "fleet budget" in text, "requests draw from it"
    assert "/gone" not in text


def test_switches_and_rollouts_are_shown(cli: Cli, reported: str) -> None:
    assert cli("panic", "on", "--scope", "/payments", "--reason", "INC-42 <i>").code == 0
    Path("policies/global.yaml").write_text(GLOBAL.replace("50/s", "60/s"))
    quick = ("--canary", "50%", "--band", "none", "--timeout", "0.5")
    assert cli("apply", "policies", "--yes", *quick).code == 124
    text = words(cli("usage", "--html", "-").out)
    assert "Kill switch. limits are open at and below /payments: INC-42 <i>" in text
    assert "Rollout. Generation 2 is tried beside generation 1 in 50% of the agents" in text


def test_nothing_published(cli: Cli, store_url: str, still: None) -> None:
    run = cli("usage", "--html", "-")
    assert run.code == 0
    assert "nothing is published" in run.err
    assert "Generation none published" in words(run.out)
    assert "No agent has reported recently." in words(run.out)


def test_damaged_policies_leave_sizes_unknown(cli: Cli, reported: str) -> None:
    with open_store(reported) as store:
        for item in store.list("bundles/").items:
            store.put(item.key, b"damaged")
    run = cli("usage", "--html", "-")
    assert (run.code, "cannot be read" in run.err) == (0, True)
    assert "spike" in words(run.out)


def test_password_of_the_store_is_not_on_the_page(
    cli: Cli, reported: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No store takes such a URL: here one is opened, so that there is a page."""
    monkeypatch.setattr(target, "open_store", lambda _, timeout: open_store(reported))
    for url in LEAKY:
        if not url.startswith("memory:"):  # not for commands
            run = cli("usage", "--html", "-", "--store", url)
            assert (run.code, run.out.startswith("<!doctype html>")) == (0, True), url
            assert SECRET not in run.out + run.err, url
