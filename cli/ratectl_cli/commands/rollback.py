"""``ratectl rollback``."""

from dataclasses import replace
from typing import Annotated

import typer

from ratectl_cli.commands.options import Confirm, Message, Sign, Yes
from ratectl_cli.framework import clock
from ratectl_cli.framework.session import session_of


def rollback(
    ctx: typer.Context,
    to: Annotated[
        int | None,
        typer.Option(
            "--to",
            metavar="GEN",
            min=1,
            help="Generation to publish again.  [default: the one before the live one, unless "
            "the live one is a rollback]",
        ),
    ] = None,
    message: Message = "",
    yes: Yes = False,
    confirm: Confirm = None,
    sign: Sign = None,
) -> int:
    """Publish an earlier generation again.

    History is never rewritten: the old policies, and their owners, become a new generation. Shows
    the changes that affect requests, and asks. No guard refuses a rollback. A second rollback needs
    --to: without it, it would publish the generation that was rolled back.

    Examples:
      ratectl rollback
      ratectl rollback --to 411 -m "checkout refuses too much" --yes

    Exit codes:
      0    published, or live already
      1    declined
      64   wrong arguments, no such generation, or nobody to ask and no --yes
      69   store unreachable
      75   somebody else published meanwhile, or a candidate is being tried
      77   there is no generation to go back to; a signature is needed and --sign is missing; the
           key did not sign that generation; or, without --to, the key did not sign the live
           generation, or the one before was a candidate
    """
    from ratectl.publishing.rollback import propose_rollback
    from ratectl_cli.inputs.signing import key_of
    from ratectl_cli.prompts import publication
    from ratectl_cli.prompts.confirming import check_name, confirmed

    session = session_of(ctx)
    with session.store() as store:
        with session.busy("comparing with the live generation"):
            proposal = propose_rollback(
                store,
                to,
                message=message,
                signer=key_of(session, sign),
                now_ns=clock.now_ns(),
                target=session.target,
            )
        session.changes(proposal.place)
        check_name(proposal.place, confirm)
        publication.warn(session, proposal)
        base, what = proposal.base, f"has the content of {proposal.source}"
        if proposal.is_live:
            publication.answer_unchanged(session, proposal, what)
            return 0
        approval = proposal.approve()
        publication.warn_of_fresh_start(session, proposal)
        against = f"generation {base.generation}, which is live" if base.head else "nothing"
        publication.show_changes(session, proposal, f"{proposal.source} against {against}")
        question = (
            f"Publish {proposal.source} again, as generation {base.next} to {proposal.place}?"
        )
        name = confirmed(session, proposal.place, question, yes=yes, name=confirm)
        session.deadline.changing("ratectl history")
        entry = replace(approval, confirmed=name).publish()
        if entry is None:
            publication.answer_unchanged(session, proposal, what)
        else:
            publication.answer_published(session, proposal, entry)
    return 0


__all__ = ["rollback"]
