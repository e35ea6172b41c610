"""`ratectl test`: run the tests of policies and print what failed."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ratectl.errors import PolicyError, UsageError
from ratectl.policy import codes
from ratectl.testing import Suite
from ratectl_cli.framework.text import bold, dim, plural
from ratectl_cli.inputs.policies import read_checked
from ratectl_cli.render.formats.junit import junit
from ratectl_cli.render.testing import junit_text, report_blocks, report_data

if TYPE_CHECKING:
    from collections.abc import Callable

    from ratectl.policy.loading.loader import Loaded
    from ratectl.testing import Report
    from ratectl_cli.framework.session import Session

__all__ = ["TestOptions", "tested"]


@dataclass(frozen=True, slots=True)
class TestOptions:
    """Options of `test`."""

    __test__ = False

    paths: list[str]
    pattern: str | None
    junit: str | None
    """File for a report in JUnit XML."""
    coverage: bool
    threshold: float | None
    """Least coverage, in percent."""


def tested(session: Session, options: TestOptions) -> int:
    """Run the tests, print the report; return the exit code."""
    with session.busy("reading policies"):
        loaded = read_checked(options.paths)
    if not loaded.ok and not _is_empty(loaded):
        _write(options.junit, lambda: junit(loaded.diagnostics, loaded.files, "error"))
        raise PolicyError(loaded.diagnostics)
    suite = Suite(loaded, options.pattern)
    with session.busy("testing policies"):
        report = suite.run_all()
    _write(options.junit, lambda: junit_text(report, loaded.tree))
    return _answer(session, options, loaded, report)


def _is_empty(loaded: Loaded) -> bool:
    """Return True if the only errors are that there is no file, or no document in any file."""
    errors = {finding.code for finding in loaded.diagnostics if finding.severity == "error"}
    return not loaded.tests and errors <= {codes.NO_FILES, codes.NO_POLICIES}


def _write(file: str | None, text: Callable[[], str]) -> None:
    """Write the JUnit report if a file is named."""
    if file is None:
        return
    try:
        Path(file).write_text(text(), encoding="ascii")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"--junit {file}: {why.lower()}") from error


def _answer(session: Session, options: TestOptions, loaded: Loaded, report: Report) -> int:
    threshold = options.threshold
    below = threshold is not None and not report.coverage.percent >= threshold
    shown = options.coverage or threshold is not None
    session.answer(
        "TestReport",
        report_data(report, loaded.tree, options.pattern, threshold),
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
        session.complain([[bold("error: ", "red"), _no_test_text(options, loaded)]])
        if hint := _no_test_hint(options, loaded):
            session.complain([[dim("  hint: "), hint]])
    return 0 if report.passed and not below else 1


def _no_test_text(options: TestOptions, loaded: Loaded) -> str:
    places = ", ".join(options.paths)
    if loaded.tests:
        tests = plural(len(loaded.tests), "test")
        return f"no test of {places} matches --run {options.pattern!r} ({tests} there)"
    return f"no test found in {places}"


def _no_test_hint(options: TestOptions, loaded: Loaded) -> str | None:
    """Return where tests may be; None if there are some, and a pattern leaves them out."""
    if loaded.tests:
        return None
    folder = Path(options.paths[0]).parent
    if len(options.paths) == 1 and Path(options.paths[0]).is_file() and str(folder) != ".":
        return f"tests may be in other files of the folder: ratectl test {shlex.quote(str(folder))}"
    return "write a document of kind PolicyTest beside the policies"
