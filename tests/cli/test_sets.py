"""``--set``: several repositories own parts of one tree."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sets_support import (
    EDGE,
    LEAVES,
    ONLY_A_TEST,
    PAYMENTS,
    REMOVALS,
    SALE,
    apply_set,
    live,
    owners,
    write,
)

from ratectl.policy.loading.loader import load
from ratectl.publishing._publish import publish
from ratectl.publishing.ownership import Owners
from ratectl.publishing.provenance import Provenance
from ratectl.publishing.source_files import Beside
from ratectl.stores import open_store

if TYPE_CHECKING:
    from cli_support import Cli

    from conftest import Golden

# -- one tree of several


def test_each_set_publishes_its_part_of_one_tree(cli: Cli, sets: str) -> None:
    document = cli("show", "-o", "json").document
    assert [each["scope"] for each in document["policies"]] == [
        "/", "/payments", "/payments/old", "/web",
    ]  # fmt: skip
    assert document["owners"]["scopes"] == {
        "/": "edge", "/web": "edge", "/payments": "payments", "/payments/old": "payments",
    }  # fmt: skip
    assert apply_set(cli, "edge").out.startswith("nothing to do")
    newest, oldest = cli("history", "-o", "json").document["generations"]
    assert (newest["set"], oldest["set"]) == ("payments", "edge")
    assert "apply of payments" in cli("history").out


def test_what_is_printed(cli: Cli, golden: Golden, sets: str) -> None:
    write("payments", LEAVES)
    runs = [
        cli("plan", "payments", "--set", "payments"),
        cli("plan", "payments", "--set", "payments", "--prune"),
        apply_set(cli, "payments"),
        apply_set(cli, "payments", "--prune", *REMOVALS),
        cli("show"),
    ]
    write("edge", f"{EDGE}---\n{LEAVES}")
    runs += [
        apply_set(cli, "edge"),
        apply_set(cli, "edge", "--take-ownership", "/payments"),
        cli("plan", "edge"),
    ]
    golden("sets", "".join(f"{run.out}{run.err}\n" for run in runs))


@pytest.mark.parametrize("prune", [(), ("--prune",)])
def test_markdown_names_policies_that_are_left_or_pruned(
    cli: Cli, sets: str, prune: tuple[str, ...]
) -> None:
    write("payments", LEAVES)
    words = ("plan", "payments", "--set", "payments", *prune, "--format", "markdown")
    said = "Pruned" if prune else "Left"
    assert f"**{said}**: PATH does not contain /payments/old of set payments" in cli(*words).out


def test_caps_and_limits_of_other_sets_apply(cli: Cli, sets: str) -> None:
    write("payments", PAYMENTS.replace("burst: 300", "rate: 500/s"))
    run = apply_set(cli, "payments")
    assert run.code == 65
    assert "payments/all.yaml:4:24" in run.err
    assert "cap set at edge:edge/all.yaml:7:17" in run.err
    assert live(cli) == 2
    run = cli("explain", "/payments", "--live")
    assert "edge:edge/all.yaml:5:17" in run.out, "where others said it"
    assert "payments:payments/all.yaml:4:25" in run.out


def test_guards_check_the_whole_tree(cli: Cli, sets: str) -> None:
    write("payments", LEAVES)
    run = apply_set(cli, "payments", "--prune")
    assert run.code == 77
    assert "it removes 1 of 4 scopes" in run.err


# -- what others do wrong


def test_existing_errors_of_other_sets_prevent_no_publication(
    cli: Cli, store_url: str, still: None
) -> None:
    """For example if a rule is newer than the live policies."""
    wrong = EDGE.replace("limits: {spike: {rate: 60/s}}", "limits: {half: {per: client}}")
    tree = load(["-"], stdin=wrong.encode()).tree
    with open_store(store_url) as store:
        mine = Beside(owners=Owners({"/": "edge", "/web": "edge"}, {}))
        assert publish(store, tree, Provenance("Eve"), beside=mine)
    write("payments", PAYMENTS)
    run = apply_set(cli, "payments")
    assert (run.code, run.err) == (0, "")
    write("edge", wrong)
    assert apply_set(cli, "edge").code == 65


def test_errors_that_a_set_causes_in_others_are_refused(cli: Cli, sets: str) -> None:
    write("ops", SALE)
    assert apply_set(cli, "ops").code == 0
    write("payments", PAYMENTS.partition("---\n")[2])
    run = apply_set(cli, "payments", "--prune", *REMOVALS)
    assert run.code == 65
    assert "ops:ops/all.yaml:3:8" in run.err
    assert "error[RC207]" in run.err
    assert live(cli) == 3


def test_only_new_warnings_about_others_are_shown(cli: Cli, store_url: str, still: None) -> None:
    write("edge", EDGE.replace("scope: /web\n", "scope: /web\nunset: [nightly]\n"))
    write("payments", PAYMENTS)
    assert "warning[RC301]" in apply_set(cli, "edge").err
    assert apply_set(cli, "payments").err == ""
    write("edge", EDGE.replace("400/s, burst: 1000", "400/s, burst: 200"))
    run = apply_set(cli, "edge")
    assert run.code == 0
    assert "--> payments:payments/all.yaml:4:25" in run.err
    assert apply_set(cli, "payments").err.count("warning[RC201]") == 1, "its own"


def test_findings_of_an_unowned_file_with_the_same_name_are_not_shown_as_ours(
    cli: Cli, store_url: str, still: None
) -> None:
    """Its findings are not ours, and its lines are not shown."""
    write("same", EDGE.replace("scope: /web\n", "scope: /web\nunset: [nightly]\n"))
    assert cli("apply", "same", "--yes").code == 0
    write("same", PAYMENTS)
    run = cli("apply", "same", "--set", "payments", "--yes")
    assert (run.code, run.err) == (0, "")


# -- conflicts


def test_every_conflict_is_named_with_its_remedies(cli: Cli, sets: str) -> None:
    write("payments", f"{PAYMENTS}---\n{EDGE}")
    for words in (("apply", "--yes"), ("apply", "--dry-run"), ("plan",), ("diff",)):
        run = cli(words[0], "payments", "--set", "payments", *words[1:])
        assert run.code == 77
        assert run.err.count("error[RC501]") == 2
        assert "payments/all.yaml:12:8" in run.err
        assert "scope: /web" in run.err
        assert "remove it from set edge and apply that set with --prune; or take it" in run.err
        assert run.err.endswith(
            "error: 2 documents in PATH do not belong to this set in generation 2\n"
        )
    assert live(cli) == 2
    document = cli("plan", "payments", "--set", "payments", "-o", "json").document
    assert [each["code"] for each in document["diagnostics"]] == ["RC501", "RC501"]


def test_each_remedy_works(cli: Cli, sets: str) -> None:
    web = EDGE.partition("---\n")[2]
    write("payments", f"{PAYMENTS}---\n{web}")
    assert apply_set(cli, "payments").code == 77
    assert apply_set(cli, "payments", "--take-ownership", "/web").code == 0
    assert owners(cli)["/web"] == "payments"
    assert apply_set(cli, "edge").code == 77, "it still says so"
    write("edge", EDGE.partition("---\n")[0])
    assert apply_set(cli, "edge").code == 0
    write("payments", PAYMENTS)
    assert apply_set(cli, "payments", "--prune", *REMOVALS).code == 0
    write("edge", EDGE)
    assert apply_set(cli, "edge").code == 0
    assert owners(cli)["/web"] == "edge"


def test_the_same_exception_in_two_sets_is_a_conflict(cli: Cli, sets: str) -> None:
    write("ops", SALE)
    assert apply_set(cli, "ops").code == 0
    write("payments", f"{PAYMENTS}---\n{SALE}")
    run = apply_set(cli, "payments")
    assert run.code == 77
    assert "this exception at /payments belongs to set ops" in run.err
    assert apply_set(cli, "payments", "--take-ownership", "/payments").code == 0
    assert "set payments owns /payments, /payments/old, 1 exception" in cli("show").out


def test_an_exception_can_be_changed_without_prune(cli: Cli, sets: str) -> None:
    write("payments", f"{PAYMENTS}---\n{SALE}")
    assert apply_set(cli, "payments").code == 0
    write("payments", f"{PAYMENTS}---\n{SALE.replace('500', '600')}")
    assert apply_set(cli, "payments").code == 0
    assert len(cli("show", "-o", "json").document["exceptions"]) == 1
    write("payments", PAYMENTS)
    run = apply_set(cli, "payments")
    assert "PATH does not contain an exception at /payments of set payments, which stays" in run.out
    assert apply_set(cli, "payments", "--prune").code == 0
    assert cli("show", "-o", "json").document["exceptions"] == []


# -- with and without sets


def test_a_whole_tree_cannot_replace_sets(cli: Cli, sets: str) -> None:
    write("whole", f"{EDGE}---\n{PAYMENTS}")
    for words in (("apply", "whole", "--yes"), ("plan", "whole")):
        run = cli(*words)
        assert run.code == 77
        assert "generation 2 belongs to sets edge, payments" in run.err
        assert "Add --set NAME" in run.err
    assert cli("diff", "whole").code == 0, "which only reads"
    assert cli("apply", "whole", "--set", "all", "--take-ownership", "/", "--yes").code == 0
    assert set(owners(cli).values()) == {"all"}


def test_a_tree_without_owners_is_divided_into_sets(cli: Cli, store_url: str, still: None) -> None:
    write("whole", f"{EDGE}---\n{PAYMENTS}")
    assert cli("apply", "whole", "--yes").code == 0
    write("payments", PAYMENTS)
    run = apply_set(cli, "payments")
    assert run.code == 77
    assert "belongs to no set in generation 1" in run.err
    run = apply_set(cli, "payments", "--take-ownership", "/payments")
    assert run.code == 0
    assert "taken: set payments takes over, from nobody: /payments, /payments/old\n" in run.out
    assert owners(cli) == {"/payments": "payments", "/payments/old": "payments"}
    document = cli("history", "-o", "json").document["generations"]
    assert document[0]["bundle"] == document[1]["bundle"]
    assert cli("apply", "whole", "--yes").code == 77
    assert cli("rollback", "--yes").code == 0
    assert cli("show", "-o", "json").document["owners"] is None
    assert cli("apply", "whole", "--yes").out.startswith("nothing to do")


@pytest.mark.parametrize(
    "words",
    [
        ("apply", "payments", "--prune"),
        ("plan", "payments", "--take-ownership", "/"),
        ("apply", "payments", "--set", "a/b"),
        ("apply", "payments", "--set", ""),
        ("apply", "payments", "--set", "payments", "--take-ownership", "payments"),
        ("diff", "payments", "--set", "payments", "--from", "1"),
        ("diff", "--set", "payments", "--to", "1"),
        ("pull", "--set", "nobody"),
    ],
    ids=" ".join,
)
def test_invalid_options_are_refused(cli: Cli, sets: str, words: tuple[str, ...]) -> None:
    run = cli(*words)
    assert (run.code, run.out) == (64, "")


@pytest.mark.parametrize("text", ["# nothing\n", ONLY_A_TEST])
def test_an_empty_set_is_refused_without_a_reason(cli: Cli, sets: str, text: str) -> None:
    write("payments", text)
    assert apply_set(cli, "payments", "--prune", *REMOVALS).code == 77
    empty = ("--allow-empty", "closing down")
    assert apply_set(cli, "payments", "--prune", *REMOVALS, *empty).code == 0
    assert set(owners(cli).values()) == {"edge"}


def test_a_set_can_be_the_first_publication(cli: Cli, store_url: str) -> None:
    write("edge", EDGE)
    assert cli("diff", "edge", "--set", "edge").code == 65
    assert apply_set(cli, "edge").code == 0
    write("payments", PAYMENTS)
    assert cli("diff", "payments", "--set", "payments").code == 1
