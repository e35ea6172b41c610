"""``ratectl apply``."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ratectl.errors import Refused, UsageError
from ratectl_cli.framework.session import session_of
from ratectl_cli.inputs.sets import Prune, SetName, Take, choice_of
from ratectl_cli.inputs.signing import Sign, key_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratectl.fleet.convergence import Enough
    from ratectl.publishing.reading import PolicySource
    from ratectl.rollout import Terms


def _reason(flag: str, why: str) -> Any:
    """The option that passes a guard."""
    return typer.Option(flag, metavar="REASON", help=f"Why to {why}.")


AllowEmpty = Annotated[str, _reason("--allow-empty", "remove every policy")]
AllowRemovals = Annotated[
    str, _reason("--allow-removals", "remove more than a fifth of all scopes")
]
AllowGrowth = Annotated[str, _reason("--allow-growth", "more than double a large bundle")]
AllowBelowUse = Annotated[
    str, _reason("--allow-below-use", "cut limits below what was used lately")
]
AllowProtected = Annotated[str, _reason("--allow-protected", "change protected scopes")]
AllowUnsigned = Annotated[str, _reason("--allow-unsigned", "end the signing of generations")]
AllowUnverified = Annotated[
    str, _reason("--allow-unverified", "sign what other sets own, which this key has not signed")
]


def apply(
    ctx: typer.Context,
    path: Annotated[
        str,
        typer.Argument(
            metavar="PATH|PLAN", help="File or directory of policies, - for stdin, or a saved plan."
        ),
    ],
    message: Annotated[
        str, typer.Option("-m", "--message", metavar="MSG", help="Why, for the history.")
    ] = "",
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Return when every agent runs it, or one rejects it.")
    ] = False,
    wait_for: Annotated[
        str | None,
        typer.Option("--wait-for", metavar="N|P%", help="The same, for so many agents."),
    ] = None,
    canary: Annotated[
        str | None,
        typer.Option(
            "--canary",
            metavar="P%[,P%…]",
            help="Try it in so many agents first, then in more, and control that from here.",
        ),
    ] = None,
    shadow: Annotated[
        bool,
        typer.Option(
            "--shadow", help="Have agents evaluate it beside what is live, and enforce nothing."
        ),
    ] = False,
    bake: Annotated[
        float | None,
        typer.Option(
            "--bake",
            metavar="SECONDS",
            min=0,
            help="How long each stage lasts at least.  [default: 60]",
        ),
    ] = None,
    min_requests: Annotated[
        int | None,
        typer.Option(
            "--min-requests",
            metavar="N",
            min=0,
            help="What each stage must have decided, to be compared with others.  "
            "[default: 100]; 0 waits for neither",
        ),
    ] = None,
    band: Annotated[
        str | None,
        typer.Option(
            "--band",
            metavar="POINTS|none",
            help="By how many percentage points refusals may differ from the other agents'.  "
            "[default: 5]",
        ),
    ] = None,
    sign: Sign = None,
    set_: SetName = None,
    prune: Prune = False,
    take_ownership: Take = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Do all but ask and publish; guards refuse as well.")
    ] = False,
    allow_empty: AllowEmpty = "",
    allow_removals: AllowRemovals = "",
    allow_growth: AllowGrowth = "",
    allow_below_use: AllowBelowUse = "",
    allow_protected: AllowProtected = "",
    allow_unsigned: AllowUnsigned = "",
    allow_unverified: AllowUnverified = "",
) -> int:
    """Publish policies as the next generation.

    Validates PATH, shows what requests would notice against the live generation, asks, and
    publishes: all of it or nothing. PATH is the whole tree: what it does not hold is removed.
    Policies that are live already make no generation. A value above a cap is a warning where the
    live generation says the same: agents clip it, and the cap may be lowered at once. A plan that
    `ratectl plan --out` saved publishes what it holds, if the generation that it was compared with
    is still live.

    --wait and --wait-for return when agents run the generation, which is live in any case; after
    --timeout, or else a minute, they give up.

    --canary publishes a candidate beside the live generation: agents try it, stage by stage, for
    as long as this command controls them. It is aborted when one of them rejects it or dies of it,
    or refuses much more or less than the others do, and becomes live after the last stage. One
    share is followed by 25%, 50% and 100%; several are all there is. See `ratectl rollout`.

    --set publishes a part of a tree that several repositories own: what is live of others stays as
    it is, and PATH becomes what the set owns. A scope has one owner.

    Guards refuse what has taken services down elsewhere: each can be passed by an option of its
    own, with a reason, which the history keeps.

    Examples:
      ratectl apply policies/
      ratectl apply policies/ -m "CHG-8841: tighter checkout" --yes
      ratectl apply plan.json --yes --wait --timeout 30
      ratectl apply policies/ --yes --canary 5% --bake 300
      ratectl apply policies/ --set payments --prune --yes
      RATECTL_STORE=etcd://etcd:2379/prod ratectl apply policies/ --yes -o json

    Exit codes:
      0    published, or live already
      1    declined; or published, but an agent rejects it, or none is there (--wait); or tried
           and aborted, or no agents are there to try it (--canary)
      64   wrong arguments, or nobody to ask and no --yes
      65   invalid policies, or a damaged plan
      69   store unreachable
      75   a stale plan, or somebody else published meanwhile, or tries a candidate
      77   nothing to apply, a guard refuses it, it belongs to another set, or what is live beside
           it was not signed by the same key
      124  out of time: not enough agents run it (--wait), it is still being tried (--canary), or
           earlier: `ratectl history` says what is live
    """
    from ratectl.changes import guards
    from ratectl.publishing.propose import propose
    from ratectl.publishing.saved_plan import read_plan
    from ratectl_cli.prompts import publication
    from ratectl_cli.prompts.applying import Manner, applied
    from ratectl_cli.render.times import now_ns

    session = session_of(ctx)
    manner = Manner(
        wanted=_wanted(wait, wait_for),
        terms=_terms(canary, shadow, {"bake": bake, "min-requests": min_requests, "band": band}),
        shadow=shadow,
        signer=key_of(sign),
        reasons={
            guards.EMPTY: allow_empty,
            guards.REMOVALS: allow_removals,
            guards.GROWTH: allow_growth,
            guards.BELOW_USE: allow_below_use,
            guards.PROTECTED: allow_protected,
            guards.UNSIGNED: allow_unsigned,
            guards.UNVERIFIED: allow_unverified,
        },
        yes=yes,
        dry_run=dry_run,
    )
    choice = choice_of(set_, prune=prune, take=take_ownership)
    with session.busy("reading policies"):
        plan = read_plan(path)
        if plan is not None and choice is not None:
            raise UsageError("a saved plan knows which set it is for: leave out --set")
        source = plan or _source(path, empty=bool(allow_empty.strip()), part=choice is not None)
    with session.store() as store:
        with session.busy("comparing with the live generation"):
            proposal = propose(
                store,
                source,
                message=message,
                choice=choice,
                signer=manner.signer,
                now_ns=now_ns(),
            )
        publication.warn(session, proposal)
        title = path if plan is None else f"{path}, planned {plan.created} of {plan.source}"
        return applied(session, proposal, path, title, manner)


def _source(path: str, *, empty: bool, part: bool) -> "PolicySource":
    from ratectl_cli.inputs.policies import read_source

    try:
        return read_source(path, allow_empty=empty, part=part)
    except Refused as refused:
        refused.add_note("if it is meant, add --allow-empty REASON")
        raise


def _terms(canary: str | None, shadow: bool, given: "Mapping[str, Any]") -> "Terms | None":
    from ratectl.rollout import Terms
    from ratectl_cli.prompts.rollouts import terms_of

    if shadow and canary is not None:
        raise UsageError("--shadow enforces nothing anywhere, so it has no --canary: choose one")
    said = [name for name, value in given.items() if value is not None]
    if canary is None and said:
        raise UsageError(f"--{said[0]} is for the stages of a --canary")
    if shadow:
        return Terms.of([100.0], bake_seconds=0.0, min_requests=0, band=None)
    return None if canary is None else terms_of(canary, *given.values())


def _wanted(wait: bool, wait_for: str | None) -> "Enough | None":
    from ratectl.fleet.convergence import Enough

    if wait_for is None:
        return Enough() if wait else None
    if wait:
        raise UsageError("--wait is for every agent, --wait-for for some: give one of them")
    try:
        return Enough.parse(wait_for)
    except ValueError as error:
        raise UsageError(f"--wait-for {error}") from None


__all__ = ["apply"]
