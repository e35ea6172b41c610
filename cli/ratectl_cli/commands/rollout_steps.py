"""``ratectl rollout status``, ``run``, ``pause``, ``promote`` and ``abort``."""

from typing import Annotated

import typer

from ratectl_cli.commands.options import Confirm, Sign, Yes
from ratectl_cli.framework.session import session_of

Reason = Annotated[str, typer.Option("--reason", metavar="WHY", help="Reason, for the record.")]


def status(ctx: typer.Context) -> int:
    """Show the state of the last rollout.

    Also shows which process controls it, if one does.

    Examples:
      ratectl rollout status
      ratectl rollout status -o json | jq .state

    Exit codes:
      0   running, paused or promoted
      1   aborted
      65  there has been no rollout
      69  store unreachable
    """
    from ratectl_cli.prompts import rollouts

    return rollouts.show_status(session_of(ctx))


def run(ctx: typer.Context, sign: Sign = None) -> int:
    """Control a rollout: move it from stage to stage.

    Continues after a pause, or after another controller has ended. Agents join only while a
    controller runs. The candidate is aborted if an agent rejects it, if an agent that tries it
    dies, or if the agents that try it refuse many more or many fewer of their requests than the
    other agents. It is promoted after its last stage. After --timeout the rollout stays as it is,
    but no more agents join. Asks nothing: the rollout was confirmed when it began.

    Examples:
      ratectl rollout run
      ratectl rollout run --timeout 3600

    Exit codes:
      0    promoted; or resumed, and another process controls it
      1    aborted
      65   there has been no rollout
      69   store unreachable
      75   it has ended, or another process controls it
      77   it is evaluated in shadow; or the live generation is signed, and not by the key of --sign
      124  neither promoted nor aborted in time
    """
    from ratectl_cli.prompts import rollouts

    return rollouts.run(session_of(ctx), sign)


def pause(ctx: typer.Context, reason: Reason = "") -> int:
    """Stay in the current stage until `rollout run`.

    Agents that take part continue to do so. After the pause the stage starts again.

    Examples:
      ratectl rollout pause --reason "looking at /payments"

    Exit codes:
      0   paused
      65  there has been no rollout
      69  store unreachable
      75  it has ended, or was changed meanwhile
      77  it is evaluated in shadow: there are no stages
    """
    from ratectl_cli.prompts import rollouts

    rollouts.pause(session_of(ctx), reason)
    return 0


def promote(
    ctx: typer.Context,
    yes: Yes = False,
    confirm: Confirm = None,
    reason: Reason = "",
    sign: Sign = None,
) -> int:
    """Make the candidate live now.

    Skips the stages that are left: every agent runs the candidate.

    Examples:
      ratectl rollout promote
      ratectl rollout promote --yes --reason "no traffic on Sundays"

    Exit codes:
      0   promoted
      1   declined
      64  nobody to ask, and no --yes
      65  there has been no rollout
      69  store unreachable
      75  it has ended, or was changed meanwhile
      77  the live generation is signed, and not by the key of --sign
    """
    from ratectl_cli.prompts import rollouts

    rollouts.promote(session_of(ctx), reason, sign, yes=yes, confirm=confirm)
    return 0


def abort(ctx: typer.Context, reason: Reason = "", sign: Sign = None) -> int:
    """End the rollout: every agent returns to the live generation.

    Happens at once and without a question, because aborting is safe.

    Examples:
      ratectl rollout abort --reason "checkout refuses too much"

    Exit codes:
      0   aborted
      65  there has been no rollout
      69  store unreachable
      75  it has ended, or was changed meanwhile
      77  the live generation is signed, and not by the key of --sign
    """
    from ratectl_cli.prompts import rollouts

    rollouts.abort(session_of(ctx), reason, sign)
    return 0


__all__ = ["abort", "pause", "promote", "run", "status"]
