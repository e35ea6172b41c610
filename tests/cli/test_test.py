"""``ratectl test``: its output, its exit codes, and its formats for other programs."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest
from junitparser import JUnitXml

from ratectl.policy.format import Formatted
from ratectl.policy.read import load_valid
from ratectl.testing import run_tests
from ratectl_cli.render.testing import junit_text

if TYPE_CHECKING:
    from pathlib import Path

    from cli_support import Cli

    from conftest import Golden

GOOD = """\
apiVersion: ratectl/v1
kind: PolicyTest
name: the small scope is held to its cap
steps:
  - scope: /small
    attributes: {client: acme}
    times: 6
    expect: {allowed: 5, limit: spike, retry_after: 100ms}
"""
BAD = """\
---
apiVersion: ratectl/v1
kind: PolicyTest
name: the cart goes on at once
steps:
  - scope: /shop/cart
    attributes: {client: acme}
    times: 103
    every: 1ms
    expect: {allowed: 103, first_refused: none}
  - at: 1.5s
    scope: /shop/cart/item
    attributes: {client: acme}
    effective:
      on_error: allow
      limits:
        spike: {rate: 25/s, burst: 100}
        steady: {rate: 10/s}
---
apiVersion: ratectl/v1
kind: PolicyTest
name: nobody is refused at the blog
steps:
  - {scope: /shop, cost: 1001, expect: {allowed: 1, reason: ok, limit: steady}}
