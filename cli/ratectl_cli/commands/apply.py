"""``ratectl apply``."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ratectl.errors import UsageError
from ratectl_cli.errors import Refused
from ratectl_cli.session import Session, session_of
from ratectl_cli.sets import Prune, SetName, Take, choice_of
from ratectl_cli.signing import Sign, key_of, signed_as_wanted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratectl.acknowledgement import Enough
    from ratectl.plan import SavedPlan
    from ratectl.rollout import Terms
    from ratectl.signing import Signer
    from ratectl.stores.base import Store
    from ratectl_cli.publication import Proposal


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
            help="What each stage must have decided.  [default: 100]",
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
           and aborted, or no agent is there to try it (--canary)
      64   wrong arguments, or nobody to ask and no --yes
      65   invalid policies, or a damaged plan
      69   store unreachable
      75   a stale plan, or somebody else published meanwhile, or tries a candidate
      77   nothing to apply, a guard refuses it, it belongs to another set, or what is live beside
           it was not signed by the same key
      124  published, but not enough agents run it in time (--wait), or it is still being tried
    """
    from ratectl import guards
    from ratectl_cli import publication
    from ratectl_cli.policies import read_plan, read_usable

    session = session_of(ctx)
    wanted = _wanted(wait, wait_for)
    trial = _trial(canary, shadow, {"bake": bake, "min-requests": min_requests, "band": band})
    if trial is not None and wanted is not None:
        raise UsageError("--wait and --wait-for are for what goes live at once: leave them out")
    if sign is not None and allow_unsigned.strip():
        raise UsageError("--sign signs, and --allow-unsigned ends that: give one of them")
    signer = key_of(sign)
    choice = choice_of(set_, prune=prune, take=take_ownership)
    reasons = {
        guards.EMPTY: allow_empty,
        guards.REMOVALS: allow_removals,
        guards.GROWTH: allow_growth,
        guards.BELOW_USE: allow_below_use,
        guards.PROTECTED: allow_protected,
        guards.UNSIGNED: allow_unsigned,
    }
    with session.busy("reading policies"):
        plan = read_plan(path)
        if plan is None:
            empty, part = bool(allow_empty.strip()), choice is not None
            loaded = read_usable(path, empty=empty, part=part)
        elif choice is not None:
            raise UsageError("a saved plan knows which set it is for: leave out --set")
    with session.store() as store:
        with session.busy("comparing with the live generation"):
            if plan is not None:
                proposal = _planned(session, store, plan, message)
            else:
                provenance = publication.provenance_of(path, message)
                proposal = publication.compare_with_live(
                    session, store, path, loaded, provenance, choice
                )
        publication.warn(session, proposal)
        same = publication.is_live(proposal)
        unsigned = bool(allow_unsigned.strip())
        if same and signed_as_wanted(store, proposal.base, signer, unsigned=unsigned):
            return _unchanged(session, proposal, store, path, wanted)
        if same and trial is not None:
            raise Refused("what is live says the same: apply it to have it signed")
        source = path if plan is None else f"{path}, planned {plan.created} of {plan.source}"
        publication.show_changes(session, proposal, publication.title_of(proposal, source))
        proposal = publication.pass_guards(
            session, publication.sign_guard(proposal, signer), reasons
        )
        if dry_run:
            publication.answer_dry(session, proposal)
            return 0
        if trial is not None:
            return _try(session, proposal, store, trial, signer, yes=yes, shadow=shadow)
        session.confirm(f"Publish as generation {proposal.base.next}?", yes=yes)
        return _publish(session, proposal, store, path, wanted, signer)


def _trial(canary: str | None, shadow: bool, terms: "Mapping[str, Any]") -> "Terms | None":
    from ratectl_cli.rollouts import terms_of

    if shadow and canary is not None:
        raise UsageError("--shadow enforces nothing anywhere, so it has no --canary: choose one")
    given = [name for name, value in terms.items() if value is not None]
    if canary is None and given:
        raise UsageError(f"--{given[0]} is for the stages of a --canary")
    if shadow:
        return terms_of("100", 0, 0, "none")
    if canary is None:
        return None
    bake, least, band = terms.values()
    return terms_of(
        canary,
        60.0 if bake is None else bake,
        100 if least is None else least,
        "5" if band is None else band,
    )


