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

    Without it, one of the processes that share limits is their owner: it also hands out the tokens
    of all others. A dedicated owner does this work for them. It needs no policies and decides no
    requests. When it starts, it takes over from the owner that it finds.

    If you run two, one is the owner and the other stands by. SIGTERM or Ctrl-C hands over to the
    one that stands by, or to an application, and then ends the process.

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
