"""``ratectl cluster size``."""

from typing import Annotated

import typer

from ratectl_cli.framework.session import session_of


def size(
    ctx: typer.Context,
    rate: Annotated[
        str, typer.Option("--rate", metavar="RATE", help="Rate of the limit, like 5000/s.")
    ],
    members: Annotated[
        int,
        typer.Option("--members", metavar="N", min=1, max=10_000, help="Processes that share it."),
    ],
    burst: Annotated[
        int | None,
        typer.Option(
            "--burst",
            metavar="N",
            min=1,
            max=10**15,
            show_default=False,
            help="Burst of the limit.  [default: one second of the rate]",
        ),
    ] = None,
    rtt: Annotated[
        str,
        typer.Option(
            "--rtt", metavar="DURATION", help="Round trip between two processes: below 500ms."
        ),
    ] = "1ms",
) -> int:
    """Estimate how much of a limit a cluster would use.

    Compares a limit with `across: cluster` with one central bucket of the same rate and burst, for
    requests that come three times as fast as the rate. The cluster never admits more. It admits
    less if the burst is small for the rate, for the members or for the network, because tokens that
    members hold still occupy the bucket. Shows an estimate for requests that are the same for every
    member, and one for a tenth of the members with nine tenths of the requests. An estimate of
    all is reliable; smaller ones differ from simulations by up to 20 percentage points. Needs no
    store.

    Also shows messages between processes, writes to the store, and how long a crash is felt.

    Examples:
      ratectl cluster size --rate 5000/s --burst 10000 --members 20 --rtt 2ms
      ratectl cluster size --rate 1000/s --burst 50 --members 20 --rtt 10ms

    Exit codes:
      0   the burst is large enough
      1   the burst is too small: the output names the smallest one that is enough
      64  wrong arguments
    """
    from ratectl_cli.prompts.cluster import answer_size

    return answer_size(session_of(ctx), rate, burst, members, rtt)


__all__ = ["size"]
