"""``ratectl simulate``."""

from typing import Annotated

import typer

from ratectl.errors import UsageError
from ratectl_cli.commands.options import PolicyPath
from ratectl_cli.framework.session import session_of


def simulate(
    ctx: typer.Context,
    log: Annotated[str, typer.Option("--log", metavar="FILE", help="Log to replay; - for stdin.")],
    map_file: Annotated[
        str,
        typer.Option(
            "--map", metavar="FILE", help="Map that tells how lines of the log become requests."
        ),
    ],
    path: PolicyPath = None,
    against: Annotated[
        str | None,
        typer.Option("--against", metavar="live|PATH", help="Compare with these policies."),
    ] = None,
    assertions: Annotated[
        list[str] | None,
        typer.Option(
            "--assert", metavar="TEXT", help="Assertion, like 'refused < 1%'. Repeatable."
        ),
    ] = None,
    window: Annotated[
        float,
        typer.Option(
            "--window",
            metavar="SECONDS",
            min=0,
            max=86_400,
            help="Sort lines that are out of order by up to this time.",
        ),
    ] = 60,
) -> int:
    """Replay recorded traffic through policies.

    Shows which requests the policies would refuse; with --against, which they would decide
    differently. Reads an access log of Apache or nginx, JSON lines or CSV, plain or gzipped; the
    map tells what each field means. The times come from the log, so days of traffic take seconds.
    Buckets start full: requests that agents have counted are not included, and nothing is counted
    for agents.

    An assertion is about all requests, a scope and all scopes below it, a limit, or a limit at a
    scope. It compares refused, admitted or shadow with a share or a number.

    Examples:
      ratectl simulate policies/ --log access.log.gz --map web.map.yaml
      ratectl simulate policies/ --log access.log --map web.map.yaml --against live
      ratectl simulate policies/ --log access.log --map web.map.yaml \\
          --assert 'refused < 1%' --assert 'refused[spike@/web] == 0'
      zcat logs/*.gz | ratectl simulate policies/ --log - --map web.map.yaml -o json

    Exit codes:
      0   replayed, and every assertion holds
      1   an assertion fails, or no line could be replayed
      64  wrong arguments, an invalid map, or no such file
      65  invalid policies, or nothing is published
      69  store unreachable, or the log cannot be read
    """
    from ratectl_cli.prompts.simulating import simulated

    if [path, log, against].count("-") > 1:
        raise UsageError("standard input can be read only once: give one -")
    session = session_of(ctx)
    return simulated(
        session,
        session.policies if path is None else path,
        log,
        map_file,
        against=against,
        assertions=assertions or (),
        window_ns=int(window * 1e9),
    )


__all__ = ["simulate"]
