"""``ratectl cluster run``."""

from typing import Annotated

import typer

from ratectl_cli.framework.session import session_of


def run(
    ctx: typer.Context,
    name: Annotated[
        str | None,
        typer.Option(
            "--id",
            metavar="ID",
            help="First part of its id, which no agent has.  [default: owner-HOST]",
        ),
    ] = None,
) -> int:
    """Run a dedicated owner of limits across the cluster until stopped.

    Without it, two of the processes that share limits are their owners: each also hands out tokens
    of half of the limits to all others. A dedicated owner does this work for them. It needs no
    policies and decides no requests. When it starts, it takes over from the owners that it finds.

    If you run two, each owns half of the limits, and a crash of one leaves the other half. More of
    them stand by. SIGTERM or Ctrl-C hands over to another one, or to applications, and then ends
    the process.

    With etcd, it needs RATECTL_CLUSTER_LISTEN and certificates, as agents do.

    Examples:
      ratectl cluster run
      ratectl cluster run --id owner-a --store etcd://etcd:2379/prod

    Exit codes:
      0   stopped by SIGTERM or SIGINT
      64  wrong arguments, no address for peers, or certificates that cannot be used
      69  store unreachable
      77  the store refuses its user
    """
    from ratectl_cli.prompts.cluster_run import run_owner

    return run_owner(session_of(ctx), name)


__all__ = ["run"]