def _try(
    session: Session,
    proposal: "Proposal",
    store: "Store",
    terms: "Terms",
    signer: "Signer | None",
    *,
    yes: bool,
    shadow: bool,
) -> int:
    from ratectl.rollout import read_rollout, start
    from ratectl.usage import read_agents
    from ratectl_cli import rollouts
    from ratectl_cli.errors import NobodyThere

    if not shadow and not read_agents(store):
        raise NobodyThere("no agent is there to try it: start one, or apply without --canary")
    how = "in shadow" if shadow else f"in {terms.stages[0]:g}% of all agents"
    session.confirm(f"Try generation {proposal.base.next} {how}?", yes=yes)
    entry = start(
        store,
        proposal.published,
        proposal.provenance,
        terms,
        mode="shadow" if shadow else "enforce",
        base=proposal.base,
        summary=proposal.summary,
        signer=signer,
        beside=proposal.beside,
    )
    assert entry is not None, "what is live already was found out before"
    rollout = read_rollout(store, entry.generation)
    if shadow:
        rollouts.answer_rollout(session, rollout.record, rollout.live, None)
        return 0
    record, verdict = rollouts.control(session, store, rollout, signer)
    live = read_rollout(store, entry.generation).live
    rollouts.answer_rollout(session, record, live, verdict)
    return rollouts.exit_code(record)


def _planned(session: Session, store: "Store", plan: "SavedPlan", message: str) -> "Proposal":
    """What a saved plan says, as of whoever applies it now."""
    from dataclasses import replace

    from ratectl.plan import still_live
    from ratectl.provenance import gather
    from ratectl.sets import Owners, owners_blob, read_owners
    from ratectl_cli.policies import tree_to_compare
    from ratectl_cli.publication import guarded, propose

    base = still_live(store, plan)
    provenance = replace(
        plan.provenance, author=gather(".").author, message=message or plan.provenance.message
    )
    old = tree_to_compare(session, store, base)
    proposal = propose("apply", base, old, plan.tree(), provenance)
    before = read_owners(store, owners_blob(store, base))
    reowned = (plan.beside.owners or Owners()) != before
    proposal = replace(proposal, beside=plan.beside, reowned=reowned)
    return guarded(session, store, proposal)


def _wanted(wait: bool, wait_for: str | None) -> "Enough | None":
    from ratectl.acknowledgement import Enough

    if wait_for is None:
        return Enough() if wait else None
    if wait:
        raise UsageError("--wait is for every agent, --wait-for for some: give one of them")
    try:
        return Enough.parse(wait_for)
    except ValueError as error:
        raise UsageError(f"--wait-for {error}") from None


def _unchanged(
    session: Session, proposal: "Proposal", store: "Store", path: str, wanted: "Enough | None"
) -> int:
    from ratectl_cli import publication, waiting

    waited = waiting.wait(session, store, proposal.base.generation, wanted)
    publication.answer_unchanged(session, proposal, f"says the same as {path}", waited)
    return waiting.exit_code(waited)


def _publish(
    session: Session,
    proposal: "Proposal",
    store: "Store",
    path: str,
    wanted: "Enough | None",
    signer: "Signer | None",
) -> int:
    from ratectl.publish import publish
    from ratectl_cli import publication, waiting

    with session.busy("publishing"):
        entry = publish(
            store,
            proposal.published,
            proposal.provenance,
            base=proposal.base,
            summary=proposal.summary,
            signer=signer,
            beside=proposal.beside,
            anew=publication.is_live(proposal),
        )
    if entry is None:
        return _unchanged(session, proposal, store, path, wanted)
    waited = waiting.wait(session, store, entry.generation, wanted)
    publication.answer_published(session, proposal, entry, waited)
    return waiting.exit_code(waited)


__all__ = ["apply"]
