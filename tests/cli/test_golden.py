"""Whole text of every command, compared with files in golden/."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from cli_support import Cli, limit_report, report_agent

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Golden

BAD = """\
apiVersion: ratectl/v1
scope: /shop
limits:
  spike: {rate: 800/s, burst: 20, perr: client}
  steady: {algorithm: sliding-window, rate: no}
---
apiVersion: ratectl/v1
scope: /shop
unset: [nightly]
"""


@pytest.fixture(autouse=True)
def frozen_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """`check` decides at one instant."""
    clock = SimpleNamespace(monotonic_ns=lambda: 1_000_000_000)
    monkeypatch.setattr("ratectl_cli.inputs.engines.time", clock)


def test_help(cli: Cli, golden: Golden) -> None:
    golden("help", cli("--help").out)


def test_validate_help(cli: Cli, golden: Golden) -> None:
    golden("validate-help", cli("validate", "--help").out)


def test_validate(cli: Cli, golden: Golden, tree: Path) -> None:
    golden("validate-ok", cli("validate", "policies").out)
    (tree / "bad.yaml").write_text(BAD)
    golden("validate-errors", cli("validate", "policies").out)


def test_validate_caps_and_warnings(cli: Cli, golden: Golden, tree: Path) -> None:
    (tree / "team.yaml").write_text(
        "apiVersion: ratectl/v1\nscope: /team\nunset: [nightly]\n"
        "limits:\n  spike: {rate: 800/s, burst: 20}\n"
    )
    golden("validate-cap", cli("validate", "policies").out)


def test_explain(cli: Cli, golden: Golden, tree: Path) -> None:
    run = cli("explain", "/shop/cart", "--attr", "client=acme", "--attr", "route=POST /v1/buy")
    golden("explain", run.out)


def test_explain_clipped_and_undeclared(cli: Cli, golden: Golden, tree: Path) -> None:
    golden("explain-clipped", cli("explain", "/small/below").out)


def test_explain_no_policy(cli: Cli, golden: Golden, clean_place: Path) -> None:
    (clean_place / "one.yaml").write_text("{apiVersion: ratectl/v1, scope: /only}\n")
    run = cli("explain", "/other", "--policies", "one.yaml")
    assert run.code == 1
    golden("explain-no-policy", run.out)


def test_first_apply(cli: Cli, golden: Golden, tree: Path, store_url: str, still: None) -> None:
    golden("apply-first", cli("apply", "policies", "--yes").out)


def test_apply_a_change(cli: Cli, golden: Golden, tree: Path, published: str) -> None:
    text = (tree / "all.yaml").read_text()
    text = text.replace("rate: 50/s, burst: 100", "rate: 40/s, burst: 100")
    text = text.replace("on_error: deny\n", "").replace(", mode: shadow", "")
    text = text.replace("  steady:", "  pages:")
    (tree / "all.yaml").write_text(text)
    run = cli("apply", "policies", "--yes", "-m", "CHG-1")
    golden("apply-change", run.out)
    golden("rollback", cli("rollback", "--yes").out)
    golden("history", cli("history").out)
    golden("apply-unfolded", cli("apply", "policies", "--yes", "-v").out)


def test_apply_unchanged(cli: Cli, golden: Golden, tree: Path, published: str) -> None:
    golden("apply-unchanged", cli("apply", "policies").out)


def test_show(cli: Cli, golden: Golden, published: str) -> None:
    golden("show", cli("show").out)


def test_history_on_a_terminal(cli: Cli, golden: Golden, published: str) -> None:
    golden("history-terminal", cli("history", tty=True).out)


def test_agents_and_usage(cli: Cli, golden: Golden, published: str) -> None:
    report_agent(
        published,
        limits=[
            limit_report("/shop", "spike"),
            limit_report("/shop/cart", "probe", shadow=True, shadow_refused=40, refused=0),
            limit_report("/gone", "old", peak=None, refused=0, top_refused=[]),
        ],
    )
    report_agent(published, id="edge-2", limits=[limit_report("/shop", "spike", peak=0.95)])
    report_agent(
        published,
        id="edge-3",
        generation=0,
        state="rejected",
        rejected=1,
        error="generation 1 rejected:\nbundle is corrupt",
        swap_ms=None,
        usage_reported="2026-11-23T11:59:40.000Z",
    )
    golden("agents", cli("agents").out)
    golden("usage", cli("usage").out)
    golden("usage-scope", cli("usage", "/shop/cart").out)
    golden("usage-undeclared", cli("usage", "/shop/cart/item").out)
    golden("usage-terminal", cli("usage", "--color", "always", tty=True).out)
    golden("doctor", cli("doctor").out)


def test_usage_of_a_scope_shows_the_budgets_above_it(
    cli: Cli, golden: Golden, tree: Path, store_url: str, still: None
) -> None:
    text = (tree / "all.yaml").read_text()
    budget = "budgets:\n  fleet: {rate: 500/s, burst: 1000}\n---"
    (tree / "all.yaml").write_text(text.replace("---", budget, 1))
    assert cli("apply", "policies", "--yes").code == 0
    report_agent(
        store_url,
        limits=[
            limit_report("/", "fleet", budget=True, peak=0.42),
            limit_report("/", "spike"),
            limit_report("/small", "spike"),
            limit_report("/shop/cart", "probe"),
        ],
    )
    golden("usage-budget-above", cli("usage", "/shop/cart").out)


def test_check(cli: Cli, golden: Golden, tree: Path) -> None:
    by_files = ("--policies", "policies", "--attr", "client=acme")
    golden("check-one", cli("check", "/shop", *by_files).out)
    golden("check-few", cli("check", "/small", "-n", "7", *by_files).out)
    golden("check-many", cli("check", "/shop", "-n", "200", *by_files).out)
    golden("check-never", cli("check", "/small", "--cost", "6", *by_files).out)
    golden("check-shadow", cli("check", "/shop/cart", "-n", "2", *by_files).out)


SLOTS = """\
apiVersion: ratectl/v1
scope: /
caps:
  uploads: {burst: 3}
