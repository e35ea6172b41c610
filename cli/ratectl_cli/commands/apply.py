"""``ratectl apply``."""

from typing import Annotated, Any

import typer

from ratectl_cli.commands.options import Confirm, Message, Prune, SetName, Sign, TakeOwnership, Yes
from ratectl_cli.framework.session import session_of


def _reason(flag: str, why: str) -> Any:
    """Declare the option that passes a guard."""
    return typer.Option(flag, metavar="REASON", help=f"Reason to {why}.")


AllowEmpty = Annotated[str, _reason("--allow-empty", "remove every policy")]
AllowRemovals = Annotated[
    str, _reason("--allow-removals", "remove more than a fifth of all scopes")
]
AllowGrowth = Annotated[
    str, _reason("--allow-growth", "more than double the size of a large bundle")
]
AllowBelowUse = Annotated[
    str, _reason("--allow-below-use", "set limits below their recent peak usage")
]
AllowProtected = Annotated[str, _reason("--allow-protected", "change protected scopes")]
AllowFirst = Annotated[
    str, _reason("--allow-first", "publish the first generation of an environment on a server")
]
AllowUnsigned = Annotated[
    str, _reason("--allow-unsigned", "publish without a signature after signed generations")
]
AllowUnverified = Annotated[
    str, _reason("--allow-unverified", "sign policies of other sets that this key has not signed")
]


def apply(
    ctx: typer.Context,
    path: Annotated[
        str | None,
        typer.Argument(
            metavar="PATH|PLAN",
            help="File or directory of policies, - for stdin, or a saved plan.  [default: the "
            "folder that ratectl.yaml names, or ./policies]",
            show_default=False,
        ),
    ] = None,
    message: Message = "",
    yes: Yes = False,
    confirm: Confirm = None,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait", help="Return when every agent runs the generation, or one rejects it."
        ),
    ] = False,
    wait_for: Annotated[
        str | None,
        typer.Option(
            "--wait-for",
            metavar="N|P%",
            help="Return when this number or share of agents runs the generation, or one "
            "rejects it.",
        ),
    ] = None,
    canary: Annotated[
        str | None,
        typer.Option(
            "--canary",
            metavar="P%[,P%…]",
            help="Try it in this share of agents first, then in more; this command controls the "
            "rollout.",
        ),
    ] = None,
    shadow: Annotated[
        bool,
        typer.Option(
            "--shadow",
            help="Let agents evaluate it beside the live generation, without enforcing it.",
        ),
    ] = False,
    bake: Annotated[
        float | None,
        typer.Option(
            "--bake",
            metavar="SECONDS",
            min=0,
            help="Shortest duration of a stage.  [default: 60]",
        ),
    ] = None,
    min_requests: Annotated[
        int | None,
        typer.Option(
            "--min-requests",
            metavar="N",
            min=0,
            help="Requests that the agents of a stage must decide, and the other agents too, "
            "before the stage ends.  [default: 100; 0: wait for no requests]",
        ),
    ] = None,
    band: Annotated[
        str | None,
        typer.Option(
            "--band",
            metavar="POINTS|none",
            help="Largest difference between the share of requests that these agents refuse and "
            "that of the other agents, in percentage points.  [default: 5]",
        ),
    ] = None,
    sign: Sign = None,
    set_: SetName = None,
    prune: Prune = False,
    take_ownership: TakeOwnership = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Do everything except ask and publish; guards refuse as usual."
        ),
    ] = False,
    allow_empty: AllowEmpty = "",
    allow_removals: AllowRemovals = "",
    allow_growth: AllowGrowth = "",
    allow_below_use: AllowBelowUse = "",
    allow_protected: AllowProtected = "",
    allow_first: AllowFirst = "",
    allow_unsigned: AllowUnsigned = "",
    allow_unverified: AllowUnverified = "",
) -> int:
    """Publish policies as the next generation.

    Validates PATH, shows the changes that affect requests, asks, and publishes everything or
    nothing. PATH is the whole tree: policies that it does not contain are removed. If PATH is live
    already, no generation is made. A value above a cap is a warning if the live generation has the
    same value: agents clip it, so a cap can be lowered at once. If PATH is a plan that `ratectl
    plan --out` saved, its content is published, if the generation that the plan was compared with
    is still live.

    --wait and --wait-for return when agents run the generation. They give up after --timeout, or
    after a minute; the generation is live in any case.

    --canary publishes a candidate beside the live generation. Agents try it in stages, while this
    command controls the rollout. The candidate is aborted if an agent rejects it, if an agent that
    tries it dies, or if the agents that try it refuse many more or many fewer of their requests
    than the other agents. After the last stage it becomes live. One share is followed by 25%, 50%
    and 100%; if you give several shares, no others are added. See `ratectl rollout`.

    --set publishes a part of a tree that several repositories own: PATH becomes the part of this
    set, and the live policies of other sets stay as they are. A scope has one owner.

    Guards refuse changes that often cause outages. Each guard has an option that passes it, with a
    reason, which the history keeps. Where an environment needs its name as confirmation, --confirm
    NAME answers instead of the prompt (see `ratectl env`).

    Examples:
      ratectl apply policies/
      ratectl apply policies/ -m "CHG-8841: tighter checkout" --yes
      ratectl apply plan.json --yes --wait --timeout 30
      ratectl apply -e production --confirm production
      ratectl apply policies/ --yes --canary 5% --bake 300
      ratectl apply policies/ --set payments --prune --yes
      RATECTL_STORE=etcd://etcd:2379/prod ratectl apply policies/ --yes -o json

    Exit codes:
      0    published, or live already
      1    declined; or published, but an agent rejects it, or there is no agent (--wait); or tried
           and aborted, or there are no agents to try it (--canary)
      64   wrong arguments, or nobody to ask and no --yes or --confirm
      65   invalid policies, or a damaged plan
      69   store unreachable
      75   a stale plan, somebody else published meanwhile, or a candidate is being tried
      77   nothing to apply, a guard refuses it, it belongs to another set, or the live policies of
           other sets were not signed by the same key
      124  out of time: not enough agents run it (--wait), it is still being tried (--canary), or
           it was not published: `ratectl history` shows what is live
    """
    from ratectl.changes import guards
    from ratectl_cli.inputs.sets import choice_of
    from ratectl_cli.inputs.signing import key_of
    from ratectl_cli.prompts import applying

    session = session_of(ctx)
    terms = {"bake": bake, "min-requests": min_requests, "band": band}
    manner = applying.Manner(
        wanted=applying.wanted_agents(wait, wait_for),
        terms=applying.rollout_terms(canary, shadow, terms),
        shadow=shadow,
        signer=key_of(session, sign),
        reasons={
            guards.EMPTY: allow_empty,
            guards.REMOVALS: allow_removals,
            guards.GROWTH: allow_growth,
            guards.BELOW_USE: allow_below_use,
            guards.PROTECTED: allow_protected,
            guards.FIRST: allow_first,
            guards.UNSIGNED: allow_unsigned,
            guards.UNVERIFIED: allow_unverified,
        },
        yes=yes,
        confirm=confirm,
        dry_run=dry_run,
    )
    choice = choice_of(set_, prune=prune, take=take_ownership)
    return applying.applied(
        session, session.policies if path is None else path, message, choice, manner
    )


__all__ = ["apply"]
