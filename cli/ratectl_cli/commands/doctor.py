"""``ratectl doctor``."""

from dataclasses import replace

import typer

from ratectl_cli.framework import clock
from ratectl_cli.framework.session import session_of


def doctor(ctx: typer.Context) -> int:
    """Check the store, the agents and this machine for problems.

    Checks the environment (which one it is, what was published there, its protection), the store
    (does it answer, is it new enough), TLS, credentials, the published policies,
    kill switches, agents (stale, rejecting, behind), members that share limits, clocks and the
    engine of this machine.
    Changes nothing.

    Examples:
      ratectl doctor
      ratectl doctor -o json | jq '.findings[] | select(.verdict == "failed")'

    Exit codes:
      0   nothing failed (there may be warnings)
      1   something failed
      64  wrong arguments or settings
    """
    from ratectl.health import examine
    from ratectl_cli.render.health import checks_blocks, checks_data

    session = session_of(ctx)
    with session.busy("looking"):
        checks = examine(session.target, clock.now(), session.store)
    repeated = session.selector.repeated
    checks = [replace(check, message=repeated(check.message)) for check in checks]
    data = checks_data(checks)
    session.answer("Doctor", data, lambda: checks_blocks(checks))
    return 0 if data["healthy"] else 1


__all__ = ["doctor"]
