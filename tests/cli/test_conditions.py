"""Overrides and exceptions in every command."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from cli_support import CHECKOUT, GLOBAL, TEAM, Cli, limit_report, report_agent

from ratectl.history.generations import read_entry, read_tree
from ratectl.policy.read import load_valid
from ratectl.records import Record, UsageRecord
from ratectl.stores import open_store

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Golden

BUSY = ("-a", "tier=gold", "-a", "route=POST /v1/charges", "-a", "tenant=acme")
FRIDAY = ("--at", "2026-11-28T12:00Z")


@pytest.fixture
def policies(clean_place: Path, still: None) -> Path:
    folder = clean_place / "policies"
    (folder / "payments").mkdir(parents=True)
    (folder / "global.yaml").write_text(GLOBAL)
    (folder / "payments" / "team.yaml").write_text(TEAM)
    (folder / "payments" / "checkout.yaml").write_text(CHECKOUT)
    return folder


@pytest.fixture
def live(cli: Cli, policies: Path, store_url: str) -> str:
    assert cli("apply", "policies", "--yes").code == 0
    return store_url


def value_at(folder: Path, origin: dict[str, Any]) -> str:
    """The text of a document from the place of an origin on."""
    lines = (folder.parent / origin["file"]).read_text().splitlines()
    return lines[origin["line"] - 1][origin["column"] - 1 :]


class TestExplain:
    def test_a_request_that_matches_an_override_and_an_exception(
        self, cli: Cli, golden: Golden, policies: Path
    ) -> None:
        golden("explain-request", cli("explain", "/payments/checkout", *BUSY, *FRIDAY).out)

    def test_reasons_why_conditions_do_not_apply(
        self, cli: Cli, golden: Golden, policies: Path
    ) -> None:
        request = ("-a", "tier=free", "-a", "tenant=zeta", "-a", "ip=192.0.2.1")
        golden("explain-why-not", cli("explain", "/payments/checkout", *request).out)

    def test_delta_shows_differences_from_the_scope_above(
        self, cli: Cli, golden: Golden, policies: Path
    ) -> None:
        words = ("explain", "/payments/checkout", "--delta", "-a", "route=POST /v1/charges")
        golden("explain-delta", cli(*words).out)

    def test_origins_point_into_overrides_and_exceptions(self, cli: Cli, policies: Path) -> None:
        run = cli("explain", "/payments/checkout", *BUSY, *FRIDAY, "-o", "json")
        spike, steady, card = run.document["limits"]
        rate = spike["fields"]["rate"]
        assert value_at(policies, rate["origin"]).startswith("300/s, burst: 800")
        assert (rate["origin"]["override"], rate["origin"]["exception"]) == ("gold@/payments", None)
        assert [each["value"] for each in rate["over"]] == ["100/s", "50/s"]
        rate = steady["fields"]["rate"]
        assert value_at(policies, rate["origin"]) == "6000/min}}"
        assert rate["origin"]["exception"] == "exception@/payments until 2026-11-29T23:00Z"
        assert value_at(policies, rate["over"][0]["origin"]) == "600/min}"
        assert rate["over"][0]["origin"]["override"] == "charges@/payments/checkout"
        assert card["bucket"] == {
            "scope": "/payments/checkout", "limit": "card",
            "overrides": ["charges@/payments/checkout"],
        }  # fmt: skip

    def test_the_document_lists_every_condition_completely(self, cli: Cli, policies: Path) -> None:
        words = ("explain", "/payments/checkout", "-a", "tier=gold", "-o", "json")
        document = cli(*words, "--at", "2026-12-24T00:00Z").document
        assert document["at"] == "2026-12-24T00:00Z"
        gold, charges, internal = document["overrides"]
        # The exception, in force for everybody, beats one of its values.
        assert (gold["applies"], gold["sets"]) == (True, ["limits.spike.burst"])
        assert value_at(policies, gold["origin"]) == "gold"
        assert (charges["applies"], charges["sets"]) == (False, [])
        assert charges["failed"] == [
            {"attribute": "route", "value": None, "matcher": "POST /v1/charges"}
        ]
        assert internal["match"] == {"ip": {"cidr": "10.0.0.0/8"}, "tier": {"not": "free"}}
        assert [each["attribute"] for each in internal["failed"]] == ["ip"]
        friday, christmas = document["exceptions"]
        assert (friday["state"], friday["applies"]) == ("over", False)
        assert (christmas["state"], christmas["applies"]) == ("in force", True)
        assert christmas["sets"] == ["limits.spike.rate", "budgets.fleet.rate"]

    @pytest.mark.parametrize(
        ("at", "rate"),
        [
            ("2026-11-26T22:59:59.999999Z", "1500/min"),
            ("2026-11-27T00:00+01:00", "6000/min"),
            ("2026-11-29 23:59 Europe/Berlin", "6000/min"),
            ("2026-11-30T00:00+01:00", "1500/min"),
        ],
    )
    def test_the_time_decides_which_exceptions_are_in_force(
        self, cli: Cli, policies: Path, at: str, rate: str
    ) -> None:
        words = ("explain", "/payments", "-a", "tenant=acme", "--at", at, "-o", "json")
        assert cli(*words).document["limits"][1]["rate"] == rate

    def test_now_is_the_default(
        self, cli: Cli, policies: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        words = ("explain", "/payments", "-a", "tenant=acme", "-o", "json")
        assert cli(*words).document["at"] == "2026-11-23T12:00Z"

    @pytest.mark.parametrize("at", ["tomorrow", "2026-11-28", "2026-11-28T12:00", ""])
    def test_a_bad_time_is_a_usage_error(self, cli: Cli, policies: Path, at: str) -> None:
        run = cli("explain", "/payments", "--at", at)
        assert run.code == 64
        assert run.err.startswith(f"error: --at '{at}' ")
        dated = at.startswith("2026")
        assert f"{at}{'' if 'T' in at else 'T00:00'}Z" in run.err if dated else "+01:00" in run.err

    def test_live_and_files_give_the_same_explanation(
        self, cli: Cli, policies: Path, live: str
    ) -> None:
        words = ("explain", "/payments/checkout", *BUSY, *FRIDAY, "-o", "json")
        by_files, by_store = cli(*words).document, cli(*words, "--live").document
        assert (by_files.pop("files"), by_store.pop("files")) == ("policies", None)
        assert (by_files.pop("generation"), by_store.pop("generation")) == (None, 1)
        assert by_store.pop("environment") is None
        assert by_store.pop("store") == live
        assert by_store == by_files

    def test_values_that_make_no_limit_together_are_reported(
        self, cli: Cli, policies: Path
    ) -> None:
        """Agents ignore the last value; so does the explanation."""
        (policies / "both.yaml").write_text(
            "apiVersion: ratectl/v1\nscope: /both\nlimits: {x: {algorithm: quota, rate: 9/day}}\n"
            "overrides: [{name: o, match: {h: '1'}, limits: {x: {resets: '06:00'}}}]\n"
            "---\napiVersion: ratectl/v1\nkind: Exception\nscope: /both\nreason: why\n"
            "until: 2026-11-24T00:00Z\nlimits: {x: {rate: 60/min}}\n"
        )
        words = ("explain", "/both", "-a", "h=1")
        limit = next(x for x in cli(*words, "-o", "json").document["limits"] if x["name"] == "x")
        assert (limit["rate"], limit["resets"]) == ("9/day", "06:00 UTC")
        assert limit["problem"].startswith("a quota per min begins with each min")
        assert f"these values together are no valid limit ({limit['problem']})" in cli(*words).out
        without = cli("explain", "/both", "-o", "json").document["limits"]
        assert [(x["rate"], x["problem"]) for x in without if x["name"] == "x"] == [
            ("60/min", None)
        ]

    def test_many_that_do_not_apply_are_counted(self, cli: Cli, policies: Path) -> None:
        text = "apiVersion: ratectl/v1\nscope: /many\nlimits: {x: {rate: 9/s}}\noverrides:\n"
        for number in range(30):
            match = f"{{t: t{number}}}" if number != 25 else "{t: '*'}"
            text += f"  - {{name: n{number}, match: {match}, limits: {{x: {{burst: 7}}}}}}\n"
        (policies / "many.yaml").write_text(text)
        out = cli("explain", "/many", "-a", "t=none").out
        assert out.count(": t is none, not t") == 10
        assert "  and 19 more (-v lists them)" in out
        assert cli("explain", "/many", "-a", "t=none", "-v").out.count(": t is none, not t") == 29

    def test_delta_without_a_scope_above_and_without_differences(
        self, cli: Cli, policies: Path
    ) -> None:
        whole = cli("explain", "/", "-o", "json").document
        delta = cli("explain", "/", "--delta", "-o", "json").document
        assert delta.pop("delta") == {"from": None, "removed": []}
        assert delta == whole
        out = cli("explain", "/payments/checkout/x", "--delta").out
        assert out.splitlines()[-1] == "nothing differs from /payments/checkout"

    def test_delta_shows_removed_limits_and_values_back_at_their_default(
        self, cli: Cli, policies: Path
    ) -> None:
        (policies / "more.yaml").write_text(
            "apiVersion: ratectl/v1\nscope: /more\nlimits:\n  a: {rate: 1/s, mode: shadow}\n"
            "  b: {rate: 1/s}\n  c: {rate: 1/s, per: tenant}\n"
            "---\napiVersion: ratectl/v1\nscope: /more/x\nunset: [a, b]\n"
            "limits: {a: {rate: 1/s}}\n"
        )
        run = cli("explain", "/more/x", "--delta", "-o", "json")
        assert run.document["delta"] == {"from": "/more", "removed": ["b"]}
        (limit,) = run.document["limits"]
        assert (limit["name"], list(limit["fields"])) == ("a", ["mode"])
        assert limit["fields"]["mode"]["value"] == "enforce"
        assert "b  not set here, only at /more" in cli("explain", "/more/x", "--delta").out


class TestPublishing:
    def test_changes_of_overrides_and_exceptions(
        self, cli: Cli, golden: Golden, policies: Path, live: str
    ) -> None:
        team = policies / "payments" / "team.yaml"
        text = TEAM.replace("burst: 200", "burst: 150").replace("8000/s", "9000/s")
        text = text.replace("{rate: 400/s, burst: 1600}", "{rate: 400/s, burst: 700}")
        text = text.replace("burst: 800", "burst: 700")
        team.write_text(text)
        checkout = policies / "payments" / "checkout.yaml"
        checkout.write_text(CHECKOUT.replace("POST /v1/charges", "POST /v1/*"))
        run = cli("apply", "policies", "--yes")
        golden("apply-conditions", run.out)
        golden("rollback-conditions", cli("rollback", "--yes").out)
        assert [each["summary"]["exceptions"] for each in history(cli)] == [2, 2, 2]

    def test_the_first_publication(
        self, cli: Cli, golden: Golden, policies: Path, store_url: str
    ) -> None:
        golden("apply-conditions-first", cli("apply", "policies", "--yes").out)

    def test_the_document_names_overrides_and_exceptions(
        self, cli: Cli, policies: Path, store_url: str
    ) -> None:
        document = cli("apply", "policies", "--yes", "-o", "json").document
        summary = document["summary"]
        assert (summary["budgets"], summary["overrides"], summary["exceptions"]) == (1, 3, 2)
        named = {(each["limit"], each["override"]) for each in document["changes"]}
        assert ("card", "charges@/payments/checkout") in named
        exceptions = {each["exception"] for each in document["changes"]}
        assert "exception@/payments until 2026-12-26T23:00Z" in exceptions

    def test_show_can_be_applied_again(
        self, cli: Cli, golden: Golden, clean_place: Path, live: str
    ) -> None:
        run = cli("show")
        golden("show-conditions", run.out)
        (clean_place / "again.yaml").write_text(run.out)
        assert cli("validate", "again.yaml").code == 0
        assert cli("apply", "again.yaml", "-o", "json").document["published"] is False

    def test_the_document_of_show_has_exceptions(self, cli: Cli, live: str) -> None:
        document = cli("show", "-o", "json").document
        assert [each["until"] for each in document["exceptions"]] == [
            "2026-11-29T23:00Z", "2026-12-26T23:00Z",
        ]  # fmt: skip

    def test_a_store_gives_back_exceptions_and_their_places(
        self, policies: Path, live: str
    ) -> None:
        loaded = load_valid(["policies"]).tree
        with open_store(live) as store:
            tree = read_tree(store, read_entry(store, 1))
        assert tree.exceptions == loaded.exceptions
        assert tree.sources == loaded.sources


class TestUse:
    def test_usage_by_overrides(self, cli: Cli, golden: Golden, live: str) -> None:
        gold, internal = ["gold@/payments"], ["internal@/payments/checkout"]
        for name in ("edge-1", "edge-2"):
            report_agent(
                live,
                id=name,
                limits=[
                    limit_report("/payments", "spike"),
                    limit_report("/payments", "spike", overrides=gold),
                    limit_report("/payments/checkout", "steady", overrides=internal),
                    limit_report("/payments", "spike", overrides=["gone@/payments"]),
                    limit_report("/payments", "fleet", budget=True),
                ],
            )
        golden("usage-conditions", cli("usage").out)
        rows = cli("usage", "-o", "json").document["limits"]
        by_gold = next(row for row in rows if row["overrides"] == gold)
        assert (by_gold["agents"], by_gold["allowed"]) == (2, 18000)
        assert (by_gold["rule"]["rate"], by_gold["rule"]["burst"]) == ("300/s", 800)
        gone = next(row for row in rows if row["overrides"] == ["gone@/payments"])
        assert gone["rule"] is None

    def test_usage_reports_without_overrides_are_read(self, cli: Cli, live: str) -> None:
        report_agent(live, limits=[limit_report("/payments", "spike")])
        with open_store(live) as store:
            item = store.get("usage/edge-1")
            assert item is not None
            value = Record.encode(UsageRecord.decode(item.value))
            old = value.replace(b',"overrides":[]', b"")
            assert old != value
            store.put("usage/edge-1", old)
        (row,) = cli("usage", "-o", "json").document["limits"]
        assert (row["overrides"], row["rule"]["rate"]) == ([], "100/s")

    def test_check_applies_exceptions_in_force_now(
        self, cli: Cli, policies: Path, live: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clock = SimpleNamespace(monotonic_ns=lambda: 1_000_000_000)
        monkeypatch.setattr("ratectl_cli.inputs.engines.time", clock)
        words = ("check", "/payments/checkout", "-a", "tenant=acme", "-a", "tier=gold")
        many = (*words, "-n", "801", "-o", "json")
        assert cli(*many).document["first_refused"] == 801
        (policies / "now.yaml").write_text(
            "apiVersion: ratectl/v1\nkind: Exception\nscope: /payments/checkout\n"
            "reason: now\nuntil: 2026-11-23T12:01Z\nlimits: {spike: {burst: 3}}\n"
        )
        by_files = cli(*words, "-n", "4", "--policies", "policies", "-o", "json").document
        assert by_files["first_refused"] == 4


def history(cli: Cli) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = cli("history", "-o", "json").document["generations"]
    return found
