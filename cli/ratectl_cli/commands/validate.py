"""``ratectl validate``."""

import os
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ratectl.errors import UsageError
from ratectl_cli.framework.session import Session, session_of
from ratectl_cli.framework.text import Line, bold, plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratectl.policy.loading.loader import Loaded
    from ratectl_cli.framework.text import Block
    from ratectl_cli.inputs.selection import Selected


class Format(StrEnum):
    """Forms of the findings."""

    FULL = "full"
    CONCISE = "concise"
    JSON = "json"
    GITHUB = "github"
    GITLAB = "gitlab"
    JUNIT = "junit"
    SARIF = "sarif"


class Level(StrEnum):
    """Severities, for --fail-level."""

    ERROR = "error"
    WARNING = "warning"


Paths = Annotated[
    list[str], typer.Argument(metavar="PATH", help="Files, directories, or - for stdin.")
]
FormatOption = Annotated[
    Format | None,
    typer.Option(
        "--format",
        metavar="|".join(Format),
        help="Form of the findings; json is the same as -o json.  [default: full]",
    ),
]
FailLevel = Annotated[
    Level,
    typer.Option(
        "--fail-level",
        metavar="error|warning",
        show_default=False,
        help="Least severity that fails.  [default: error]",
    ),
]
Select = Annotated[
    list[str] | None,
    typer.Option(
        "--select",
        metavar="CODE,...",
        help="Only findings of these codes, or whose codes begin so (RC2). Errors of RC1xx are "
        "always shown.",
    ),
]
Ignore = Annotated[
    list[str] | None,
    typer.Option(
        "--ignore",
        metavar="CODE,...",
        help="No findings of these codes, or whose codes begin so. Errors of RC1xx cannot be "
        "ignored: such a file cannot be read.",
    ),
]
Base = Annotated[
    str | None,
    typer.Option(
        "--base",
        metavar="REV|live",
        help="Earlier state: a Git revision, or the live generation. Values that it has already "
        "may stay above a cap that came later: a warning.",
    ),
]


def validate(
    ctx: typer.Context,
    paths: Paths,
    form: FormatOption = None,
    fail_level: FailLevel = Level.ERROR,
    select: Select = None,
    ignore: Ignore = None,
    base: Base = None,
) -> int:
    """Check policy files and report every problem at once.

    Reads .yaml and .yml files, also below directories; hidden ones are skipped. Needs no store,
    but for --base live.
    Warnings do not fail without --fail-level warning. `ratectl rule CODE` explains a finding.

    Examples:
      ratectl validate policies/
      ratectl validate policies/ --format github --fail-level warning
      ratectl validate policies/ --base origin/main
      ratectl validate policies/ -o json | jq '.diagnostics[].message'
      git show HEAD:policies/global.yaml | ratectl validate -

    Exit codes:
      0   no errors
      1   errors (or warnings, with --fail-level warning), or nothing to validate
      64  wrong arguments, or no such revision
      69  store unreachable (with --base live)
    """
    from ratectl_cli.inputs.policies import base_tree, read_checked
    from ratectl_cli.inputs.selection import Selection

    session = session_of(ctx)
    form = _settle(session, form)
    selection = Selection.of(select or [], ignore or [])
    with session.busy("reading policies"):
        earlier = None if base is None else base_tree(session, paths, base)
        loaded = read_checked(paths, earlier)
    report = _Report(loaded, selection.apply(loaded.diagnostics), fail_level, base)
    if report.selected.insisted:
        session.warn(
            f"{plural(report.selected.insisted, 'error')} of RC1xx cannot be ignored: "
            "what cannot be read cannot be judged"
        )
    if session.text and form is not Format.FULL:
        _print(session, form, report)
    else:
        session.answer("Validation", report.data(), lambda: report.blocks(session))
    return 0 if report.passed else 1


