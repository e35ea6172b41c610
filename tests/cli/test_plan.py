"""``plan``, saved plans, and ``diff``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cli_support import TREE, limit_report, report_agent

from ratectl.changes.refusal_estimate import Refusals
from ratectl.policy.read import load_valid
from ratectl.publishing._publish import publish
from ratectl.publishing.provenance import Provenance
from ratectl.stores import open_store
from ratectl_cli.render.refusals import share_text

if TYPE_CHECKING:
    from cli_support import Cli

    from conftest import Golden

TIGHTER = TREE.replace("50/s, burst: 100", "40/s, burst: 60").replace("600/min", "10/s")


@pytest.fixture
def edited(tree: Path, published: str) -> str:
    """``TREE`` is live, and the files lower limits."""
    (tree / "all.yaml").write_text(TIGHTER)
    return published


def generations(cli: Cli) -> int:
    found: list[Any] = cli("history", "-o", "json").document["generations"]
    return len(found)


def by_hand(url: str, text: str, message: str) -> None:
    """Publish as another person."""
    Path("other.yaml").write_text(text)
    with open_store(url) as store:
        publish(store, load_valid(["other.yaml"]).tree, Provenance("Eve", message))


# -- what it shows


def test_a_plan_shows_changes_their_places_and_usage(cli: Cli, golden: Golden, edited: str) -> None:
    report_agent(edited, limits=[limit_report("/", "spike", peak=0.83, most=100)])
    golden("plan", cli("plan", "policies").out)
    golden("plan-markdown", cli("plan", "policies", "--format", "markdown").out)
    assert generations(cli) == 1


def clip(asked: str, value: str, scope: str) -> dict[str, str | None]:
    return {"asked": asked, "value": value, "cap": scope, "override": None}


def test_changes_of_caps_and_modes_have_names(
    cli: Cli, golden: Golden, tree: Path, published: str
) -> None:
    capped = "caps:\n  spike: {rate: 15/s, burst: 100}\nlimits:\n  probe: {rate: 5/min}"
    text = TREE.replace("limits:\n  probe: {rate: 5/min, mode: shadow}", capped)
    (tree / "all.yaml").write_text(text.replace("caps:\n  spike: {rate: 10/s, burst: 5}\n", ""))
    golden("plan-kinds", cli("plan", "policies").out)
    golden("plan-kinds-markdown", cli("plan", "policies", "--format", "markdown").out)
    changes = cli("plan", "policies", "-o", "json").document["changes"]
    assert [(each["scope"], each["kind"], each["clip"], each["lifted"]) for each in changes] == [
        ("/shop/cart", "clipped", clip("20/s", "15/s", "/shop/cart"), None),
        ("/shop/cart", "enforced", None, None),
        ("/small", "unclipped", None, clip("50/s", "10/s", "/small")),
    ]


def test_usage_is_that_of_the_scope_that_enforces_the_limit(cli: Cli, edited: str) -> None:
    """A limit of `/shop` has its own buckets at `/shop/cart`, which inherits the change."""
    report_agent(edited, limits=[limit_report("/shop/cart", "spike", peak=0.613, most=100)])
    assert (
        "recently held 62 at /shop/cart: above the new limit of 60" in cli("plan", "policies").out
    )
    (change,) = [
        each
        for each in cli("plan", "policies", "-o", "json").document["changes"]
        if (each["scope"], each["limit"]) == ("/shop", "spike")
    ]
    assert change["use"] == {"scope": "/shop/cart", "peak": 62, "over": True}
    assert change["most"] == 60
    assert change["origin"]["file"] == "policies/all.yaml"


def test_each_override_has_its_own_usage(cli: Cli, tree: Path, store_url: str) -> None:
    gold = (
        "apiVersion: ratectl/v1\nscope: /\nlimits: {x: {rate: 9/s, burst: 90}}\noverrides:\n"
        "- {name: gold, match: {tier: gold}, limits: {x: {burst: 80}}}\n"
    )
    (tree / "all.yaml").write_text(gold)
    assert cli("apply", "policies", "--yes").code == 0
    for overrides, peak in (([], 0.5), (["gold@/"], 0.9)):
        limits = [limit_report("/", "x", overrides=overrides, peak=peak, most=80)]
        report_agent(store_url, id=f"edge-{peak}", limits=limits)
    (tree / "all.yaml").write_text(gold.replace("burst: 80", "burst: 60"))
    (change,) = cli("plan", "policies", "-o", "json").document["changes"]
    assert (change["override"], change["use"]["peak"]) == ("gold@/", 72)


def test_a_new_limit_has_no_usage(cli: Cli, tree: Path, published: str) -> None:
    report_agent(published, limits=[limit_report("/", "new", peak=0.9, most=100)])
    (tree / "all.yaml").write_text(TREE.replace("limits:\n", "limits:\n  new: {rate: 1/s}\n", 1))
    run = cli("plan", "policies")
    assert "new" in run.out
    assert "lately" not in run.out


@pytest.mark.parametrize("peak", [None, 0.0])
def test_missing_or_zero_usage_is_unknown(cli: Cli, edited: str, peak: float | None) -> None:
    report_agent(edited, limits=[limit_report("/", "spike", peak=peak, most=100)])
    run = cli("plan", "policies")
    assert "bucket lately" not in run.out
    assert "no agent reports usage" not in run.out


def test_missing_usage_reports_are_mentioned(cli: Cli, edited: str) -> None:
    assert (
        "no agent reports usage: it is unknown how full buckets are and what would be refused"
        in cli("plan", "policies").out
    )


class TestRefusals:
    """Estimated refusals in a plan; the estimates are tested in ``test_refusals``."""

    ENFORCED = TREE.replace("5/min, mode: shadow", "5/min")

    @pytest.fixture
    def probe(self, tree: Path, published: str) -> str:
        """An agent reports a limit in shadow, which the files enforce."""
        (tree / "all.yaml").write_text(self.ENFORCED)
        report = limit_report(
            "/shop/cart", "probe", shadow=True, most=1, peak=1.0,
            recent_allowed=1150, recent_refused=50,
        )  # fmt: skip
        report_agent(published, limits=[report])
        return published

    def test_refusals_in_shadow_become_refusals(self, cli: Cli, probe: str) -> None:
        assert "refused recently: 0% → 4.2% of 1200 requests\n" in cli("plan", "policies").out
        (row,) = [
            line
            for line in cli("plan", "policies", "--format", "markdown").out.splitlines()
            if "probe" in line
        ]
        assert row.endswith("| 1 of 1 | 0% → 4.2% ⚠️ |")
        (change,) = cli("plan", "policies", "-o", "json").document["changes"]
        assert change["kind"] == "enforced"
        assert change["refusals"] == {
            "requests": 1200, "refused": 0.0, "least": 0.041667, "most": 0.041667
        }  # fmt: skip

    def test_changing_to_shadow_refuses_nothing(self, cli: Cli, tree: Path, probe: str) -> None:
        assert cli("apply", "policies", "--yes").code == 0
        report_agent(
            probe, limits=[limit_report("/shop/cart", "probe", most=1)], generation=2
        )  # 900 allowed, 60 refused
        (tree / "all.yaml").write_text(TREE)
        assert "refused recently: 6.2% → 0% of 960 requests\n" in cli("plan", "policies").out

    def test_bounds_are_called_an_estimate(self, cli: Cli, edited: str) -> None:
        report_agent(edited, limits=[limit_report("/", "spike", recent_refused=0, peak=0.9)])
        out = cli("plan", "policies").out
        assert "refused recently: 0% → at most 34.4% of 900 requests (estimate)\n" in out

    def test_unknown_refusals_are_a_question_mark(
        self, cli: Cli, tree: Path, published: str
    ) -> None:
        (tree / "all.yaml").write_text(TREE.replace("100, per: client", "100, per: tenant"))
        report_agent(published, limits=[limit_report("/", "spike", most=100)])
        assert "refused recently: 6.2% → ? of 960 requests\n" in cli("plan", "policies").out

    def test_a_limit_without_reports_is_a_question_mark(
        self, cli: Cli, tree: Path, published: str
    ) -> None:
        idle = {"recent_allowed": 0, "recent_refused": 0, "peak": None}
        report_agent(published, limits=[limit_report("/shop/cart", "probe", most=1, **idle)])
        (tree / "all.yaml").write_text(self.ENFORCED)
        assert "refused recently: ?\n" in cli("plan", "policies").out
        (change,) = cli("plan", "policies", "-o", "json").document["changes"]
        assert change["refusals"] is None


@pytest.mark.parametrize(
    ("refused", "least", "most", "text"),
    [
        (0, 0, 0, "0% → 0%"),
        (1, 10_000, 10_000, "<0.1% → 100%"),
        (9_999, 500, 2_000, ">99.9% → 5.0% to 20.0%"),
        (0, 500, 10_000, "0% → at least 5.0%"),
        (0, 0, 500, "0% → at most 5.0%"),
        (0, 500, 501, "0% → 5.0%"),
        (0, 0, 10_000, "0% → ?"),
    ],
)
def test_shares_in_words(refused: int, least: int, most: int, text: str) -> None:
    assert share_text(Refusals(10_000, refused, least, most)) == text


def test_equal_limits_in_other_words_are_no_change(cli: Cli, tree: Path, published: str) -> None:
    (tree / "all.yaml").write_text(TREE.replace("50/s", "3000/min"))
    run = cli("plan", "policies", "--detailed-exitcode")
    assert run.code == 2, "the bundle is another one"
    assert "no request is affected" in run.out
    assert cli("diff", "policies").code == 0


def test_policy_text_is_escaped_in_markdown(cli: Cli, tree: Path, published: str) -> None:
    (tree / "all.yaml").write_text(
        TREE + "---\napiVersion: ratectl/v1\nscope: /odd\nlimits: {x: {rate: 1/s}}\n"
        'overrides:\n- name: evil\n  match: {who: "a|b`</code>@everybody<script>"}\n'
        "  limits: {x: {rate: 2/s}}\n"
    )
    text = cli("plan", "policies", "--format", "markdown").out
    (row,) = [line for line in text.splitlines() if "evil" in line]
    assert row.count("|") == 7
    for markup in ("<script>", "@everybody", "a|b", "</code>@"):
        assert markup not in row
    assert "&lt;script&gt;" in row


# -- exit codes and outputs


def test_the_detailed_exit_code_is_two_only_if_there_is_something_to_apply(
    cli: Cli, tree: Path, published: str
) -> None:
    assert cli("plan", "policies", "--detailed-exitcode").code == 0
    assert "no changes: generation 1" in cli("plan", "policies").out
    (tree / "all.yaml").write_text(TIGHTER)
    assert cli("plan", "policies").code == 0
    assert cli("plan", "policies", "--detailed-exitcode").code == 2


def test_github_output_contains_the_changes(
    cli: Cli, edited: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("plan", "policies", "--github-output").code == 64
    Path("outputs").write_text("before=1\n")
    monkeypatch.setenv("GITHUB_OUTPUT", "outputs")
    assert cli("plan", "policies", "--github-output").code == 0
    assert Path("outputs").read_text() == "before=1\nhas_changes=true\nchanges=3\nbase=1\n"


def test_markdown_and_json_exclude_each_other(cli: Cli, edited: str) -> None:
    run = cli("plan", "policies", "--format", "markdown", "-o", "json")
    assert run.code == 64
    assert "leave out -o json" in run.document["message"]


def test_planning_an_empty_tree_is_refused_like_applying_it(cli: Cli, published: str) -> None:
    Path("empty").mkdir()
    assert cli("plan", "empty").code == 77


# -- saved plans


def test_a_saved_plan_publishes_its_content(cli: Cli, tree: Path, edited: str) -> None:
    assert cli("plan", "policies", "--out", "plan.json", "-m", "less").code == 0
    (tree / "all.yaml").unlink()
    run = cli("apply", "plan.json", "--yes")
    assert run.code == 0, run.err
    assert "plan.json, planned 2026-11-23T11:58:00.000Z of policies against" in run.out
    live = cli("history", "-o", "json").document["generations"][0]
    assert (live["generation"], live["message"]) == (2, "less")
    shown = cli("explain", "/", "--live").out
    assert "40/s" in shown
    assert "policies/all.yaml" in shown, "where it was written is kept"


def test_a_plan_can_be_applied_again(cli: Cli, edited: str) -> None:
    assert cli("plan", "policies", "--out", "plan.json").code == 0
    assert cli("apply", "plan.json", "--yes").code == 0
    again = cli("apply", "plan.json")
    assert again.code == 0
    assert "nothing to do: generation 2" in again.out


def test_the_first_plan_of_an_empty_store(cli: Cli, tree: Path, store_url: str) -> None:
    assert cli("plan", "policies", "--out", "plan.json").code == 0
    assert cli("apply", "plan.json", "--yes").code == 0
    assert cli("apply", "plan.json").code == 0
    by_hand(store_url, TIGHTER, "hotfix")
    run = cli("apply", "plan.json", "--yes")
    assert run.code == 75
    assert "the plan is stale: it is for an empty store" in run.err


def test_a_stale_plan_is_refused_and_names_the_change(cli: Cli, edited: str) -> None:
    assert cli("plan", "policies", "--out", "plan.json").code == 0
    by_hand(edited, TREE.replace("50/s", "49/s"), "hotfix")
    run = cli("apply", "plan.json", "--yes")
    assert run.code == 75
    assert (
        "the plan is stale: it was compared with generation 1; published since then: "
        "2 (apply by Eve, 2026-11-23T11:58:00.000Z: hotfix). Plan again"
    ) in run.err
    assert generations(cli) == 2


def test_a_plan_is_stale_even_if_equal_content_is_live_again(cli: Cli, edited: str) -> None:
    assert cli("plan", "policies", "--out", "plan.json").code == 0
    by_hand(edited, TREE.replace("50/s", "49/s"), "hotfix")
    assert cli("rollback", "--yes").code == 0
    assert cli("apply", "plan.json", "--yes").code == 75


def test_a_plan_of_another_environment_is_refused(cli: Cli, edited: str, tmp_path: Path) -> None:
    assert cli("plan", "policies", "--out", "plan.json").code == 0
    other = f"sqlite:///{tmp_path}/other.db"
    assert cli("apply", "plan.json", "--yes", "--store", other).code == 75
    by_hand(other, TREE, "elsewhere")
    run = cli("apply", "plan.json", "--yes", "--store", other)
    assert run.code == 75
    assert f"the plan is for {edited}, not for {other}" in run.err
    assert f"hint: add --store {edited}, or plan again for this place" in run.err
    by_hand(other, TIGHTER, "the very same, elsewhere")
    assert cli("apply", "plan.json", "--yes", "--store", other).code == 75


def test_a_plan_of_a_store_that_was_made_anew_is_refused(
    cli: Cli, edited: str, tmp_path: Path
) -> None:
    assert cli("plan", "policies", "--out", "plan.json").code == 0
    Path(edited.removeprefix("sqlite:///")).unlink()
    run = cli("apply", "plan.json", "--yes")
    assert run.code == 75
    assert f"the plan is for {edited} before its identity changed: plan again" in run.err


def test_policies_in_json_are_not_a_plan(cli: Cli, published: str) -> None:
    Path("all.json.yaml").write_text(
        '{"apiVersion": "ratectl/v1", "scope": "/", "limits": {"x": {"rate": "1/s"}}}'
    )
    run = cli("apply", "all.json.yaml", "--allow-removals", "a fresh start", "--yes")
    assert run.code == 0, run.err


def test_a_plan_that_cannot_be_written_keeps_the_old_file(
    cli: Cli, edited: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    Path("plan.json").write_text("before")
    monkeypatch.setattr("ratectl.runtime.whole_files.os.fsync", full)
    assert cli("plan", "policies", "--out", "plan.json").code == 69
    assert Path("plan.json").read_text() == "before"
    assert not list(Path().glob(".ratectl-*"))


def test_the_message_names_the_file_as_on_the_command_line(cli: Cli, edited: str) -> None:
    run = cli("plan", "policies", "--out", "nowhere/plan.json")
    assert run.code == 69
    assert run.err == "error: nowhere/plan.json: no such file or directory\n"


# -- diff


def test_diff_detects_drift(cli: Cli, golden: Golden, tree: Path, published: str) -> None:
    assert cli("diff", "policies").code == 0
    assert cli("diff", "policies").out.endswith("no differences\n")
    by_hand(published, TIGHTER, "by hand")
    run = cli("diff", "policies")
    assert run.code == 1
    golden("diff", run.out)
    assert cli("apply", "policies", "--yes").code == 0
    assert cli("diff", "policies").code == 0


def test_two_generations(cli: Cli, edited: str) -> None:
    assert cli("apply", "policies", "--yes").code == 0
    run = cli("diff", "--from", "1", "--to", "2")
    assert run.code == 1
    assert run.out.startswith("generation 2 (live) against generation 1\n")
    assert "40/s burst 60 per client" in run.out
    document = cli("diff", "--from", "2", "--to", "2", "-o", "json").document
    assert (document["differs"], document["identical"], document["changes"]) == (False, True, [])


@pytest.mark.parametrize("words", [("policies", "--to", "1"), ("--to", "7"), ("--from", "x")])
def test_diff_refuses_wrong_arguments(cli: Cli, edited: str, words: tuple[str, ...]) -> None:
    assert cli("diff", *words).code == 64


def test_diff_without_a_generation_is_an_error(cli: Cli, tree: Path, store_url: str) -> None:
    assert cli("diff", "policies").code == 65
