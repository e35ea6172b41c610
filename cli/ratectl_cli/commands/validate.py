"""``ratectl validate``."""

from dataclasses import replace
from enum import StrEnum
from functools import partial
from typing import Annotated

import typer

from ratectl.errors import UsageError
from ratectl_cli.commands.options import PolicyPaths
from ratectl_cli.framework.session import Session, session_of


class Format(StrEnum):
    """Formats of findings."""

    FULL = "full"
    CONCISE = "concise"
    JSON = "json"
    GITHUB = "github"
    GITLAB = "gitlab"
    JUNIT = "junit"
    SARIF = "sarif"


class Level(StrEnum):
    """Severities for --fail-level."""

    ERROR = "error"
    WARNING = "warning"


FormatOption = Annotated[
    Format | None,
    typer.Option(
        "--format",
        metavar="|".join(Format),
        help="Format of the findings; json is the same as -o json.  [default: full]",
    ),
]
FailLevel = Annotated[
    Level,
    typer.Option(
        "--fail-level",
        metavar="error|warning",
        show_default=False,
        help="Lowest severity that makes the command fail.  [default: error]",
    ),
]
Select = Annotated[
    list[str] | None,
    typer.Option(
        "--select",
        metavar="CODE,...",
        help="Show only findings with these codes or prefixes of codes (RC2). Errors of RC1xx are "
        "always shown.",
    ),
]
Ignore = Annotated[
    list[str] | None,
    typer.Option(
        "--ignore",
        metavar="CODE,...",
        help="Hide findings with these codes or prefixes of codes. Errors of RC1xx cannot be "
        "hidden: such a file cannot be read.",
    ),
]
Base = Annotated[
    str | None,
    typer.Option(
        "--base",
        metavar="REV|live",
        help="Earlier state to compare with: a Git revision, or the live generation. A value above "
        "a cap is a warning, not an error, if the earlier state has the same value.",
    ),
]

Watch = Annotated[
    bool,
    typer.Option("--watch", help="Check again whenever a file changes, until Ctrl-C."),
]

Fix = Annotated[
    bool,
    typer.Option(
        "--fix",
        help="First repair the files where only one meaning is possible: misspelt fields, quotes, "
        "units. Each repair is shown.",
    ),
]


def validate(
    ctx: typer.Context,
    paths: PolicyPaths = None,
    form: FormatOption = None,
    fail_level: FailLevel = Level.ERROR,
    select: Select = None,
    ignore: Ignore = None,
    base: Base = None,
    fix: Fix = False,
    watch: Watch = False,
) -> int:
    """Check policy files and report every problem at once.

    Reads .yaml and .yml files, also in subdirectories; hidden files are skipped. Needs no store,
    except for --base live. Warnings cause no failure without --fail-level warning. `ratectl rule
    CODE` explains a finding.

    Examples:
      ratectl validate policies/
      ratectl validate policies/ --format github --fail-level warning
      ratectl validate policies/ --base origin/main
      ratectl validate policies/ --watch
      ratectl validate policies/ --fix
      ratectl validate policies/ -o json | jq '.diagnostics[].message'
      git show HEAD:policies/global.yaml | ratectl validate -

    Exit codes:
      0   no errors
      1   errors (or warnings, with --fail-level warning), or nothing to validate
      64  wrong arguments, or no such revision
      69  store unreachable (with --base live, without --watch), or a full disk (with --fix)
      77  a file cannot be written: none is changed (with --fix)
      130 ended by Ctrl-C (with --watch)
    """
    from ratectl_cli.prompts.validating import validated
    from ratectl_cli.prompts.watching import repeated_on_changes

    session = session_of(ctx)
    form = _settle(session, form)
    paths = paths or [session.policies]
    check = partial(
        validated,
        session,
        paths,
        form=form.value,
        fail_level=fail_level.value,
        select=select or [],
        ignore=ignore or [],
        base=base,
        fix=fix,
    )
    if watch and fix:
        raise UsageError("--fix changes files and --watch waits for changes: give one of them")
    if watch:
        repeated_on_changes(session, paths, form.value, check)
    return check()


def _settle(session: Session, form: Format | None) -> Format:
    """Return the one form that --format and -o choose."""
    output = session.options.output
    if form is Format.JSON and output != "yaml":
        session.options = replace(session.options, output="json")
    elif form is not None and output != "text":
        raise UsageError(f"--format {form} and -o {output} name two formats: give one")
    return form or Format.FULL


__all__ = ["validate"]
