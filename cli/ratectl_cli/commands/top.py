"""``ratectl top``."""

from enum import StrEnum
from typing import Annotated

import typer

from ratectl_cli.commands.options import UsageScope, Watch
from ratectl_cli.framework.session import session_of

_KEYS = 20
"""Keys to show where no number is asked for."""


class Sort(StrEnum):
    """Orders of keys."""

    REQUESTS = "requests"
    REFUSED = "refused"
    USED = "used"


def top(
    ctx: typer.Context,
    scope: UsageScope = None,
    sort: Annotated[
        Sort,
        typer.Option("--sort", metavar="|".join(Sort), help="Show the largest number first."),
    ] = Sort.REQUESTS,
    limit: Annotated[
        int | None,
        typer.Option(
            "-n",
            "--limit",
            metavar="N",
            min=1,
            show_default=False,
            help="Show so many keys.  [default: 20]",
        ),
    ] = None,
    watch: Watch = False,
) -> int:
    """Show the keys with the most requests.

    Adds up the busiest keys that agents report, at most 20 of each limit. REQUESTS and SHARE (of
    all requests to the limit) are of the last minutes: every five minutes, agents halve these
    counts. REFUSED counts since each agent started; USED is the key's fullest bucket in any agent
    now. A number without ± is exact; ~ means that no bound of its error is
    known, and ? that the number is unknown. Limits that do not count per key are not shown.

    With --watch the screen shows all keys live: `h` lists what to press.

    Examples:
      ratectl top
      ratectl top /payments --sort refused -n 5
      ratectl top --watch
      ratectl top -o json | jq '.keys[] | select(.used >= 0.8) | .key'

    Exit codes:
      0   the store answers
      64  wrong arguments, or no terminal (with --watch)
      69  store unreachable
      130 ended by Ctrl-C (with --watch)
    """
    from ratectl.errors import UsageError
    from ratectl_cli.prompts.usage import Wanted, show_top

    session = session_of(ctx)
    wanted = Wanted.of(scope, sort.value)
    if not watch:
        return show_top(session, wanted, limit or _KEYS)
    if limit is not None:
        raise UsageError("--watch shows all keys: leave out -n")
    from ratectl_cli.prompts.live import watch_usage

    return watch_usage(session, wanted, "keys")


__all__ = ["top"]
