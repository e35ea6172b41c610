"""``ratectl cluster status``."""

import typer

from ratectl_cli.framework.session import session_of


def status(ctx: typer.Context) -> int:
    """Show members, their shares, the owners, and which limits they share.

    Processes that share limits (`across: cluster`) are members. Each owns a share of all limits;
    two owners pool the shares and hand out tokens. A member is silent if no agent of its name has
    reported recently: its process has ended, is cut off from the store, or has just begun. It is
    unclear if there are several members of the name, of which at most one can run. The command
    reads the store once, so it cannot tell if an entry is still renewed.

    Each problem has a line of its own. Agents report that they cannot reach an owner, or that they
    have not joined and count alone.

    Below the members, it lists the limits of the live generation that the members share, and those
    with `across: cluster` that each agent still counts separately, with the reason.

    Examples:
      ratectl cluster
      ratectl cluster status -o json | jq -r '.members[] | select(.state != "reporting") | .id'

    Exit codes:
      0   all is well, or there is no member
      1   there is a problem: a shard has no owner, a member is silent, an agent reports a problem,
          or a record is damaged
      64  wrong arguments
      69  store unreachable
    """
    from ratectl_cli.prompts.cluster import answer_status

    return answer_status(session_of(ctx))


__all__ = ["status"]
