"""``ratectl usage reset``."""

from typing import Annotated

import typer

from ratectl_cli.commands.options import Attributes, Confirm, Sign, Yes
from ratectl_cli.framework.session import session_of


def reset(
    ctx: typer.Context,
    scope: Annotated[
        str, typer.Argument(metavar="SCOPE", help="Declared scope of the bucket, like /payments.")
    ],
    limit: Annotated[
        str, typer.Option("--limit", metavar="NAME", help="Limit, or with --budget the budget.")
    ],
    reason: Annotated[
        str, typer.Option("--reason", metavar="REASON", help="Reason, shown to other people.")
    ],
    key: Annotated[
        str | None,
        typer.Option(
            "--key", metavar="VALUE", help="The key, if the limit counts per one attribute."
        ),
    ] = None,
    attr: Attributes = None,
    absent: Annotated[
        list[str] | None,
        typer.Option(
            "--absent", metavar="NAME", help="Attribute that the requests lack. Repeatable."
        ),
    ] = None,
    budget: Annotated[
        bool, typer.Option("--budget", help="Reset a budget that SCOPE declares.")
    ] = False,
    expires: Annotated[
        str,
        typer.Option(
            "--expires", metavar="DURATION", help="Agents obey it for so long: up to 10min."
        ),
    ] = "2min",
    wait: Annotated[
        bool,
        typer.Option("--wait", help="Return when every agent has obeyed, usually within a second."),
    ] = False,
    yes: Yes = False,
    confirm: Confirm = None,
    sign: Sign = None,
) -> int:
    """Make the buckets of one key full.

    Every agent that runs makes this key's buckets of the limit at SCOPE full, once, with those of
    all overrides. Other keys, limits and scopes stay as they are. Slots that are held are
    forgotten. Agents that start later have full buckets anyway. Shows the limit and what agents
    report of the key, and asks. The history (`ratectl history`) shows a hash of the key.

    Examples:
      ratectl usage reset /payments --limit daily --key acme --reason "INC-42: their retry storm"
      ratectl usage reset /payments --limit steady -a tenant=acme -a route=/v1/x --reason INC-42
      ratectl usage reset / --limit fleet --budget --reason INC-42 --wait --yes

    Exit codes:
      0    ordered
      1    declined, or ordered and there is no agent (--wait)
      64   wrong arguments, no such limit or key, or nobody to ask and no --yes
      65   nothing is published, or it cannot be read
      69   store unreachable
      75   others reset buckets at the same time
      77   a signature is needed, and --sign is missing; or too many resets have not expired
      124  out of time: not every agent has obeyed (--wait), or nothing was ordered
    """
    from ratectl.resets.finding import GivenKey
    from ratectl_cli.inputs.policies import attributes_of
    from ratectl_cli.prompts import resetting

    given = GivenKey(key, attributes_of(attr or []), absent or ())
    manner = resetting.Manner(
        reason, resetting.expiry_of(expires), wait=wait, yes=yes, confirm=confirm, sign=sign
    )
    return resetting.reset(session_of(ctx), scope, limit, given, manner, budget=budget)


__all__ = ["reset"]
