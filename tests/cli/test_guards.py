"""Guards of ``apply``: refusals, reasons that pass them, and records in the history."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cli_support import TREE, limit_report, report_agent

from ratectl.policy.read import load_valid
from ratectl.publishing._publish import publish
from ratectl.publishing.provenance import Provenance
from ratectl.stores import open_store

if TYPE_CHECKING:
    from cli_support import Cli

FEW = TREE.partition("---\napiVersion: ratectl/v1\nscope: /small\ncaps")[0]
PROTECTED = TREE.replace("owner: team-shop", "protected: true")


def publish_text(url: str, text: str) -> None:
    Path("live.yaml").write_text(text)
    with open_store(url) as store:
        assert publish(store, load_valid(["live.yaml"]).tree, Provenance("Ada"))


def refused(cli: Cli, flag: str, words: str) -> None:
    """Assert that apply is refused with this message.

    ``--dry-run`` is refused too; with a reason, apply succeeds.
    """
    live = cli("history", "-o", "json").document["live"]
    for how in ("--yes", "--dry-run"):
        run = cli("apply", "policies", how)
        assert run.code == 77, run.out
        assert f"a guard refuses this: {words}" in run.err
        assert f"If this is intended, add {flag} REASON" in run.err
    assert cli("apply", "policies", "--yes", flag, "  ").code == 77, "no reason is none"
    assert f"guarded: {words}" in cli("plan", "policies").out
    (objection,) = cli("plan", "policies", "-o", "json").document["objections"]
    assert objection["flag"] == flag
    assert cli("history", "-o", "json").document["live"] == live
    run = cli("apply", "policies", "--yes", flag, "as agreed")
    assert run.code == 0, run.err
    assert f"passed: {words}" in run.out
    (entry, *_) = cli("history", "-o", "json").document["generations"]
    assert entry["passed"] == {flag.removeprefix("--allow-"): "as agreed"}
    assert f"passed {flag.removeprefix('--allow-')}: as agreed" in cli("history").out


@pytest.mark.usefixtures("published")
class TestRemovals:
    def test_more_than_a_fifth_of_all_scopes(self, cli: Cli, tree: Path) -> None:
        (tree / "all.yaml").write_text(FEW)
        refused(
            cli, "--allow-removals",
            "it removes 2 of 5 scopes, more than one in 5: /small, /small/tiny",
        )  # fmt: skip

    def test_a_fifth_may_be_removed(self, cli: Cli, tree: Path) -> None:
        (tree / "all.yaml").write_text(TREE.rpartition("---\n")[0])
        assert cli("apply", "policies", "--yes").code == 0

    def test_every_policy(self, cli: Cli, tree: Path) -> None:
        (tree / "all.yaml").unlink()
        run = cli("apply", "policies", "--yes")
        assert run.code == 77
        assert "nothing to apply" in run.err
        assert cli("apply", "policies", "--yes", "--allow-empty", " ").code == 77
        assert cli("apply", "policies", "--yes", "--allow-empty", "closing down").code == 0
        document = cli("history", "-o", "json").document
        assert document["generations"][0]["passed"] == {"empty": "closing down"}
        assert document["generations"][0]["summary"]["scopes"] == 0
        assert cli("check", "/shop", "--live").out.startswith("allowed")
        assert cli("rollback", "--yes").code == 0


class TestGrowth:
    def many(self, scopes: int) -> str:
        return "---\n".join(
            f"apiVersion: ratectl/v1\nscope: /s{at}\nlimits: {{x: {{rate: {1 + at}/s}}}}\n"
            for at in range(scopes)
        )

    def test_a_large_bundle_that_more_than_doubles(
        self, cli: Cli, tree: Path, store_url: str
    ) -> None:
        publish_text(store_url, self.many(600))
        (tree / "all.yaml").write_text(self.many(1_500))
        refused(cli, "--allow-growth", "the bundle grows from ")

    def test_a_small_bundle_may_double(self, cli: Cli, tree: Path, published: str) -> None:
        (tree / "more.yaml").write_text(self.many(50))
        assert cli("apply", "policies", "--yes").code == 0


class TestUse:
    LESS = TREE.replace("50/s, burst: 100", "50/s, burst: 60")

    def test_a_limit_below_recent_peak_usage(self, cli: Cli, tree: Path, published: str) -> None:
        report_agent(published, limits=[limit_report("/", "spike", peak=0.9, most=100)])
        (tree / "all.yaml").write_text(self.LESS)
        refused(
            cli, "--allow-below-use",
            "it cuts limits below recent peak usage: spike of / to 60 (recently 90 at /)",
        )  # fmt: skip

    @pytest.mark.parametrize("peak", [0.6, 0.0, None])
    def test_limits_above_peak_usage_or_with_unknown_usage_pass(
        self, cli: Cli, tree: Path, published: str, peak: float | None
    ) -> None:
        report_agent(published, limits=[limit_report("/", "spike", peak=peak, most=100)])
        (tree / "all.yaml").write_text(self.LESS)
        assert cli("apply", "policies", "--yes").code == 0

    def test_a_limit_in_shadow_passes(self, cli: Cli, tree: Path, published: str) -> None:
        report_agent(published, limits=[limit_report("/", "spike", peak=0.9, most=100)])
        shadow = self.LESS.replace("burst: 60, per: client", "burst: 60, per: client, mode: shadow")
        (tree / "all.yaml").write_text(re.sub(r"caps:\n +spike: .*\n", "", shadow))
        assert cli("apply", "policies", "--yes").code == 0

    def test_a_limit_that_becomes_enforced(self, cli: Cli, tree: Path, published: str) -> None:
        probe = limit_report("/shop/cart", "probe", peak=1.0, most=4, shadow=True)
        report_agent(published, limits=[probe])
        (tree / "all.yaml").write_text(TREE.replace("5/min, mode: shadow", "5/min, burst: 2"))
        run = cli("apply", "policies", "--yes")
        assert run.code == 77
        assert "probe of /shop/cart to 2 (recently 4 at /shop/cart)" in run.err


class TestProtected:
    @pytest.mark.parametrize(
        "change",
        [
            PROTECTED.replace("600/min", "601/min"),
            PROTECTED.replace("burst: 100, per", "burst: 90, per"),
            PROTECTED.replace("protected: true", "owner: me"),
        ],
        ids=["a limit of its own", "one that it inherits", "that it is protected"],
    )
    def test_changes_of_a_protected_scope_are_refused(
        self, cli: Cli, tree: Path, store_url: str, change: str
    ) -> None:
        publish_text(store_url, PROTECTED)
        (tree / "all.yaml").write_text(change)
        refused(cli, "--allow-protected", "it changes protected scopes: /shop")

    def test_unprotected_scopes_may_change(self, cli: Cli, tree: Path, store_url: str) -> None:
        publish_text(store_url, PROTECTED)
        (tree / "all.yaml").write_text(PROTECTED.replace("1/s, burst: 1", "2/s, burst: 2"))
        assert cli("apply", "policies", "--yes").code == 0

    def test_a_new_protected_scope(self, cli: Cli, tree: Path, published: str) -> None:
        (tree / "more.yaml").write_text(
            "apiVersion: ratectl/v1\nscope: /new\nprotected: true\nlimits: {x: {rate: 1/s}}\n"
        )
        assert cli("apply", "policies", "--yes").code == 0


def test_each_guard_needs_a_reason(cli: Cli, tree: Path, store_url: str) -> None:
    publish_text(store_url, PROTECTED)
    (tree / "all.yaml").write_text(FEW.replace("600/min", "1/min"))
    run = cli("apply", "policies", "--yes", "--allow-removals", "merged")
    assert run.code == 77
    assert "add --allow-protected REASON" in run.err
    assert "it removes" not in run.err
    both = ("--allow-removals", "merged", "--allow-protected", "agreed")
    assert cli("apply", "policies", "--yes", *both).code == 0


def test_unnecessary_reasons_are_not_kept(cli: Cli, tree: Path, published: str) -> None:
    (tree / "all.yaml").write_text(TREE.replace("50/s", "51/s"))
    assert cli("apply", "policies", "--yes", "--allow-removals", "in case").code == 0
    assert cli("history", "-o", "json").document["generations"][0]["passed"] == {}


def test_a_saved_plan_is_guarded_when_it_is_applied(cli: Cli, tree: Path, published: str) -> None:
    (tree / "all.yaml").write_text(FEW)
    assert cli("plan", "policies", "--out", "plan.json").code == 0
    assert cli("apply", "plan.json", "--yes").code == 77
    assert cli("apply", "plan.json", "--yes", "--allow-removals", "merged").code == 0


def test_the_first_generation_is_not_guarded(cli: Cli, tree: Path, store_url: str) -> None:
    (tree / "all.yaml").write_text(PROTECTED)
    assert cli("apply", "policies", "--yes").code == 0


def test_a_rollback_is_not_guarded(cli: Cli, tree: Path, published: str) -> None:
    (tree / "all.yaml").write_text(FEW)
    assert cli("apply", "policies", "--yes", "--allow-removals", "merged").code == 0
    (tree / "all.yaml").write_text(TREE)
    assert cli("apply", "policies", "--yes").code == 0
    assert cli("rollback", "--yes").code == 0


def test_a_dry_run_publishes_nothing(cli: Cli, tree: Path, published: str) -> None:
    (tree / "all.yaml").write_text(TREE.replace("50/s", "51/s"))
    run = cli("apply", "policies", "--dry-run")
    assert run.code == 0
    assert "\nnot published (--dry-run): it would be generation 2\n" in run.out
    document = cli("apply", "policies", "--dry-run", "-o", "json").document
    assert (document["published"], document["generation"]) == (False, 1)
    assert cli("history", "-o", "json").document["live"] == 1
