"""``ratectl simulate``."""

from typing import TYPE_CHECKING, Annotated

import typer

from ratectl.errors import UsageError
from ratectl_cli.framework.session import session_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ratectl.policy.language.model import PolicyTree
    from ratectl.simulate import Outcome, Report
    from ratectl_cli.framework.session import Session
    from ratectl_cli.render.simulation import Inputs


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
    from ratectl.simulate import Assertion
    from ratectl_cli.inputs.replays import Recording, replay_recording
    from ratectl_cli.render.simulation import Inputs

    session = session_of(ctx)
    if [path, log, against].count("-") > 1:
        raise UsageError("standard input can be read only once: give one -")
    wanted = [Assertion.parse(text) for text in assertions or ()]
    with session.busy("reading policies"):
        recording = Recording.of(log, map_file, "--log")
        policies = _policies(session, path, against)
    inputs = Inputs(path, log, map_file, against and policies[1][0])
    report = replay_recording(session, recording, policies, window_ns=int(window * 1e9))
    outcomes = [assertion.judge(report.sides[0]) for assertion in wanted]
    return _answer(session, inputs, report, outcomes)


def _policies(session: "Session", path: str, against: str | None) -> "list[tuple[str, PolicyTree]]":
    """The policies asked about, then those to compare with."""
    from ratectl.history.trees import live_tree
    from ratectl_cli.inputs.policies import read_valid

    found = [(path, read_valid([path]).tree)]
    if against == "live":
        with session.store() as store:
            generation, tree = live_tree(store)
        found.append((f"generation {generation}", tree))
    elif against is not None:
        found.append((against, read_valid([against]).tree))
    return found


def _answer(
    session: "Session", inputs: "Inputs", report: "Report", outcomes: "Sequence[Outcome]"
) -> int:
    from ratectl_cli.inputs.replays import no_request
    from ratectl_cli.render.simulation import simulation_blocks, simulation_data

    session.answer(
        "Simulation",
        simulation_data(inputs, report, outcomes),
        lambda: simulation_blocks(
            inputs, report, outcomes, session.out, unfold=bool(session.options.verbose)
        ),
    )
    if not report.requests:
        no_request(session, inputs.log, report)
        return 1
    return 0 if all(outcome.holds for outcome in outcomes) else 1


__all__ = ["simulate"]