---
apiVersion: ratectl/v1
scope: /files
limits:
  uploads: {algorithm: concurrency, max: 3, per: client}
budgets:
  all: {algorithm: concurrency, max: 50, hold: 10min}
"""


def test_slots(cli: Cli, golden: Golden, clean_place: Path, store_url: str, still: None) -> None:
    """Concurrency limits, in every command that shows a limit."""
    file = clean_place / "slots.yaml"
    file.write_text(SLOTS)
    client = ("--attr", "client=acme")
    golden("slots-explain", cli("explain", "/files", "--policies", file.name, *client).out)
    golden("slots-check", cli("check", "/files", "-n", "4", "--policies", file.name, *client).out)
    assert cli("apply", file.name, "--yes").code == 0
    file.write_text(SLOTS.replace("max: 50, hold: 10min", "max: 40, hold: 1h"))
    golden("slots-apply", cli("apply", file.name, "--yes").out)
    report_agent(store_url, limits=[limit_report("/files", "uploads")])
    golden("slots-usage", cli("usage").out)
    report_agent(store_url, limits=[limit_report("/files", "uploads", waited=70)])
    golden("usage-waited", cli("usage").out)


def test_init(cli: Cli, golden: Golden) -> None:
    golden("init", cli("init").out)
    golden("init-again", cli("init").err)


def test_errors_on_standard_error(cli: Cli, golden: Golden, store_url: str) -> None:
    lines = [
        cli(*words).err
        for words in (
            ("valdate",),
            ("validate",),
            ("history", "--limit", "0"),
            ("history", "-o", "jsn"),
            ("explain", "shop"),
            ("check", "/shop", "--attr", "tenant"),
            ("show",),
            ("rollback", "--yes"),
            ("history", "--store", "redis://x"),
            ("history", "--store", "etcd://user:secret@host/x"),
            ("agent", "run", "--timeout", "3"),
        )
    ]
    golden("errors", "".join(lines))