"""


@pytest.fixture
def good(tree: Path) -> Path:
    (tree / "small_test.yaml").write_text(GOOD)
    return tree


@pytest.fixture
def bad(good: Path) -> Path:
    (good / "small_test.yaml").write_text(GOOD + BAD)
    return good


def test_help(cli: Cli, golden: Golden) -> None:
    golden("test-help", cli("test", "--help").out)


def test_passed(cli: Cli, golden: Golden, good: Path) -> None:
    run = cli("test")
    assert (run.code, run.err) == (0, "")
    golden("test-passed", run.out)
    assert cli("test", "policies").out == run.out


def test_failed(cli: Cli, golden: Golden, bad: Path) -> None:
    run = cli("test")
    assert (run.code, run.err) == (1, "")
    golden("test-failed", run.out)


def test_json(cli: Cli, golden: Golden, bad: Path) -> None:
    run = cli("test", "-o", "json")
    assert run.code == 1
    golden("test-json", run.out)


def test_coverage(cli: Cli, golden: Golden, good: Path) -> None:
    run = cli("test", "--coverage")
    assert run.code == 0
    golden("test-coverage", run.out)
    assert "-v lists them" not in cli("test", "--coverage", "-v").out


def test_coverage_threshold(cli: Cli, good: Path) -> None:
    """5 scopes, 8 limits: of 13 items one scope and its limit are covered."""
    assert "/shop/cart" in cli("test", "--coverage-threshold", "19").out
    enough = cli("test", "--coverage-threshold", "15.38")
    assert enough.code == 0
    assert "coverage 15.3%, at least the threshold of 15.38%\n" in enough.out
    below = cli("test", "--coverage-threshold", "15.39")
    assert below.code == 1
    assert "coverage 15.3% is below 15.39%\npassed: 1 test, 6 requests\n" in below.out
    document = cli("test", "--coverage-threshold", "15.39", "-o", "json").document["coverage"]
    assert (document["threshold"], document["reached"]) == (15.39, False)
    assert cli("test", "--coverage-threshold", "101").code == 64


def test_full_coverage_reaches_the_threshold(cli: Cli, tree: Path) -> None:
    text = "apiVersion: ratectl/v1\nscope: /small\nlimits: {spike: {rate: 10/s, burst: 5}}\n---\n"
    (tree / "all.yaml").write_text(text + GOOD)
    assert cli("test", "--coverage-threshold", "100").code == 0


class TestNothing:
    """A run without tests does not pass."""

    def test_no_test(self, cli: Cli, tree: Path) -> None:
        run = cli("test", "policies")
        assert (run.code, run.out) == (1, "")
        assert run.err == (
            "error: no test found in policies\n"
            "  hint: write a document of kind PolicyTest beside the policies\n"
        )
        document = cli("test", "policies", "-o", "json").document
        assert (document["passed"], document["tests"]) == (False, 0)

    def test_no_test_with_this_name(self, cli: Cli, bad: Path) -> None:
        run = cli("test", "--run", "^cart")
        assert (run.code, run.out) == (1, "")
        assert run.err == "error: no test of policies matches --run '^cart' (3 tests there)\n"

    @pytest.mark.parametrize("text", [None, "# nothing\n"])
    def test_no_policies(self, cli: Cli, clean_place: Path, text: str | None) -> None:
        (clean_place / "policies").mkdir()
        if text is not None:
            (clean_place / "policies" / "a.yaml").write_text(text)
        run = cli("test")
        assert run.code == 1
        assert "no test found in policies" in run.err

    def test_no_such_folder(self, cli: Cli) -> None:
        run = cli("test", "nowhere")
        assert run.code == 65
        assert "RC120" in run.err


def test_run_chooses_by_name(cli: Cli, bad: Path) -> None:
    run = cli("test", "--run", "small|blog")
    assert [line.split()[0] for line in run.out.splitlines() if "_test.yaml:" in line][:2] == [
        "ok",
        "FAIL",
    ]
    assert run.out.endswith("failed: 1 of 2 tests, 7 requests\n")
    assert cli("test", "--run", "small").code == 0


def test_an_invalid_pattern_is_refused(cli: Cli, good: Path) -> None:
    run = cli("test", "--run", "(")
    assert run.code == 64
    assert "'(' is not a regular expression" in run.err


def test_invalid_tests_do_not_run(cli: Cli, good: Path, golden: Golden) -> None:
    text = GOOD.replace("limit: spike", "limit: spiek")
    (good / "small_test.yaml").write_text(text)
    run = cli("test", "--junit", "report.xml")
    assert (run.code, run.out) == (65, "")
    golden("test-invalid", run.err)
    # A report of an earlier run must not look like that of this run.
    assert JUnitXml.fromfile("report.xml").failures == 1


def test_from_standard_input(cli: Cli, good: Path) -> None:
    text = (good / "all.yaml").read_text() + "---\n" + GOOD
    assert "<stdin>" in cli("test", "-", stdin=text).out
    (good / "all.yaml").unlink()
    assert cli("test", "policies").code == 65


class TestJunit:
    def test_junit_is_read_by_another_parser(self, cli: Cli, bad: Path, clean_place: Path) -> None:
        run = cli("test", "--junit", "report.xml")
        assert run.out == cli("test").out
        report = JUnitXml.fromfile("report.xml")
        assert (report.tests, report.failures, report.errors) == (3, 2, 0)
        (suite,) = report
        assert suite.name == "policies/small_test.yaml"
        passed, cart, blog = suite
        assert passed.is_passed
        assert cart.name == "the cart goes on at once"
        (failure,) = cart.result
        assert failure.message == "allowed: expected 103, got 102"
        assert "20/s" in failure.text
        assert "expected 25/s, got 20/s" in failure.text
        assert not blog.is_passed
        assert all(case.time >= 0 for case in suite)

    def test_junit_without_tests(self, cli: Cli, tree: Path) -> None:
        assert cli("test", "--junit", "report.xml").code == 1
        assert JUnitXml.fromfile("report.xml").tests == 0

    def test_names_that_would_break_xml(self, tree: Path) -> None:
        text = GOOD.replace("name: the", 'name: "<&\\"\'é> the').replace("cap\n", 'cap"\n', 1)
        (tree / "small_test.yaml").write_text(text)
        found = run_tests([tree])
        root = ElementTree.fromstring(junit_text(found, load_valid([tree]).tree))
        case = root.find("testsuite/testcase")
        assert case is not None
        assert case.get("name", "").startswith("<&\"'é> the")

    def test_a_file_that_cannot_be_written(self, cli: Cli, good: Path) -> None:
        run = cli("test", "--junit", "nowhere/report.xml")
        assert (run.code, run.out) == (64, "")
        assert run.err == "error: --junit nowhere/report.xml: no such file or directory\n"


def test_a_broken_policy_fails_its_test(cli: Cli, good: Path) -> None:
    assert cli("test").code == 0
    policies = good / "all.yaml"
    policies.write_text(policies.read_text().replace("burst: 5}", "burst: 6}"))
    run = cli("test")
    assert run.code == 1
    assert "expected 5, got 6" in run.out
    assert "policies/all.yaml:26:30" in run.out, "where the value stands that broke it"


def test_what_init_writes_passes(cli: Cli, clean_place: Path) -> None:
    written = cli("init", "-o", "json").document
    assert "policies/shop/cart_test.yaml" in written["files"]
    assert "ratectl test policies/" in written["next"]
    assert cli("test", "policies").code == 0
    assert cli("fmt", "--check").code == 0


def test_tests_are_validated_and_never_published(
    cli: Cli, good: Path, store_url: str, still: None
) -> None:
    assert cli("validate", "policies").out == ("valid: 5 scopes, 5 limits and 1 test in 2 files\n")
    assert cli("apply", "policies", "--yes").code == 0
    assert "PolicyTest" not in cli("show").out
    (good / "small_test.yaml").write_text(GOOD + BAD)
    again = cli("apply", "policies", "--yes", "-o", "json").document
    assert again["published"] is False, "a test is no part of a generation"
    (good / "small_test.yaml").write_text(GOOD.replace("times: 6", "tims: 6"))
    assert cli("apply", "policies", "--yes").code == 65


def test_tests_alone_publish_nothing(cli: Cli, good: Path, store_url: str) -> None:
    (good / "all.yaml").unlink()
    assert cli("apply", "policies", "--yes").code == 77


def test_fmt_writes_tests_too(cli: Cli, good: Path) -> None:
    path = good / "small_test.yaml"
    path.write_text(
        "apiVersion: ratectl/v1\nkind: PolicyTest\nsteps:\n"
        "- times: 6   # one more\n  scope: /small\n"
        "  expect: {limit: spike,  allowed: 5}\n"
        "- {scope: /small, effective: {limits: {spike: {per: [client], rate: 10 / seconds}}}}\n"
        "name: it\n"
    )
    assert cli("fmt").code == 0
    assert path.read_text() == (
        "apiVersion: ratectl/v1\nkind: PolicyTest\nname: it\nsteps:\n"
        "  - scope: /small\n    times: 6 # one more\n"
        "    expect: {allowed: 5, limit: spike}\n"
        "  - {scope: /small, effective: {limits: {spike: {rate: 10/s, per: client}}}}\n"
    )
    assert cli("test").code == 0


def test_fmt_keeps_the_meaning_of_tests(
    cli: Cli, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If formatting changed the meaning, the file would stay unchanged."""
    changed = Formatted(GOOD.replace("allowed: 5", "allowed: 6"), ())
    monkeypatch.setattr("ratectl.policy.format.format_text", lambda text: changed)
    assert cli("fmt", "policies/small_test.yaml").code == 0
    assert (good / "small_test.yaml").read_text() == GOOD


def test_a_hostile_name_is_escaped(cli: Cli, good: Path) -> None:
    text = GOOD.replace("name: the", 'name: "\\u202E the').replace("cap\n", 'cap"\n', 1)
    (good / "small_test.yaml").write_text(text)
    run = cli("test")
    assert run.code == 65
    assert "U+202E" in run.err
    assert "\u202e" not in run.out + run.err