def _settle(session: Session, form: Format | None) -> Format:
    """One form, from --format and -o."""
    output = session.options.output
    if form is Format.JSON and output != "yaml":
        session.options = replace(session.options, output="json")
    elif form is not None and output != "text":
        raise UsageError(f"--format {form} and -o {output} name two forms: give one")
    return form or Format.FULL


def _print(session: Session, form: Format, report: "_Report") -> None:
    from ratectl_cli.render.formats import render

    text = render(form, report.selected.shown, report.loaded.files, report.fail_level.value)
    session.emit(text)
    if form in (Format.CONCISE, Format.GITHUB):
        session.show([report.headline()])
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if form is Format.GITHUB and summary:
        _summarise(session, Path(summary), report)


def _summarise(session: Session, file: Path, report: "_Report") -> None:
    """Add all findings to the summary of a step in GitHub Actions."""
    from ratectl_cli.render.formats.github import summary

    line = report.headline()
    words = "".join(piece if isinstance(piece, str) else piece.text for piece in line)
    try:
        with file.open("a", encoding="utf-8") as out:
            out.write(summary(report.selected.shown, words))
    except OSError as error:
        session.warn(f"no summary for the step: {(error.strerror or str(error)).lower()}")


class _Report:
    """What was found, and what follows from it."""

    def __init__(
        self, loaded: "Loaded", selected: "Selected", fail_level: Level, base: str | None
    ) -> None:
        self.loaded = loaded
        self.selected = selected
        self.fail_level = fail_level
        self.base = base

    @property
    def passed(self) -> bool:
        """Whether nothing shown is as severe as --fail-level."""
        failing = ("error",) if self.fail_level is Level.ERROR else ("error", "warning")
        return all(found.severity not in failing for found in self.selected.shown)

    def data(self) -> dict[str, Any]:
        from ratectl_cli.render.diagnostics import count, diagnostic_data

        policies = self.loaded.tree.policies.values()
        shown = self.selected.shown
        return {
            "valid": self.loaded.ok,
            "passed": self.passed,
            "fail_level": self.fail_level.value,
            "base": self.base,
            "errors": count(shown, "error"),
            "warnings": count(shown, "warning"),
            "hidden": len(self.selected.hidden),
            "files": list(self.loaded.files),
            "scopes": len(policies),
            "limits": sum(len(policy.limits) for policy in policies),
            "tests": len(self.loaded.tests),
            "diagnostics": [diagnostic_data(found) for found in shown],
        }

    def blocks(self, session: Session) -> "Iterator[Block]":
        from ratectl_cli.render.diagnostics import diagnostic_blocks

        yield from diagnostic_blocks(
            self.selected.shown, session.out, unfold=bool(session.options.verbose)
        )
        yield self.headline()

    def headline(self) -> Line:
        """The result in one line."""
        from ratectl_cli.render.diagnostics import tally

        loaded, shown, hidden = self.loaded, self.selected.shown, self.selected.hidden
        files = plural(len(loaded.files), "file")
        without = f" ({tally(hidden)} hidden)" if hidden else ""
        if loaded.ok and self.passed:
            scopes = len(loaded.tree.policies)
            limits = sum(len(policy.limits) for policy in loaded.tree.policies.values())
            declared = f"{plural(scopes, 'scope')} and {plural(limits, 'limit')}"
            if loaded.tests:
                declared = (
                    f"{declared.replace(' and', ',')} and {plural(len(loaded.tests), 'test')}"
                )
            warnings = f", {tally(shown)}" if shown else ""
            return [bold("valid", "green"), f": {declared} in {files}{warnings}{without}"]
        if self.passed:
            return [
                bold("passed", "yellow"),
                f": {tally(shown)} in {files}{without}; `ratectl apply` still refuses the errors",
            ]
        word = "failed" if loaded.ok else "invalid"
        return [bold(word, "red"), f": {tally(shown)} in {files}{without}"]


__all__ = ["validate"]
