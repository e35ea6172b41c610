"""``ratectl check``."""

from itertools import chain
from typing import Annotated

import typer

from ratectl_cli.commands.options import Attributes, Live, Policies, files_of
from ratectl_cli.framework import clock
from ratectl_cli.framework.session import session_of


def check(
    ctx: typer.Context,
    scope: Annotated[str, typer.Argument(metavar="SCOPE", help="Scope, like /payments/checkout.")],
    attr: Attributes = None,
    cost: Annotated[
        list[str] | None,
        typer.Option(
            "--cost",
            metavar="[UNIT=]N",
            help="Cost of each request: a number of requests, or of another unit. Repeatable for "
            "more units; 0 charges nothing.  [default: 1]",
        ),
    ] = None,
    times: Annotated[
        int,
        typer.Option(
            "-n", "--times", metavar="TIMES", min=1, max=1_000_000, help="Number of requests."
        ),
    ] = 1,
    policies: Policies = None,
    live: Live = False,
) -> int:
    """Decide requests on this machine, as an agent would.

    The requests are made one right after the other, in this process. Its buckets start full:
    requests that agents have counted are not included, and nothing is counted for agents. Slots of
    concurrency limits are held until the last request is decided.

    Examples:
      ratectl check /payments/checkout --attr client=acme
      ratectl check /llm --attr tenant=acme --cost tokens=4000
      ratectl check /payments/checkout --attr client=acme --live
      ratectl check /web --attr client=203.0.113.7 -n 200 --policies policies/

    Exit codes:
      0   every request was allowed
      1   a request was refused
      64  wrong arguments
      65  invalid policies, or nothing is published
      69  store unreachable (with --live)
    """
    from ratectl.policy.validation.names import unused_attributes
    from ratectl_cli.inputs.engines import engine_of, overrides_of, tree_of, unnoticed
    from ratectl_cli.inputs.policies import attributes_of, cost_of, scope_of
    from ratectl_cli.render.decisions import decisions_blocks, decisions_data

    session = session_of(ctx)
    scope_of(scope, "check")
    attributes = attributes_of(attr or [])
    costs = cost_of(cost or [])
    files = files_of(session, policies, live=live)
    with session.busy("reading policies"):
        tree, generation = tree_of(session, files)
        engine = engine_of(tree, generation, clock.now_ns())
    unused = unused_attributes(tree, scope, attributes)
    for message in chain(unused, unnoticed(engine, scope, attributes, costs)):
        session.say(message)
    with session.busy("deciding"):
        decisions = [engine.check(scope, attributes, costs) for _ in range(times)]
    overrides = overrides_of(engine, scope, attributes)
    data = {
        "generation": generation,
        "files": files,
        "scope": scope,
        "attributes": attributes,
        "cost": costs,
        "times": times,
        **decisions_data(decisions, overrides),
    }
    source = files or f"generation {generation}"
    session.answer(
        "Check", data, lambda: decisions_blocks(scope, decisions, source, overrides, costs)
    )
    return 0 if all(decisions) else 1


__all__ = ["check"]
