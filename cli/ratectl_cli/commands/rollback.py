"""``ratectl rollback``."""

from typing import Annotated

import typer

from ratectl_cli.framework.session import session_of
from ratectl_cli.inputs.signing import Sign, key_of


def rollback(
    ctx: typer.Context,
    to: Annotated[
        int | None,
        typer.Option(
            "--to",
            metavar="GEN",
            min=1,
            help="Generation to publish again.  [default: the one before the live one, unless that "
            "is a rollback]",
        ),
    ] = None,
    message: Annotated[
        str, typer.Option("-m", "--message", metavar="MSG", help="Why, for the history.")
    ] = "",
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")] = False,
    sign: Sign = None,
) -> int:
    """Publish an earlier generation again.

    History is never rewritten: the old content, and who owned it, becomes a new generation. Shows
    what requests would notice, and asks. No guard refuses it: it is the way out. After a rollback,
    another one says where to (--to): the generation before is the one that was rolled back.

    Examples:
      ratectl rollback
      ratectl rollback --to 411 -m "checkout refuses too much" --yes

    Exit codes:
      0    published, or live already
      1    declined
      64   wrong arguments, no such generation, or nobody to ask and no --yes
      69   store unreachable
      75   somebody else published meanwhile, or tries a candidate
      77   there is no generation to go back to, or it was not signed by the key that is named; or
           what is live was not, or the one before was a candidate, and no generation is named
    """
    from ratectl.publishing.rollback import propose_rollback
    from ratectl_cli.prompts import publication
    from ratectl_cli.render.times import now_ns

    session = session_of(ctx)
    signer = key_of(sign)
    with session.store() as store:
        with session.busy("comparing with the live generation"):
            proposal = propose_rollback(store, to, message=message, signer=signer, now_ns=now_ns())
        publication.warn(session, proposal)
        base, what = proposal.base, f"has the content of {proposal.source}"
        if proposal.is_live:
            publication.answer_unchanged(session, proposal, what)
            return 0
        approval = proposal.approve()
        publication.warn_of_fresh_start(session, proposal)
        against = f"generation {base.generation}, which is live" if base.head else "nothing"
        publication.show_changes(session, proposal, f"{proposal.source} against {against}")
        session.confirm(f"Publish {proposal.source} again, as generation {base.next}?", yes=yes)
        session.deadline.changing("ratectl history")
        entry = approval.publish()
        if entry is None:
            publication.answer_unchanged(session, proposal, what)
        else:
            publication.answer_published(session, proposal, entry)
    return 0


__all__ = ["rollback"]
