"""``ratectl simulate``."""

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ratectl.errors import UsageError
from ratectl_cli.session import session_of
from ratectl_cli.text import bold

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ratectl.policy.model import PolicyTree
    from ratectl.simulate import Outcome, Report
    from ratectl_cli.render.simulation import Inputs
    from ratectl_cli.session import Session


def simulate(
    ctx: typer.Context,
    path: Annotated[
        str, typer.Argument(metavar="PATH", help="A file, a directory, or - for stdin.")
    ],
    log: Annotated[
        str, typer.Option("--log", metavar="FILE", help="Traffic to replay; - for stdin.")
    ],
    map_file: Annotated[
        str, typer.Option("--map", metavar="FILE", help="How its lines become requests.")
    ],
    against: Annotated[
        str | None,
        typer.Option("--against", metavar="live|PATH", help="Compare with these policies."),
    ] = None,
    assertions: Annotated[
        list[str] | None,
        typer.Option(
            "--assert", metavar="TEXT", help="Such as 'refused < 1%'; repeat it for more."
        ),
    ] = None,
    window: Annotated[
        float,
        typer.Option(
            "--window",
            metavar="SECONDS",
            min=0,
            max=86_400,
            help="Put lines in order that are up to this late.",
        ),
    ] = 60,
) -> int:
    """Replay recorded traffic through policies.

    Shows what they would refuse, or refuse differently. Reads an access log of Apache or nginx,
    JSON lines or CSV, plain or gzipped, by a map that says which field is what. Time is what the
    log says, so days of traffic take seconds. Buckets start full; what agents have counted is
    neither seen nor touched.

    Assert on all requests, on a scope with all below it, on a limit, or on a limit at a scope:
    refused, admitted or shadow, as a share or a number.

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
    from ratectl.simulate import Assertion, read_map
    from ratectl_cli.render.simulation import Inputs

    session = session_of(ctx)
    if [path, log, against].count("-") > 1:
        raise UsageError("standard input can be read only once: give one -")
    wanted = [Assertion.parse(text) for text in assertions or ()]
    with session.busy("reading policies"):
        made = read_map(_contents(map_file), map_file)
        policies = _policies(session, path, against)
    inputs = Inputs(path, log, map_file, against and policies[1][0])
    report = _replay(session, log, made, policies, int(window * 1e9))
    outcomes = [assertion.judge(report.sides[0]) for assertion in wanted]
    return _answer(session, inputs, report, outcomes)


def _contents(name: str) -> bytes:
    from ratectl.policy.yaml_text import MAX_BYTES

    with _opened(name, "--map") as file:
        data: bytes = file.read(MAX_BYTES + 1)
        return data


@contextmanager
def _opened(name: str, option: str) -> "Iterator[Any]":
    try:
        file = Path(name).open("rb")  # noqa: SIM115  closed below
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"{option} {name}: {why.lower()}") from error
    with file:
        yield file


@contextmanager
def _log(name: str) -> "Iterator[tuple[Any, int | None]]":
    """The log, and its size where that is known."""
    import os
    import stat
    import sys

    if name == "-":
        if sys.stdin.isatty():
            raise UsageError("--log - reads standard input, which is a terminal")
        yield sys.stdin.buffer, None
        return
    with _opened(name, "--log") as file:
        status = os.fstat(file.fileno())
        yield file, status.st_size if stat.S_ISREG(status.st_mode) else None


def _policies(session: "Session", path: str, against: str | None) -> "list[tuple[str, PolicyTree]]":
    """The policies asked about, then those to compare with."""
    from ratectl_cli.policies import live_tree, read_valid

    found = [(path, read_valid([path]).tree)]
    if against == "live":
        with session.store() as store:
            generation, tree = live_tree(store)
        found.append((f"generation {generation}", tree))
    elif against is not None:
        found.append((against, read_valid([against]).tree))
    return found


def _replay(
    session: "Session",
    log: str,
    made: Any,
    policies: "list[tuple[str, PolicyTree]]",
    window_ns: int,
) -> "Report":
    from ratectl.simulate import Traffic, replay
    from ratectl_cli.progress import progress_bar

    with _log(log) as (file, size), progress_bar(session, f"replaying {log}", size) as passed:
        return replay(Traffic(file, made, window_ns=window_ns, passed=passed), policies)


def _answer(
    session: "Session", inputs: "Inputs", report: "Report", outcomes: "Sequence[Outcome]"
) -> int:
    from ratectl_cli.render.simulation import simulation_blocks, simulation_data, skipped_blocks

    session.answer(
        "Simulation",
        simulation_data(inputs, report, outcomes),
        lambda: simulation_blocks(
            inputs, report, outcomes, session.out, unfold=bool(session.options.verbose)
        ),
    )
    if not report.requests:
        session.complain(
            [
                [bold("error: ", "red"), f"no line of {inputs.log} could be replayed"],
                *skipped_blocks(report),
            ]
            if session.text
            else []
        )
        return 1
    return 0 if all(outcome.holds for outcome in outcomes) else 1


__all__ = ["simulate"]
