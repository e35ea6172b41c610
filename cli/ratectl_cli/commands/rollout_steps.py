"""``ratectl rollout status``, ``run``, ``pause``, ``promote`` and ``abort``."""

from typing import TYPE_CHECKING, Annotated

import typer

from ratectl_cli.framework.session import Session, session_of
from ratectl_cli.inputs.signing import Sign, key_of

if TYPE_CHECKING:
    from ratectl.rollout import Underway
    from ratectl.stores.base import Store

Reason = Annotated[str, typer.Option("--reason", metavar="WHY", help="Why, for the record.")]
Yes = Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")]

_TELLS = "ratectl rollout status"


def status(ctx: typer.Context) -> int:
    """Show how a rollout stands, or how it ended.

    Of the last one there was; and which process controls it, if one does.

    Examples:
      ratectl rollout status
      ratectl rollout status -o json | jq .state

    Exit codes:
      0   running, paused or promoted
      1   aborted
      65  there has been none
      69  store unreachable
    """
    from ratectl.rollout import read_rollout

    session = session_of(ctx)
    with session.store() as store:
        rollout = read_rollout(store)
        _answer(session, store, rollout)
    return 1 if rollout.record.state == "aborted" else 0


def run(ctx: typer.Context, sign: Sign = None) -> int:
    """Control a rollout from here, from stage to stage.

    Goes on where another controller has ended, and where the rollout was paused. While this runs,
    agents that are to take part do so; the candidate is aborted when one of them rejects it or
    dies of it, or when they refuse much more or less than the others, and promoted after its last
    stage. After --timeout it is left as it is: nobody new takes part then.

    Examples:
      ratectl rollout run
      ratectl rollout run --timeout 3600

    Exit codes:
      0    promoted; or resumed, and whoever controls it goes on
      1    aborted
      65   there has been none
      69   store unreachable
      75   it is over, or somebody else controls it
      77   it is evaluated in shadow; or what is live is signed, and not by the key that is named
      124  neither promoted nor aborted in time
    """
    from ratectl.rollout import controller_of, read_rollout, require_stages, resume
    from ratectl.signing.continuation import require_signer
    from ratectl_cli.prompts import rollouts

    session = session_of(ctx)
    with session.store() as store:
        rollout = read_rollout(store)
        _ = rollout.candidate  # there must be one
        require_stages(rollout)
        signer = key_of(sign)
        require_signer(rollout.live.head, signer)
        if rollout.record.state == "paused":
            session.deadline.changing(_TELLS)
            resume(store, rollout, _author())
            rollout = read_rollout(store, rollout.record.generation)
            other = controller_of(store, rollout.record.id)
            if other is not None:
                session.say(f"{other} controls it, and goes on")
                _answer(session, store, rollout)
                return 0
        return rollouts.controlled(session, store, rollout, signer)


def pause(ctx: typer.Context, reason: Reason = "") -> int:
    """Stay in this stage until `rollout run`.

    Who takes part goes on doing so; a stage begins anew after a pause.

    Examples:
      ratectl rollout pause --reason "looking at /payments"

    Exit codes:
      0   paused
      65  there has been no rollout
      69  store unreachable
      75  it is over, or was changed meanwhile
      77  it is evaluated in shadow: there are no stages
    """
    from ratectl.rollout import pause as pause_it
    from ratectl.rollout import read_rollout

    session = session_of(ctx)
    with session.store() as store:
        rollout = read_rollout(store)
        session.deadline.changing(_TELLS)
        pause_it(store, rollout, _author(), reason)
        _answer(session, store, read_rollout(store))
    return 0


def promote(ctx: typer.Context, yes: Yes = False, reason: Reason = "", sign: Sign = None) -> int:
    """Make the candidate live now.

    Whatever stages it has not been through: every agent takes it.

    Examples:
      ratectl rollout promote
      ratectl rollout promote --yes --reason "no traffic on Sundays"

    Exit codes:
      0   promoted
      1   declined
      64  nobody to ask, and no --yes
      65  there has been no rollout
      69  store unreachable
      75  it is over, or was changed meanwhile
      77  what is live is signed, and not by the key that is named
    """
    from ratectl.rollout import promote as make_live
    from ratectl.rollout import read_rollout
    from ratectl.signing.continuation import require_signer

    session = session_of(ctx)
    with session.store() as store:
        rollout = read_rollout(store)
        generation = rollout.candidate.generation
        signer = key_of(sign)
        require_signer(rollout.live.head, signer)
        session.confirm(f"Make generation {generation} live in every agent?", yes=yes)
        session.deadline.changing(_TELLS)
        make_live(store, rollout, _author(), reason, signer)
        _answer(session, store, read_rollout(store, generation))
    return 0


def abort(ctx: typer.Context, reason: Reason = "", sign: Sign = None) -> int:
    """Have every agent go back to what is live.

    At once: to abort is the safe way, so nobody is asked.

    Examples:
      ratectl rollout abort --reason "checkout refuses too much"

    Exit codes:
      0   aborted
      65  there has been no rollout
      69  store unreachable
      75  it is over, or was changed meanwhile
      77  what is live is signed, and not by the key that is named
    """
    from ratectl.rollout import abort as end_it
    from ratectl.rollout import read_rollout

    session = session_of(ctx)
    with session.store() as store:
        rollout = read_rollout(store)
        session.deadline.changing(_TELLS)
        end_it(store, rollout, _author(), reason, key_of(sign))
        _answer(session, store, read_rollout(store, rollout.record.generation))
    return 0


def _author() -> str:
    from ratectl.publishing.provenance import gather

    return gather(".").author


def _answer(session: Session, store: "Store", rollout: "Underway") -> None:
    from ratectl.rollout import status_of
    from ratectl_cli.prompts import rollouts

    rollouts.answer_rollout(session, status_of(store, rollout, session.warn))


__all__ = ["abort", "pause", "promote", "run", "status"]
