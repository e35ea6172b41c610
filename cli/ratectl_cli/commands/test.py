"""``ratectl test``."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ratectl.errors import PolicyError, UsageError
from ratectl_cli.framework.session import session_of
from ratectl_cli.framework.text import bold

if TYPE_CHECKING:
    from collections.abc import Callable

    from ratectl.policy.loading.loader import Loaded
    from ratectl.testing import Report
    from ratectl_cli.framework.session import Session


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What the command line asks for."""

    paths: list[str]
    pattern: str | None
    junit: str | None
    coverage: bool
    threshold: float | None


def test(
    ctx: typer.Context,
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATH",
            help="Files, directories, or - for stdin.  [default: ./policies]",
            show_default=False,
        ),
    ] = None,
    run: Annotated[
        str | None,
        typer.Option("--run", metavar="RE", help="Only tests in whose names this is found."),
    ] = None,
    junit: Annotated[
        str | None,
        typer.Option("--junit", metavar="FILE", help="Write a report as JUnit XML, too."),
    ] = None,
    coverage: Annotated[
        bool, typer.Option("--coverage", help="Show which scopes and limits were tested.")
    ] = False,
    threshold: Annotated[
        float | None,
        typer.Option(
            "--coverage-threshold",
            metavar="PERCENT",
            min=0,
            max=100,
            help="Fail where less was tested than this.",
        ),
    ] = None,
) -> int:
    """Run the tests that stand beside the policies.

    Tests are documents of kind PolicyTest in the same files or beside them: requests at times, and
    what is expected of them. They run on the engine that agents run, with a virtual clock, each
    from full buckets. What failed is shown with its place and with the limit that decided.

    Examples:
      ratectl test
      ratectl test policies/ --run checkout
      ratectl test policies/ --junit report.xml --coverage-threshold 80
      ratectl test policies/ -o json | jq '.results[] | select(.passed | not) | .name'

    Exit codes:
      0   every test passed
      1   a test failed, no test was found, or too little was tested
      64  wrong arguments
      65  invalid policies or tests
    """
    session = session_of(ctx)
    wanted = _Wanted(paths or ["policies"], run, junit, coverage, threshold)
    return _run(session, wanted)


def _run(session: "Session", wanted: _Wanted) -> int:
    from ratectl.testing import Suite
    from ratectl_cli.inputs.policies import read_checked
    from ratectl_cli.render.formats.junit import junit
    from ratectl_cli.render.testing import junit_text

    with session.busy("reading policies"):
        loaded = read_checked(wanted.paths)
    if not loaded.ok and not _nothing(loaded):
        _write(wanted.junit, lambda: junit(loaded.diagnostics, loaded.files, "error"))
        raise PolicyError(loaded.diagnostics)
    suite = Suite(loaded, wanted.pattern)
    with session.busy("testing policies"):
        report = suite.run_all()
    _write(wanted.junit, lambda: junit_text(report, loaded.tree))
    return _answer(session, wanted, loaded, report)


def _nothing(loaded: "Loaded") -> bool:
    """Whether there is simply nothing at the paths: no file, or none that holds anything."""
    from ratectl.policy import codes

    found = {each.code for each in loaded.diagnostics if each.severity == "error"}
    return not loaded.tests and found <= {codes.NO_FILES, codes.NO_POLICIES}


def _write(file: str | None, text: "Callable[[], str]") -> None:
    """Write the report for other programs, if one is asked for."""
    if file is None:
        return
    try:
        Path(file).write_text(text(), encoding="ascii")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"--junit {file}: {why.lower()}") from error


def _answer(session: "Session", wanted: _Wanted, loaded: "Loaded", report: "Report") -> int:
    from ratectl_cli.render.testing import report_blocks, report_data

    threshold = wanted.threshold
    below = threshold is not None and not report.coverage.percent >= threshold
    shown = wanted.coverage or threshold is not None
    session.answer(
        "TestReport",
        report_data(report, loaded.tree, wanted.pattern, threshold),
        lambda: report_blocks(
            report,
            loaded.tree,
            session.out,
            coverage=shown,
            threshold=threshold,
            unfold=bool(session.options.verbose),
        ),
    )
    if not report.results and session.text:
        session.complain([[bold("error: ", "red"), _no_test(wanted, loaded)]])
    return 0 if report.passed and not below else 1


def _no_test(wanted: _Wanted, loaded: "Loaded") -> str:
    places = ", ".join(wanted.paths)
    if loaded.tests:
        there = f"{len(loaded.tests)} there" if len(loaded.tests) > 1 else "one there"
        return f"no test of {places} matches --run {wanted.pattern!r}, of {there}"
    return f"no test found in {places}: write a document of kind PolicyTest beside the policies"


__all__ = ["test"]
