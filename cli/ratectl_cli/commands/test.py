"""``ratectl test``."""

from typing import Annotated

import typer

from ratectl_cli.commands.options import PolicyPaths
from ratectl_cli.framework.session import session_of


def test(
    ctx: typer.Context,
    paths: PolicyPaths = None,
    run: Annotated[
        str | None,
        typer.Option(
            "--run", metavar="RE", help="Run only tests whose name contains a match of this regex."
        ),
    ] = None,
    junit: Annotated[
        str | None,
        typer.Option("--junit", metavar="FILE", help="Also write a report as JUnit XML."),
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
            help="Fail if coverage is lower.",
        ),
    ] = None,
) -> int:
    """Run the tests of policies.

    A test is a document of kind PolicyTest, in a policy file or in a file beside it: requests at
    given times, and the expected decisions. Tests run on the engine that agents use, with a
    virtual clock; each starts with full buckets. A failed test is shown with its place and the
    limit that decided.

    Examples:
      ratectl test
      ratectl test policies/ --run checkout
      ratectl test policies/ --junit report.xml --coverage-threshold 80
      ratectl test policies/ -o json | jq '.results[] | select(.passed | not) | .name'

    Exit codes:
      0   every test passed
      1   a test failed, no test was found, or coverage is too low
      64  wrong arguments
      65  invalid policies or tests
    """
    from ratectl_cli.prompts.testing import TestOptions, tested

    session = session_of(ctx)
    options = TestOptions(paths or [session.policies], run, junit, coverage, threshold)
    return tested(session, options)


__all__ = ["test"]
